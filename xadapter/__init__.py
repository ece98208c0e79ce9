"""X-Adapter (arXiv 2312.02238): sampling and training on unmodified diffusers models.

Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xadapter.load import load_mapper
    from xadapter.mapper import Mapper
    from xadapter.pipeline import XAdapter
    from xadapter.solvers import shared_schedulers

__all__ = ["Mapper", "XAdapter", "load_mapper", "shared_schedulers"]

_HOMES = {
    "Mapper": "xadapter.mapper",
    "XAdapter": "xadapter.pipeline",
    "load_mapper": "xadapter.load",
    "shared_schedulers": "xadapter.solvers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
