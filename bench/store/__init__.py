"""The run directory, its tables and the image cache."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.store.files import read_image
    from bench.store.image_cache import ImageCache, cache_folder
    from bench.store.rows import Row, grouped, records
    from bench.store.run_store import RunStore, is_run
    from bench.store.schema import PUBLISHED, TABLES

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
_HOMES = {
    "files": ["read_image"],
    "image_cache": ["ImageCache", "cache_folder"],
    "rows": ["Row", "grouped", "records"],
    "run_store": ["RunStore", "is_run"],
    "schema": ["PUBLISHED", "TABLES"],
}
__getattr__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
