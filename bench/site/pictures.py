"""The pictures of a site: thumbnails as in a publication, named by content, each written once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from bench.errors import UserError
from bench.publish.pictures import LOSSLESS
from bench.site.addresses import Addresses
from bench.site.examples import Example, Shot
from bench.site.folder import SiteFolder
from bench.site.views import Picture


class Pictures:
    """Writes thumbnails of a run's images into the folder of a site, and links to them."""

    def __init__(self, folder: SiteFolder, addresses: Addresses) -> None:
        self._folder, self._addresses = folder, addresses
        self._known: dict[str, tuple[str, int, int]] = {}  # name, width and height

    def picture(self, shot: Shot, *, page: str) -> Picture | None:
        """Write an image once; return its links, None if it cannot be read."""
        return self._written(shot.load, shot.key, page)

    def condition(self, example: Example, *, page: str) -> Picture | None:
        """Write the condition of an example once; return its links, None without one."""
        if example.load_condition is None:
            return None
        return self._written(example.load_condition, f"condition {example.shots[0].key}", page)

    def _written(self, load: Callable[[], np.ndarray], key: str, page: str) -> Picture | None:
        if key not in self._known:
            try:
                pixels = Image.fromarray(load())
            except UserError:
                return None
            name = self._folder.write_picture(LOSSLESS.encode(pixels), "webp")
            self._known[key] = (name, *_size(pixels.size, max(pixels.size)))
        name, width, height = self._known[key]
        link = self._addresses.link(name, page=page)
        return Picture(link, link, width, height)


def _size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size to reserve on a page: the proportions matter, not the pixels."""
    return round(256 * size[0] / longest), round(256 * size[1] / longest)
