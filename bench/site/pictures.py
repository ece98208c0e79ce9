"""The pictures of a site: thumbnails as in a publication, named by content, each written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.errors import UserError
from bench.publish.pictures import LOSSLESS
from bench.site.folder import SiteFolder


@dataclass(frozen=True)
class SitePicture:
    """A written picture: the name of its file and its size."""

    name: str
    width_px: int
    height_px: int


class Pictures:
    """Writes thumbnails of a run's images into the folder of a site."""

    def __init__(self, folder: SiteFolder) -> None:
        self._folder = folder
        self._known: dict[str, SitePicture] = {}

    def written(self, load: Callable[[], np.ndarray], *, key: str) -> SitePicture | None:
        """Write an image, once for each `key`; return None if it cannot be read."""
        if key not in self._known:
            try:
                pixels = Image.fromarray(load())
            except UserError:
                return None
            content = LOSSLESS.encode(pixels)
            longest = max(pixels.size)
            name = self._folder.write_picture(content, "webp")
            self._known[key] = SitePicture(name, *_size(pixels.size, longest))
        return self._known[key]


def _size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size to reserve on a page: the proportions matter, not the pixels."""
    return round(256 * size[0] / longest), round(256 * size[1] / longest)
