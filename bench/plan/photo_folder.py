"""Condition images of a folder of photos, as people have them: `xbench conditions`.

Photos that cannot be used are reported and the others are converted. The output folder has an
index of what was written into it, so that nothing else is ever overwritten; a manifest reads both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.plan.conditions import Detector, cover, find_detector
from bench.store.files import png_bytes, sha256_of, write_bytes, write_json
from plugins_manifest.cases.finished import INDEX, read_index
from plugins_manifest.folders import refuse_overlap
from plugins_manifest.images import MAX_PIXELS, SUFFIXES, is_one_color, load_image

_FORMAT = 1


@dataclass(frozen=True)
class Converted:
    """A photo and its condition image, or why there is none; `remarks` are about the photo."""

    photo: Path
    image: Path | None = None
    problem: str | None = None
    remarks: tuple[str, ...] = ()


def convert_folder(
    photos: Path, out: Path, *, detector: str, size_px: tuple[int, int]
) -> Iterator[Converted]:
    """Make `out/NAME.png` of every photo NAME in a folder; yield what became of each.

    Files whose names begin with a dot, and other files than images, are skipped. Raises `UserError`
    for an unknown detector, a folder without photos, and an output folder that is no good.
    """
    detect = find_detector(detector, family="photos")
    found = _photos(photos)
    refuse_overlap(out, [photos])
    index = _open_index(out, detector, size_px)
    written: dict[str, str] = index["images"]
    shared = Counter(photo.stem.lower() for photo in found)
    try:
        for photo in found:
            if shared[photo.stem.lower()] > 1:
                twins = [p.name for p in found if p.stem.lower() == photo.stem.lower()]
                yield Converted(
                    photo,
                    problem=f"{' and '.join(twins)} would both become {photo.stem}.png: rename "
                    "all but one",
                )
                continue
            yield _convert(photo, out / f"{photo.stem}.png", detect, size_px, written)
    finally:
        if written:
            write_json(out / INDEX, index)


def _photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {shown_path(folder)}: check the path")
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"{shown_path(folder)} cannot be read ({error.strerror}): check its rights"
        ) from error
    found = [
        path
        for path in listed
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]
    if not found:
        raise UserError(f"{shown_path(folder)} holds no photo ({', '.join(SUFFIXES)})")
    return found


def _open_index(out: Path, detector: str, size_px: tuple[int, int]) -> dict[str, Any]:
    index = read_index(out)
    if index and (index["condition"], index.get("size")) != (detector, list(size_px)):
        raise UserError(
            f"{shown_path(out)} holds {index['condition']} images of {index.get('size')} px: "
            "choose another --out"
        )
    if not index and (out / INDEX).exists():
        raise UserError(
            f"{shown_path(out / INDEX)} is not an index of condition images: choose another --out"
        )
    return index or {
        "format": _FORMAT,
        "condition": detector,
        "size": list(size_px),
        "images": {},
    }


def _convert(
    photo: Path, path: Path, detect: Detector, size_px: tuple[int, int], written: dict[str, str]
) -> Converted:
    try:
        decoded = load_image(photo)
        picture = cover(decoded.pixels, size_px)
    except UserError as error:
        return Converted(photo, problem=str(error))
    found = detect(picture)
    content = png_bytes(found)
    sha256 = sha256_of(content)
    if path.is_symlink() or path.exists():
        kept = sha256_of(path.read_bytes()) if path.is_file() else None
        if kept is None or kept not in (sha256, written.get(path.name)):
            return Converted(
                photo,
                problem=f"{shown_path(path)} exists and was not written by this command: move it, "
                "or choose another --out",
            )
    write_bytes(path, content)
    written[path.name] = sha256
    blank = ("its condition image is a blank sheet of one color",) if is_one_color(found) else ()
    return Converted(photo, image=path, remarks=(*decoded.remarks, *blank))


def parse_size(text: str) -> tuple[int, int]:
    """Parse (width, height) in px from a text like 512x512; `UserError` for anything else."""
    sides = text.lower().split("x")
    if len(sides) == 2 and all(side.isascii() and side.isdigit() for side in sides):
        width_px, height_px = (int(side[:10]) for side in sides)
        if width_px * height_px > MAX_PIXELS:
            raise UserError(f"--size is {text!r}: the most is {MAX_PIXELS / 1e6:.0f} megapixels")
        if width_px and height_px:
            return width_px, height_px
    raise UserError(f"--size is {text!r}: write it as WIDTHxHEIGHT, e.g. 512x512")
