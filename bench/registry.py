"""What is installed: methods, metrics, families and plugin sources, found by entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from bench.errors import UserError, unknown_name
from plugins_manifest.schema.manifest import KnownNames
from plugins_manifest.schema.references import NETWORK_SCHEMES
from plugins_manifest.schema.words import FINISHED_CONDITIONS, DetectorName
from runners.base import SAMPLERS, Method

Group = Literal["methods", "metrics", "families", "sources"]
# in a list of metrics: those that ask whether the plugins' conditions are found again
CONDITION_METRICS = "condition"
CONDITIONS = (*get_args(DetectorName), *FINISHED_CONDITIONS)
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
        "source": (*installed("sources"), *NETWORK_SCHEMES),
    }
