"""Extensions that are installed, found by their entry points; nothing is imported before use.

Code of other packages runs inside `extension_errors`: whatever it raises is one `UserError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any, Literal

from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.extras import missing_extra
from plugins_manifest.memory import is_out_of_memory, memory_explained
from plugins_manifest.text import first_line

Group = Literal[
    "methods", "metrics", "detectors", "families", "sources", "formulas", "pages", "mappers"
]
_SINGULAR: dict[Group, str] = {
    "methods": "method",
    "metrics": "metric",
    "detectors": "detector",
    "families": "family",
    "sources": "source",
    "formulas": "formula",
    "pages": "page",
    "mappers": "mapper",
}


class ExtensionError(UserError):
    """Code of an extension that cannot be imported, raised an error, or broke its contract."""


@contextmanager
def extension_errors(what: str, failure: str) -> Iterator[None]:
    """Raise every error of an extension, and its attempt to exit, as `ExtensionError`.

    The message begins with both arguments, as in "family 'mine'" and "cannot be loaded". A
    `UserError` and an interruption pass.
    """
    try:
        with memory_explained(what):
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if (missing := missing_extra(error)) is not None:
            raise missing from error
        raise ExtensionError(
            f"{what} {failure}: {describe_error(error)}; update or reinstall the package that "
            "provides it"
        ) from error


def require_contract(group: Group, name: str, extension: object, contract: type) -> None:
    """Raise `ExtensionError` unless an extension has its entry point's name and all members.

    Members are the public attributes and methods of a Protocol, or of a class.
    """
    if (own := getattr(extension, "name", name)) != name:
        raise ExtensionError(
            f"{describe_entry(group, name)} has the name {own!r}, which must be that of its entry "
            "point: rename one of them"
        )
    require_members(group, name, extension, contract)


def require_members(group: Group, name: str, extension: object, contract: type) -> None:
    """Raise `ExtensionError` that lists the members of a contract which an extension lacks."""
    if missing := missing_members(extension, contract):
        package = _owner(installed(group)[name])
        raise ExtensionError(
            f"{describe_entry(group, name)} lacks {', '.join(missing)}, as every "
            f"{_SINGULAR[group]} has: add it, or update or uninstall {package}"
        )


def missing_members(extension: object, contract: type) -> list[str]:
    """Return the members of a contract that an object lacks; methods have parentheses.

    What a class inherits from a Protocol is only its declaration: it is missing too.
    """
    is_protocol = getattr(contract, "_is_protocol", False)
    missing = []
    for member, is_method in _members(contract).items():
        value = getattr(extension, member, None)
        declared = inspect.getattr_static(contract, member, None) if is_protocol else None
        own = inspect.getattr_static(extension, member, None)
        if not hasattr(extension, member) or (declared is not None and own is declared):
            missing.append(f"{member}()" if is_method else member)
        elif is_method and not callable(value):
            missing.append(f"a callable {member}()")
    return missing


@cache
def _members(contract: type) -> dict[str, bool]:
    """Map the public members of a contract to whether they are methods."""
    found: dict[str, bool] = {}
    for kind in reversed(contract.__mro__):
        found |= dict.fromkeys(inspect.get_annotations(kind), False)
        found |= {name: inspect.isfunction(value) for name, value in vars(kind).items()}
    return {name: is_method for name, is_method in found.items() if not name.startswith("_")}


def describe_error(error: BaseException) -> str:
    """Return the type and the first line of an error, for a row or a message."""
    if isinstance(error, SystemExit):
        return f"SystemExit: it tried to end the process with code {error.code!r}"
    text = first_line(error) if str(error).strip() else "no message"
    if is_out_of_memory(error):
        return f"{type(error).__name__}: not enough memory ({text})"
    return f"{type(error).__name__}: {text}"


class EntryPoints(dict[str, EntryPoint]):
    """The entry points of a group by name, and the names that several packages provide."""

    def __init__(self, points: Iterable[EntryPoint]) -> None:
        super().__init__()
        self.owners: dict[str, list[str]] = {}
        for point in points:
            self.setdefault(point.name, point)
            self.owners.setdefault(point.name, []).append(owner_of(point))


@cache
def installed(group: Group) -> EntryPoints:
    """Return the entry points of group `xbench.<group>` by name; import none of them."""
    return EntryPoints(entry_points(group=f"xbench.{group}"))


def owner_of(point: EntryPoint) -> str:
    """Return name and version of the package that provides an entry point, and its object."""
    return f"{_owner(point)} ({point.value})"


def _owner(point: EntryPoint) -> str:
    return "a package without metadata" if point.dist is None else _name_of(point.dist)


@cache  # each property of a distribution parses its metadata again
def _name_of(dist: Distribution) -> str:
    return f"{dist.name} {dist.version}"


def describe_entry(group: Group, name: str) -> str:
    """Return how a message names an installed extension: with its package and object."""
    return f"{_SINGULAR[group]} {name!r} of {owner_of(installed(group)[name])}"


_TOOK_PART: dict[tuple[Group, str], EntryPoint] = {}


def load_entry(
    group: Group, name: str, *, contract: type | None = None, takes_part: bool = True
) -> Any:
    """Import the object that an entry point names.

    Raises `UserError` with the nearest names for an unknown one, for a name that several packages
    provide, if the import fails, and for an object without the members of the `contract`.
    `takes_part` False: only its traits are read.
    """
    points = installed(group)
    if name not in points:
        raise UserError(unknown_name(_SINGULAR[group], name, points))
    point, what = points[name], f"{_SINGULAR[group]} {name!r}"
    if len(owners := points.owners[name]) > 1:
        raise ExtensionError(
            f"{what} is provided by {' and by '.join(sorted(owners))}: uninstall one of them"
        )
    with extension_errors(describe_entry(group, name), "cannot be imported"):
        found = point.load()
    if contract is not None:
        require_contract(group, name, found, contract)
    if takes_part:
        _TOOK_PART[group, name] = point
    return found


def distributions() -> list[dict[str, Any]]:
    """Return name, version and extensions of every package that took part in this process."""
    found: dict[tuple[str, str], list[str]] = {}
    for (group, name), point in sorted(_TOOK_PART.items()):
        dist = point.dist
        key = ("unknown", "unknown") if dist is None else (dist.name, dist.version)
        found.setdefault(key, []).append(f"{group}: {name}")
    return [
        {"name": name, "version": version, "extensions": extensions}
        for (name, version), extensions in sorted(found.items())
    ]
