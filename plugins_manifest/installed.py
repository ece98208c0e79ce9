"""Extensions that are installed, found by their entry points; nothing is imported before use."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from plugins_manifest.errors import UserError, unknown_name

Group = Literal["methods", "metrics", "families", "sources"]
_SINGULAR: dict[Group, str] = {
    "methods": "method",
    "metrics": "metric",
    "families": "family",
    "sources": "source",
}


@cache
def installed(group: Group) -> dict[str, EntryPoint]:
    """Return the entry points of group `xbench.<group>` by name; import none of them."""
    return {point.name: point for point in entry_points(group=f"xbench.{group}")}


def load_entry(group: Group, name: str) -> Any:
    """Import the object that an entry point names.

    Raises `UserError` with the nearest names for an unknown one, and if the import fails.
    """
    points = installed(group)
    if name not in points:
        raise UserError(unknown_name(_SINGULAR[group], name, points))
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{_SINGULAR[group]} {name!r} ({points[name].value}) cannot be imported: {error}; "
            "reinstall the package that provides it"
        ) from error
