"""Unexpected errors: one message, with the traceback in a file.

Imports only what every installation has: it also reports installations that are broken.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
import traceback
from pathlib import Path

from plugins_manifest.outputs import one_line, terminal
from plugins_manifest.redact import redact_text

_LONGEST = 300  # characters of an error's text in the message
_LONGEST_TRACEBACK = 200_000  # characters


def report_crash(error: BaseException) -> str:
    """Write the traceback into a file below the cache; return the message with its path.

    Where no file can be written, the message contains the traceback.
    """
    text = terminal(redact_text("".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]))
    try:
        place = f"the traceback is in {_write(text)}"
    except (OSError, ImportError, ValueError) as problem:
        place = (
            f"the traceback is below, since no file can be written ({one_line(problem)})\n{text}"
        )
    return f"Error: {_meaning(error)}; {place}"


def _meaning(error: BaseException) -> str:
    words = one_line(redact_text(str(error)), longest=_LONGEST)
    name = f"{type(error).__name__}: {words}" if words else type(error).__name__
    if isinstance(error, MemoryError):
        return f"memory ran out ({name}): close other programs, or use smaller sizes"
    if isinstance(error, ImportError):
        return f"a package cannot be imported ({name}): install xbench again"
    if isinstance(error, SystemExit):
        return f"a library ended the command ({name})"
    return f"xbench failed unexpectedly ({name}): please report it"


def _write(text: str) -> Path:
    folder = _cache_folder() / "crashes"
    folder.mkdir(parents=True, exist_ok=True)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = folder / f"crash-{moment}-{os.getpid()}-{secrets.token_hex(2)}.txt"
    header = terminal(redact_text(f"{' '.join(sys.argv)}\nPython {sys.version}\n\n"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    # only the user may read it: paths and prompts stand in it
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write(header + text)
    return path


def _cache_folder() -> Path:
    """Return the cache folder of `bench.store`, without importing what may be broken."""
    if named := os.environ.get("XBENCH_CACHE"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("xbench")
