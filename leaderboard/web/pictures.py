"""Serve pictures of runs read-only: /run-image/RUN/WHAT/TRIAL.

WHAT is `small` (WebP, at most 256 px), `full` or `condition`. An address names a trial, never a
file; file names come from the run's tables and are validated, so nothing outside the run is read.
"""

from __future__ import annotations

import base64
import io
from typing import Literal
from urllib.parse import quote

from PIL import Image
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from bench.errors import UserError
from bench.store.files import decode_image
from leaderboard.data import Run, current_runs, open_tables
from leaderboard.data.run_files import RunFiles
from leaderboard.pictures import Picture, PictureQueue, remembered
from leaderboard.ui import site_address

What = Literal["small", "full", "condition"]
IMAGE_ROUTE = "/run-image"
SMALL_PX = 256
_MAX_PIXELS = 4096 * 4096
_LOSSLESS_PIXELS = 128 * 128
_HEADERS = {
    "Cache-Control": "private, max-age=86400",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def picture_address(run: Run, what: What, trial_id: str, *, version: str | None = None) -> str:
    """Return the absolute address of a picture.

    `version` is the picture's sha256; without it the address changes whenever the run does.
    """
    path, query = picture_path(run, what, trial_id, version=version)
    return site_address(path, v=query)


def picture_path(
    run: Run, what: What, trial_id: str, *, version: str | None = None
) -> tuple[str, str]:
    """Return a picture's path inside of the site, and its version for the query."""
    parts = (IMAGE_ROUTE.lstrip("/"), quote(run.key, safe=""), what, quote(trial_id, safe=""))
    return "/".join(parts), version[:12] if version else f"{run.stamp:x}"[-12:]


def inline_picture(files: RunFiles, name: str) -> str | None:
    """Return a small picture of a run in progress as a data URL; None if it cannot be read.

    The picture's route reads the tables of a run, which change with every batch.
    """
    found = _small(files, name)
    if found is None:
        return None
    return f"data:{found.media_type};base64,{base64.b64encode(found.content).decode()}"


def picture_routes(queue: PictureQueue | None = None) -> list[Route]:
    """Return the route of the pictures; servers with several routes share a queue."""
    queue = queue or PictureQueue()

    async def picture(request: Request) -> ASGIApp:
        given = request.path_params
        is_large = given["what"] == "full"
        return queue.answer(lambda: read_picture(**given), _HEADERS, is_large=is_large)

    return [Route(IMAGE_ROUTE + "/{run}/{what}/{trial}", picture, methods=["GET"])]


def read_picture(run: str, what: str, trial: str) -> Picture | None:
    """Return a picture's content and media type; None if there is no such picture."""
    try:
        return _read_picture(run, what, trial)
    except UserError:  # the run was removed or changed since it was listed
        return None


def _read_picture(run: str, what: str, trial: str) -> Picture | None:
    home = current_runs().get(run)
    if home is None or what not in ("small", "full", "condition"):
        return None
    rows = open_tables(home).rows(
        "SELECT image, thumbnail, condition_path FROM images WHERE trial_id = ? LIMIT 1", [trial]
    )
    if not rows:
        return None
    image, thumbnail, condition = (rows[0][n] for n in ("image", "thumbnail", "condition_path"))
    if what == "condition":
        return _small(home.files, condition)
    if what == "small":
        return _small(home.files, thumbnail or image)
    return _whole(home.files, image or thumbnail)


def _small(files: RunFiles, name: str | None) -> Picture | None:
    """Re-encode a picture as WebP of at most `SMALL_PX`; the original bytes are never sent."""
    content = files.read(name) if name else None
    return remembered(content, "small", lambda: _webp(content)) if content else None


def _whole(files: RunFiles, name: str | None) -> Picture | None:
    """Re-encode a picture as PNG of the same size, without metadata."""
    content = files.read(name) if name else None
    return remembered(content, "full", lambda: _png(content)) if content else None


def _webp(content: bytes) -> Picture | None:
    picture = _decoded(content)
    if picture is None:
        return None
    picture.thumbnail((SMALL_PX, SMALL_PX))
    buffer = io.BytesIO()
    lossless = picture.width * picture.height <= _LOSSLESS_PIXELS
    picture.save(buffer, format="WEBP", quality=85, method=0, lossless=lossless)
    return Picture(buffer.getvalue(), "image/webp")


def _png(content: bytes) -> Picture | None:
    picture = _decoded(content)
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=3)
    return Picture(buffer.getvalue(), "image/png")


def _decoded(content: bytes) -> Image.Image | None:
    try:
        return Image.fromarray(decode_image(content, name="picture", max_pixels=_MAX_PIXELS))
    except UserError:
        return None
