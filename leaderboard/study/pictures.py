"""Pictures for raters: PNG without metadata, both pictures of a pair at the same size.

A base model's picture is smaller than an upgraded model's. Both are resized to the larger size, so
that neither the file nor the page reveals the method.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from bench.errors import UserError
from bench.store.files import decode_image, image_size
from leaderboard.data.run_files import RunFiles
from leaderboard.study.tasks import example_pictures
from leaderboard.study.votes import VotesDatabase

FilesOf = Callable[
    [str], RunFiles | None
]  # run id -> the run's pictures, None if the run is missing
N_EXAMPLES = 3
_MAX_PIXELS = 4096 * 4096
_PNG_COMPRESSION = 3


def study_picture(
    database: VotesDatabase, files_of: FilesOf, *, what: str, key: str
) -> bytes | None:
    """Return a picture, its condition or an example of its style as PNG; None if missing.

    `what` is `picture`, `condition` or `example-N`. Files outside the run are never read.
    """
    row = database.picture(key)
    files = files_of(row.run_id) if row is not None else None
    if row is None or files is None:
        return None
    pictures = database.pictures(row.study_id)
    if what == "condition":
        return _png(files, _condition(row, pictures), None)
    if what == "picture":
        return _png(files, row.image, _common_size(files, row, pictures))
    examples = example_pictures(pictures, row, n=N_EXAMPLES)
    names = [f"example-{n}" for n in range(len(examples))]
    return _png(files, examples[names.index(what)].image, None) if what in names else None


def _condition(row: Any, pictures: Sequence[Any]) -> str | None:
    """Return the condition of a scene, the same for all its pictures: the base model's, if any.

    Methods may have condition images of other sizes, which would reveal them.
    """
    found = [p for p in _scene(row, pictures) if p.condition_path is not None]
    best = min(found, key=lambda p: (p.method != "base", p.condition_path), default=None)
    return best.condition_path if best is not None else None


def _common_size(files: RunFiles, row: Any, pictures: Sequence[Any]) -> tuple[int, int]:
    """Return the largest width and height in px among the pictures of the plugin, case and seed."""
    sizes = [_size(files, p.image) for p in _scene(row, pictures)]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _scene(row: Any, pictures: Sequence[Any]) -> list[Any]:
    """Return the pictures of the same plugin, case and seed."""
    scene = (row.plugin, row.case_id, row.seed)
    return [p for p in pictures if (p.plugin, p.case_id, p.seed) == scene]


def _size(files: RunFiles, name: str) -> tuple[int, int]:
    try:
        return image_size(files.read(name) or b"", name="picture")
    except UserError:
        return 0, 0


def _png(files: RunFiles, name: str | None, size_px: tuple[int, int] | None) -> bytes | None:
    content = files.read(name) if name else None
    if content is None:
        return None
    try:
        pixels = Image.fromarray(decode_image(content, name="picture", max_pixels=_MAX_PIXELS))
    except UserError:
        return None
    if size_px is not None and pixels.size != size_px:
        pixels = pixels.resize(size_px, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    pixels.save(buffer, format="PNG", compress_level=_PNG_COMPRESSION)
    return buffer.getvalue()
