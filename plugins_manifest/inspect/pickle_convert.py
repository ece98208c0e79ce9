"""Pickled plugins become safetensors in a separate, locked-up process; never in this one.

The converter (unpickle_script.py) is started by path in isolated mode: no environment, an empty
home, no network, few rights. Its output is a stranger's file like any other and is read with the
same caps; the pickle is never opened again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.magic import PICKLED, sniff
from plugins_manifest.formats.parsed import Header, UnsafeFile

SCRIPT = Path(__file__).with_name("unpickle_script.py")
MAX_PICKLE_BYTES = 8 * 2**30
SECONDS = 300.0
_TOLD_BYTES = 600


def convert_pickle(source: Path, target: Path, *, seconds: float = SECONDS) -> Header:
    """Convert a pickled torch file to safetensors at `target` (replaced as a whole).

    Returns the header of the new file. Raises `UnsafeFile` where the file is no pickle, holds
    more than tensors, is refused by the converter, or takes too long; `target` is untouched then.
    """
    file_type = sniff(source)
    if file_type not in PICKLED:
        raise UnsafeFile(file_type, f"{source.name!a} is no pickled torch file: nothing to convert")
    if source.stat().st_size > MAX_PICKLE_BYTES:
        raise UnsafeFile("too-large", f"more than {MAX_PICKLE_BYTES} bytes are not converted")
    if os.name != "posix":
        raise _failed("this system cannot limit a process; convert it on Linux or macOS")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
        made = Path(folder) / "made.safetensors"
        _run(source, made, home=Path(folder), seconds=seconds)
        header = read_header(made)
        made.replace(target)
    return header


def _run(source: Path, made: Path, *, home: Path, seconds: float) -> None:
    told = home / "told.txt"
    environment = {"HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
    with source.open("rb") as stdin, made.open("wb") as stdout, told.open("wb") as stderr:
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(SCRIPT)],
                check=False,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=home,
                env=environment,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise _failed(f"it took more than {seconds:.0f} seconds") from error
    if done.returncode:
        raise _failed(_last_words(told) or f"the converter ended with {done.returncode}")


def _last_words(told: Path) -> str:
    """The end of what the converter said, as printable ASCII."""
    with told.open("rb") as file:
        file.seek(max(0, told.stat().st_size - _TOLD_BYTES))
        lines = file.read(_TOLD_BYTES).decode("ascii", "replace").split("\n")
    words = [line for line in lines if line.strip()]
    return ascii(words[-1])[1:-1] if words else ""


def _failed(why: str) -> UnsafeFile:
    return UnsafeFile(
        "conversion-failed",
        f"the pickle was not converted: {why}; ask for a safetensors version of the plugin",
    )
