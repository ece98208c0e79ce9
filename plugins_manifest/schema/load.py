"""Parse manifests: every problem at once, each with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.schema.manifest import KnownNames, Manifest
from plugins_manifest.schema.messages import Place, dotted, explain, value_suffix
from plugins_manifest.schema.plugins import problems_between

SHIPPED = Path(__file__).parents[1] / "manifests"
_MAX_DEPTH, _MAX_NODES = 32, 200_000


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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} cannot be read: {error}") from error
    return parse_manifest(text, path, known=known)


def parse_manifest(text: str, path: Path, *, known: KnownNames | None = None) -> Manifest:
    """Validate a manifest's text; `path` names the file in messages and anchors relative paths."""
    lines: dict[Place, int] = {}
    found: list[tuple[int, str]] = []
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path.name} is not valid YAML: {_one_line(error)}") from error
    if node is None or not isinstance(data, dict):
        raise UserError(f"{path.name} is not a manifest: it must be a mapping with 'schema: 1'")
    if not _record_lines(node, (), lines, found):
        raise UserError(
            f"{path.name} is too deep or too large (over {_MAX_DEPTH} levels or {_MAX_NODES:,} "
            "entries): write long lists of cases into a file of their own, without YAML aliases"
        )
    try:
        manifest = Manifest.model_validate(data, context={"known": known or {}})
    except ValidationError as error:
        for problem in error.errors():
            if _is_reported_elsewhere(problem, error):
                continue
            found.append((_line_of(problem["loc"], lines), explain(problem, data)))
        for place, message, value in problems_between(data):
            text = f"{dotted(place, data)}: {message}{value_suffix(value, message)}"
            found.append((_line_of(place, lines), text))
    else:
        if not found:
            return manifest.attach_path(path.resolve())
    found.sort(key=lambda one: one[0])
    raise UserError.collect([f"{path.name}:{line}: {text}" for line, text in found])


def _record_lines(
    node: yaml.Node, place: Place, lines: dict[Place, int], found: list[tuple[int, str]]
) -> bool:
    """Record the line of every key and item, and report duplicate keys.

    Returns False for more levels or entries (aliases expanded) than any manifest needs.
    """
    if len(place) > _MAX_DEPTH or len(lines) > _MAX_NODES:
        return False
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return all(_record_lines(item, (*place, i), lines, found) for i, item in items)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner, line = (*place, key.value), key.start_mark.line + 1
            if not isinstance(key.value, str):
                found.append((line, "a key is not text: write KEY: VALUE"))
            elif inner in lines:
                text = f"the key {key.value!r} comes twice: the first is in line {lines[inner]}"
                found.append((line, f"{text}, remove one"))
            else:
                lines[inner] = line
                if not _record_lines(value, inner, lines, found):
                    return False
    return True


def _line_of(loc: Place, lines: dict[Place, int]) -> int:
    """Return the line of an error's place, skipping parts that are not keys of the text."""
    place: Place = ()
    for part in loc:
        if (*place, part) in lines:
            place = (*place, part)
    return lines[place]


def _is_reported_elsewhere(problem: Any, error: ValidationError) -> bool:
    """Return whether a list only lacks its invalid items, or `problems_between` reports it."""
    place = problem["loc"]
    if problem["type"] == "too_short":
        others = [other["loc"] for other in error.errors()]
        return any(loc[: len(place)] == place and len(loc) > len(place) for loc in others)
    is_of_plugin = len(place) == 2 and place[0] == "plugins"
    return not place or (is_of_plugin and problem["type"] == "value_error")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
