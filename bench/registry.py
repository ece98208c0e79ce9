"""Installed methods and the names that a manifest may use."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import get_args

from bench.errors import UserError
from plugins_manifest.installed import installed, load_entry
from plugins_manifest.schema.manifest import KnownNames
from plugins_manifest.schema.references import NETWORK_SCHEMES
from plugins_manifest.schema.words import FINISHED_CONDITIONS, DetectorName
from runners.base import SAMPLERS, Marker, MethodStyle
from runners.protocols import Method

__all__ = [
    "CONDITIONS",
    "CONDITION_METRICS",
    "find_method",
    "installed",
    "known_names",
    "load_entry",
    "method_order",
    "method_style",
]

# in a list of metrics: all metrics of the plugins' conditions
CONDITION_METRICS = "condition"
CONDITIONS = (*get_args(DetectorName), *FINISHED_CONDITIONS)
_OTHER_ORDER = 85  # after every method with a plugin of the base model, before `floor`
_OTHER_COLORS = ("#D55E00", "#56B4E9", "#B8A800")
_OTHER_MARKERS: tuple[Marker, ...] = ("x", "pentagon", "hexagon")


@cache
def find_method(name: str) -> Method:
    """Return the installed method of a name; `UserError` with the nearest names if unknown."""
    return load_entry("methods", name)()


@lru_cache(maxsize=256)  # names of published runs are untrusted
def method_style(name: str) -> MethodStyle:
    """Return the style that a method declares, else one that depends on its name alone.

    Results of a method are shown where it is not installed, or where its module cannot be imported
    because torch is missing.
    """
    if name in installed("methods"):
        try:
            style = getattr(find_method(name), "style", None)
        except UserError:
            style = None
        if style is not None:
            return style
    number = zlib.crc32(name.encode())
    color = _OTHER_COLORS[number % len(_OTHER_COLORS)]
    marker = _OTHER_MARKERS[number // len(_OTHER_COLORS) % len(_OTHER_MARKERS)]
    return MethodStyle(_OTHER_ORDER, color, marker, "a method without a description")


def method_order(names: Iterable[str]) -> list[str]:
    """Return method names, each once, in the order of tables and legends."""
    return sorted(set(names), key=lambda name: (method_style(name).order, name))


def known_names() -> KnownNames:
    """Return every name that a manifest may use, for the checks of `load_manifest`."""
    return {
        "family": tuple(installed("families")),
        "method": tuple(installed("methods")),
        "metric": (CONDITION_METRICS, *installed("metrics")),
        "detector": CONDITIONS,
        "sampler": tuple(SAMPLERS),
        "source": (*installed("sources"), *NETWORK_SCHEMES),
    }
