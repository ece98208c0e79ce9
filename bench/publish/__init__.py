"""Publish runs to a store that the leaderboard reads from anywhere; `format` describes it."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.publish.base import StoreLocation as StoreLocation
    from bench.publish.base import UnreachableError as UnreachableError
    from bench.publish.locations import is_remote as is_remote
    from bench.publish.locations import local_folder as local_folder
    from bench.publish.locations import open_location as open_location
    from bench.publish.publish import Publication as Publication
    from bench.publish.publish import publish_run as publish_run

_HOMES = {
    "Publication": "bench.publish.publish",
    "publish_run": "bench.publish.publish",
    "StoreLocation": "bench.publish.base",
    "UnreachableError": "bench.publish.base",
    "open_location": "bench.publish.locations",
    "is_remote": "bench.publish.locations",
    "local_folder": "bench.publish.locations",
}
__all__ = [
    "Publication",
    "StoreLocation",
    "UnreachableError",
    "is_remote",
    "local_folder",
    "open_location",
    "publish_run",
]
__getattr__ = lazy_names(__name__, _HOMES)
