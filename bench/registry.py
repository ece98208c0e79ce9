"""What is installed: methods, metrics, families and plugin sources, found by entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from bench.errors import UserError, unknown_name
from plugins_manifest.schema.manifest import KnownNames
from runners.base import SAMPLERS, Method

Group = Literal["methods", "metrics", "families", "sources"]
DETECTORS = ("canny", "mask", "tile")  # that need no weights
# made where their networks' weights are (metrics/condition/detectors.py); else the images come
# with the cases
_BY_NETWORK = ("depth", "hed", "lineart", "openpose", "seg", "softedge")
# of these the finished images always come with the cases
_FINISHED_ONLY = (
    "color face inpaint keypose lineart-anime mlsd normal normalbae qrcode scribble shuffle sketch "
    "zoedepth"
)
# in a list of metrics: those that ask whether the plugins' conditions are found again
CONDITION_METRICS = "condition"
CONDITIONS = (*DETECTORS, *_BY_NETWORK, *_FINISHED_ONLY.split())
_SINGULAR: dict[Group, str] = {
    "methods": "method",
    "metrics": "metric",
    "families": "family",
    "sources": "source",
}


@cache
def installed(group: Group) -> dict[str, EntryPoint]:
    """Name -> entry point of group `xbench.<group>`; nothing is imported."""
    return {point.name: point for point in entry_points(group=f"xbench.{group}")}


def load_entry(group: Group, name: str) -> Any:
    """The object an entry point names; `UserError` with the nearest names, or if it is broken."""
    points = installed(group)
    if name not in points:
        raise UserError(unknown_name(_SINGULAR[group], name, points))
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{_SINGULAR[group]} {name!r} ({points[name].value}) cannot be imported: {error}; "
            "reinstall the package that brings it"
        ) from error


@cache
def find_method(name: str) -> Method:
    """A method and its traits."""
    return load_entry("methods", name)()


def known_names() -> KnownNames:
    """Every name that a manifest may use, for the checks of `load_manifest`."""
    return {
        "family": tuple(installed("families")),
        "method": tuple(installed("methods")),
        "metric": (CONDITION_METRICS, *installed("metrics")),
        "detector": CONDITIONS,
        "sampler": tuple(SAMPLERS),
        "source": tuple(installed("sources")),
    }
