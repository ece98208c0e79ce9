"""Pickles and files that pretend to be weights: nothing of them is executed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from plugins_manifest.inspect import inspect_file
from tests.faults.base import Fault, Kind

_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".SafeTensors")


class _Opens:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (self.path, os.O_CREAT | os.O_WRONLY)


def _pickled(mark: Path, protocol: int, *, zipped: bool) -> bytes:
    content = pickle.dumps({"lora": _Opens(str(mark))}, protocol=protocol)
    if not zipped:
        return content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


def _provoke(folder: Path, *, ending: str, protocol: int, zipped: bool, prefix: bytes) -> None:
    mark, path = folder / "was-run", folder / f"plugin{ending}"
    path.write_bytes(prefix + _pickled(mark, protocol, zipped=zipped))
    found = inspect_file(path)
    assert found.verdict in {"unsafe", "broken"}, found.verdict
    assert not mark.exists(), "the pickle was executed"


def _faults(rng: Random) -> Iterator[Fault]:
    while True:
        ending, protocol = rng.choice(_ENDINGS), rng.randint(0, 5)
        zipped, junk = rng.random() < 0.5, rng.choice((0, 0, 1, 8, 512))
        name = f"{ending}, protocol {protocol}, {'zip' if zipped else 'plain'}, {junk} bytes before"
        make = partial(
            _provoke, ending=ending, protocol=protocol, zipped=zipped, prefix=rng.randbytes(junk)
        )
        yield Fault(name, make)


KIND = Kind("pickles", "C messages", "no pickle is executed", _faults)
