"""What may be kept as weights: judged by its first bytes, and whole before it gets its name."""

from __future__ import annotations

from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.fetch_errors import FetchCode, FetchError
from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.magic import PICKLED, sniff_bytes
from plugins_manifest.formats.reasons import UNSAFE

_UNKNOWN_SIZE_BYTES = 32 << 30
_NO: FetchCode = "not-a-plugin"
_PICKLE_HINT = (
    "; download it yourself, run: xbench plugins convert FILE NEW, and give the new file's path "
    "as the source"
)


def check_start(start: bytes, total: int | None, *, what: str) -> None:
    """Look at a file's first bytes before any is written; `FetchError` for what is no weights."""
    kind = sniff_bytes(start, _UNKNOWN_SIZE_BYTES if total is None else total)
    if kind != "safetensors":
        raise FetchError(f"{what}: {UNSAFE[kind]}{_PICKLE_HINT * (kind in PICKLED)}", code=_NO)


def check_file(path: Path, *, what: str) -> None:
    """Read a whole file's header as a loader would; `FetchError` for what is no safetensors."""
    try:
        read_header(path)
    except UserError as error:
        raise FetchError(f"{what}: {error}", code=_NO) from error
