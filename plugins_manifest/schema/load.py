"""Parse manifests: every problem at once, each with its file and line."""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from plugins_manifest.documents import Place, parse_yaml_lines, read_content
from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.schema.manifest import KnownNames, Manifest
from plugins_manifest.schema.messages import dotted, explain, value_suffix
from plugins_manifest.schema.plugins import problems_between

_MOST_PROBLEMS = 100  # of each check
_LONGEST = 500  # characters of a problem
SHIPPED = Path(__file__).parents[1] / "manifests"


def shipped_manifests() -> dict[str, Path]:
    """Return name -> file of the manifests that come with the project."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find_manifest(name_or_path: str | Path) -> Path:
    """Resolve a shipped name or a path to a file; `UserError` names the nearest."""
    path = Path(name_or_path)
    shipped = shipped_manifests()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise UserError(f"there is no manifest file {str(path)!r}: check the path")
    raise UserError(unknown_name("manifest", str(path), shipped) + ", or give a file's path")


def load_manifest(name_or_path: str | Path, *, known: KnownNames | None = None) -> Manifest:
    """Read and validate a manifest; `known` adds checks of method, metric and family names.

    Raises one `UserError` that lists every problem with file and line.
    """
    path = find_manifest(name_or_path)
    return parse_manifest(read_content(path, name=path.name), path, known=known)


def parse_manifest(
    content: bytes | str, path: Path, *, known: KnownNames | None = None
) -> Manifest:
    """Validate a manifest's text; `path` names the file in messages and anchors relative paths."""
    document = parse_yaml_lines(content, name=path.name)
    data, lines, found = document.data, document.lines, list(document.problems)
    if not isinstance(data, dict):
        raise UserError(f"{path.name} is not a manifest: it must be a mapping with 'schema: 1'")
    manifest, problems = check_manifest(data, known=known)
    found += [(_line_of(place, lines), text) for place, text in problems]
    if manifest is not None and not found:
        return manifest.attach_path(path.resolve())
    found.sort(key=lambda one: one[0])
    shown = [
        (line, f"{text[:_LONGEST]}..." if len(text) > _LONGEST else text) for line, text in found
    ]
    raise UserError.collect([f"{path.name}:{line}: {text}" for line, text in shown])


def check_manifest(
    data: dict[Any, Any], *, known: KnownNames | None = None
) -> tuple[Manifest | None, list[tuple[Place, str]]]:
    """Validate a manifest's data; return it, or None and each problem with its place."""
    try:
        return Manifest.model_validate(data, context={"known": known or {}}), []
    except ValidationError as error:
        problems = error.errors()
    places = [problem["loc"] for problem in problems]
    inner = {place[:i] for place in places for i in range(1, len(place))}
    found: list[tuple[Place, str]] = [
        (problem["loc"], explain(problem, data))
        for problem in problems[:_MOST_PROBLEMS]
        if not _is_reported_elsewhere(problem, inner)
    ]
    for place, message, value in islice(problems_between(data), _MOST_PROBLEMS):
        found.append((place, f"{dotted(place, data)}: {message}{value_suffix(value, message)}"))
    return None, found


def _line_of(loc: Place, lines: Mapping[Place, int]) -> int:
    """Return the line of an error's place, skipping parts that are not keys of the text."""
    place: Place = ()
    for part in loc:
        if (*place, part) in lines:
            place = (*place, part)
    return lines[place]


def _is_reported_elsewhere(problem: Any, inner: Set[Place]) -> bool:
    """Return whether a list only lacks its invalid items, or `problems_between` reports it.

    `inner` are the places with a problem below them.
    """
    place = problem["loc"]
    if problem["type"] == "too_short":
        return place in inner
    is_of_plugin = len(place) == 2 and place[0] == "plugins"
    return not place or (is_of_plugin and problem["type"] == "value_error")
