"""Damage a file as disks, copies and people do; shared by several kinds of faults."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

Damage = Callable[[Path, Random], None]


def _cut(path: Path, rng: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def _flip(path: Path, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _zero(path: Path, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    first = rng.randrange(len(content))
    last = rng.randint(first + 1, len(content))
    content[first:last] = bytes(last - first)
    path.write_bytes(bytes(content) if content != path.read_bytes() else b"")


def _append(path: Path, rng: Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 4096)))


def _empty(path: Path, rng: Random) -> None:
    path.write_bytes(b"")


def _garbage(path: Path, rng: Random) -> None:
    path.write_bytes(rng.randbytes(rng.randint(1, 4096)))


def _delete(path: Path, rng: Random) -> None:
    path.unlink()


def _folder(path: Path, rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path, rng: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _loop(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _device(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES: Mapping[str, Damage] = {
    "cut off": _cut,
    "one bit flipped": _flip,
    "zeros inside": _zero,
    "bytes appended": _append,
    "empty": _empty,
    "garbage": _garbage,
    "deleted": _delete,
    "a folder": _folder,
    "a FIFO": _fifo,
    "a dangling link": _dangling,
    "a link to itself": _loop,
    "a link to a device": _device,
}


def swap(first: Path, second: Path) -> None:
    """Exchange the contents of two files."""
    keep = first.with_name("kept")
    shutil.copyfile(first, keep)
    shutil.copyfile(second, first)
    keep.replace(second)
