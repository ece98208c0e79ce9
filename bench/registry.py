"""What is installed: methods, metrics, families and plugin sources, found by entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from bench.errors import UserError, unknown_name
from metrics.base import Metric, traits_of
from plugins_manifest.schema.manifest import KnownNames
from plugins_manifest.schema.references import NETWORK_SCHEMES
from runners.base import SAMPLERS, Method

Group = Literal["methods", "metrics", "detectors", "families", "sources"]
# conditions without a detector: their finished images come with the cases
_FINISHED_ONLY = (
    "color face inpaint keypose lineart-anime mlsd normal normalbae qrcode scribble shuffle sketch "
    "zoedepth"
)
# in a list of metrics: those of the plugins' conditions
CONDITION_METRICS = "condition"
_SINGULAR: dict[Group, str] = {
    "methods": "method",
    "metrics": "metric",
    "detectors": "detector",
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


def find_metric(name: str) -> Metric:
    """Return a metric; its entry point is an instance, or a callable that returns one."""
    found: Any = load_entry("metrics", name)
    metric: Metric = found() if callable(found) else found
    return metric


def metrics_of(condition: str) -> list[str]:
    """Return the names of the installed metrics of a condition, by rank."""
    known = {name: traits_of(find_metric(name)) for name in installed("metrics")}
    names = [name for name, traits in known.items() if traits.condition == condition]
    return sorted(names, key=lambda name: (known[name].rank, name))


def known_names() -> KnownNames:
    """Every name that a manifest may use, for the checks of `load_manifest`."""
    return {
        "family": tuple(installed("families")),
        "method": tuple(installed("methods")),
        "metric": (CONDITION_METRICS, *installed("metrics")),
        "detector": (*installed("detectors"), *_FINISHED_ONLY.split()),
        "sampler": tuple(SAMPLERS),
        "source": (*installed("sources"), *NETWORK_SCHEMES),
    }
