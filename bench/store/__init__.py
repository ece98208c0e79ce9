"""The run directory, its tables and the image cache."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.store.files import read_image as read_image
    from bench.store.image_cache import ImageCache as ImageCache
    from bench.store.image_cache import cache_folder as cache_folder
    from bench.store.rows import Row as Row
    from bench.store.rows import grouped as grouped
    from bench.store.rows import records as records
    from bench.store.run_store import RunStore as RunStore
    from bench.store.run_store import is_run as is_run
    from bench.store.schema import PUBLISHED as PUBLISHED
    from bench.store.schema import TABLES as TABLES

_HOMES = {
    "ImageCache": "bench.store.image_cache",
    "cache_folder": "bench.store.image_cache",
    "RunStore": "bench.store.run_store",
    "is_run": "bench.store.run_store",
    "TABLES": "bench.store.schema",
    "PUBLISHED": "bench.store.schema",
    "Row": "bench.store.rows",
    "grouped": "bench.store.rows",
    "records": "bench.store.rows",
    "read_image": "bench.store.files",
}
__all__ = [
    "ImageCache",
    "PUBLISHED",
    "Row",
    "RunStore",
    "TABLES",
    "cache_folder",
    "grouped",
    "is_run",
    "read_image",
    "records",
]
__getattr__ = lazy_names(__name__, _HOMES)
