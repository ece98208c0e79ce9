"""Publish runs to a store that the leaderboard reads from anywhere; `format` describes it."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.publish.base import StoreLocation, UnreachableError
    from bench.publish.download import download_images, download_run, parse_address
    from bench.publish.locations import is_remote, local_folder, open_location
    from bench.publish.publish import Publication, publish_run

__all__ = [
    "Publication",
    "StoreLocation",
    "UnreachableError",
    "download_images",
    "download_run",
    "is_remote",
    "local_folder",
    "open_location",
    "parse_address",
    "publish_run",
]
_HOMES = {
    "base": ["StoreLocation", "UnreachableError"],
    "download": ["download_images", "download_run", "parse_address"],
    "locations": ["is_remote", "local_folder", "open_location"],
    "publish": ["Publication", "publish_run"],
}
__getattr__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
