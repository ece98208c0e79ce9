"""X-Adapter (arXiv 2312.02238): sampling and training on unmodified diffusers models.

A name's module is imported when the name is used. `python -m xadapter.reference` is the method on
one page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from xadapter.errors import XAdapterError
    from xadapter.load import load_mapper
    from xadapter.mapper import Mapper
    from xadapter.pipeline import XAdapter
    from xadapter.solvers import shared_schedulers
    from xadapter.train import train_mapper
    from xadapter.train_settings import TrainSettings

__all__ = [
    "Mapper",
    "TrainSettings",
    "XAdapter",
    "XAdapterError",
    "load_mapper",
    "shared_schedulers",
    "train_mapper",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Mapper": "xadapter.mapper",
        "TrainSettings": "xadapter.train_settings",
        "XAdapter": "xadapter.pipeline",
        "XAdapterError": "xadapter.errors",
        "load_mapper": "xadapter.load",
        "shared_schedulers": "xadapter.solvers",
        "train_mapper": "xadapter.train",
    },
)
