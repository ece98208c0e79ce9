"""What an architecture of mappers is made of, for group `xbench.mappers`."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names
from xadapter.kinds import Architecture, MapperKind

if TYPE_CHECKING:
    from xadapter.load import load_mapper, save_mapper
    from xadapter.sites import check_fit, site_shapes

__all__ = [
    "Architecture",
    "MapperKind",
    "check_fit",
    "load_mapper",
    "save_mapper",
    "site_shapes",
]

__getattr__ = lazy_names(
    __name__,
    {
        "check_fit": "xadapter.sites",
        "load_mapper": "xadapter.load",
        "save_mapper": "xadapter.load",
        "site_shapes": "xadapter.sites",
    },
)
