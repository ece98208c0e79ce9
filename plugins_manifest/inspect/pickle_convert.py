"""Convert pickled plugins to safetensors in a separate, sandboxed process.

The converter (unpickle_script.py) is started by path in isolated mode: no environment, an empty
home, no network, few rights. Its output is as untrusted as any other file and is read with the
same caps; the pickle is never opened again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from plugins_manifest.files import move_into_place
from plugins_manifest.formats import Header, UnsafeFile, read_header
from plugins_manifest.formats.magic import PICKLED, sniff

SCRIPT = Path(__file__).with_name("unpickle_script.py")
MAX_PICKLE_BYTES = 8 * 2**30
SECONDS = 300.0
_LOG_BYTES = 600


def convert_pickle(source: Path, target: Path, *, seconds: float = SECONDS) -> Header:
    """Convert a pickled torch file to safetensors at `target` (replaced as a whole).

    Returns the header of the new file. Raises `UnsafeFile`, with `target` unchanged, if the
    file is not a pickle, holds more than tensors, is refused by the converter, or takes too long.
    """
    file_type = sniff(source)
    if file_type not in PICKLED:
        raise UnsafeFile(
            file_type, f"{source.name!a} is not a pickled torch file: nothing to convert"
        )
    if source.stat().st_size > MAX_PICKLE_BYTES:
        raise UnsafeFile("too-large", f"more than {MAX_PICKLE_BYTES} bytes are not converted")
    if os.name != "posix":
        raise _failed("this system cannot limit a process; convert it on Linux or macOS")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as folder:
        output = Path(folder) / "made.safetensors"
        _run(source, output, home=Path(folder), seconds=seconds)
        header = read_header(output)
        move_into_place(output, target)
    return header


def _run(source: Path, output: Path, *, home: Path, seconds: float) -> None:
    log = home / "log.txt"
    environment = {"HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
    with source.open("rb") as stdin, output.open("wb") as stdout, log.open("wb") as stderr:
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
        raise _failed(_last_line(log) or f"the converter ended with {done.returncode}")


def _last_line(log: Path) -> str:
    """Return the last line of the converter's log, as printable ASCII."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        lines = file.read(_LOG_BYTES).decode("ascii", "replace").split("\n")
    lines = [line for line in lines if line.strip()]
    return ascii(lines[-1])[1:-1] if lines else ""


def _failed(why: str) -> UnsafeFile:
    return UnsafeFile(
        "conversion-failed",
        f"the pickle was not converted: {why}; ask for a safetensors version of the plugin",
    )
