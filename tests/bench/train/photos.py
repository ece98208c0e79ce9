"""Folders, shards and tables of small captioned pictures."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def photo(number: int, size: tuple[int, int] = (128, 128), *, kind: str = "JPEG") -> bytes:
    """Return the file of a picture of its own color, (width, height) px."""
    pixels = np.full((size[1], size[0], 3), (number * 37 % 256, number % 256, 128), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def write_folder(folder: Path, photos: Mapping[str, bytes], *, captions: bool = True) -> Path:
    """Write pictures by their names, each with a caption beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in photos.items():
        (folder / name).write_bytes(content)
        if captions:
            (folder / name).with_suffix(".txt").write_text(f"a picture {name}\n")
    return folder


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Write a tar file with Python's default format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def recipe_file(folder: Path, data: Mapping[str, object], **more: object) -> Path:
    """Write a recipe for pocket that trains on `data` for a few steps."""
    recipe = {
        "schema": 1,
        "name": "mine",
        "family": "pocket",
        "size": 128,
        "data": dict(data),
        "objective": {"weighting": "paper"},
        "optimizer": {"batch": 2},
        "schedule": {"steps": 3},
        "log": {"every": 1},
        **more,
    }
    path = folder / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path
