"""Reading a manifest: every problem at once, each with the file and the line."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from plugins_manifest.errors import UserError, nearest_names, unknown_name
from plugins_manifest.plugin_schema import StackMember, stack_problems
from plugins_manifest.schema import (
    CASE_SOURCES,
    CocoCases,
    FileCases,
    InlineCase,
    KnownNames,
    Manifest,
    MethodSpec,
    PluginKind,
    PluginSpec,
    PocketCases,
    Settings,
    StackSpec,
)

SHIPPED = Path(__file__).parent / "manifests"
Place = tuple[str | int, ...]
_SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "plugins": (PluginSpec,),
    "stacks": (StackSpec,),
    "methods": (MethodSpec,),
    "settings": (Settings,),
    "cases": (InlineCase, PocketCases, CocoCases, FileCases),
}


def shipped_manifests() -> dict[str, Path]:
    """Name -> file of the manifests that come with the project."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find_manifest(name_or_path: str | Path) -> Path:
    """The file meant by a shipped name or a path; `UserError` names the nearest."""
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
    """Read and check a manifest; `known` adds checks of method, metric and family names.

    Raises one `UserError` that lists every problem with file and line.
    """
    path = find_manifest(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} cannot be read: {error}") from error
    return parse_manifest(text, path, known=known)


def parse_manifest(text: str, path: Path, *, known: KnownNames | None = None) -> Manifest:
    """Check a manifest's text; `path` names the file in messages and anchors relative paths."""
    lines: dict[Place, int] = {}
    problems: list[str] = []
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path.name} is not valid YAML: {_one_line(error)}") from error
    if node is None or not isinstance(data, dict):
        raise UserError(f"{path.name} holds no manifest: it must be a mapping with 'schema: 1'")
    _record_lines(node, (), lines, problems, path.name)
    try:
        manifest = Manifest.model_validate(data, context={"known": known or {}})
    except ValidationError as error:
        for problem in error.errors():
            items_tell = problem["type"] == "too_short" and _has_broken_items(problem, error)
            if items_tell or not problem["loc"]:
                continue  # reported one by one: the items here, the stacks below
            line = _line_of(problem["loc"], lines)
            problems.append(f"{path.name}:{line}: {_explain(problem, data)}")
        for place, message, value in stack_problems(data):
            told = f"{_dotted(place, data)}: {message}{_shown(value, message)}"
            problems.append(f"{path.name}:{_line_of(place, lines)}: {told}")
    else:
        if not problems:
            return manifest.attach_path(path.resolve())
    raise UserError.collect(problems)


def _record_lines(
    node: yaml.Node, place: Place, lines: dict[Place, int], problems: list[str], file: str
) -> None:
    """Note the line of every key and item, and complain about keys that come twice."""
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _record_lines(item, (*place, i), lines, problems, file)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, key.value)
            if inner in lines:
                problems.append(
                    f"{file}:{key.start_mark.line + 1}: the key {key.value!r} comes twice: "
                    f"the first is in line {lines[inner]}, remove one"
                )
                continue
            lines[inner] = key.start_mark.line + 1
            _record_lines(value, inner, lines, problems, file)


def _line_of(loc: Place, lines: dict[Place, int]) -> int:
    """The line of an error's place; parts that are no keys of the text are skipped."""
    place: Place = ()
    for part in loc:
        if (*place, part) in lines:
            place = (*place, part)
    return lines[place]


def _explain(problem: Any, data: dict[Hashable, Any]) -> str:
    """One problem in words: what, the value, and what to write instead."""
    loc: Place = tuple(problem["loc"])
    kind, value, name = problem["type"], problem["input"], _dotted(loc, data)
    if kind == "extra_forbidden":
        return unknown_name("key", str(loc[-1]), _valid_keys(loc)) + f" (in {name})"
    if kind == "missing":
        return f"{name} is missing: add it"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = value.get("source") if isinstance(value, dict) else value
        near = ", ".join(nearest_names(str(given), CASE_SOURCES))
        return f"{name} has the source {given!r}: write a list of prompts or a source of {near}"
    if kind == "literal_error" and loc[-1] == "kind":
        return f"{name}: " + unknown_name("kind", str(value), get_args(PluginKind))
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}{_shown(value, message)}"


def _shown(value: Any, message: str) -> str:
    """The value in brackets, where it is short and the message does not tell it."""
    is_told = value is None or isinstance(value, dict | list) or repr(value) in message
    return "" if is_told else f" (it is {value!r})"


def _has_broken_items(problem: Any, error: ValidationError) -> bool:
    """Whether a list is only too short because its items were refused."""
    place = problem["loc"]
    return any(
        other["loc"][: len(place)] == place and len(other["loc"]) > len(place)
        for other in error.errors()
    )


def _valid_keys(loc: Place) -> list[str]:
    head, *rest = loc
    models = _SECTIONS.get(str(head), ()) if rest else (Manifest,)
    if head == "cases" and rest:
        tags = {"pocket": PocketCases, "coco-val2017": CocoCases, "file": FileCases}
        models = (tags.get(str(rest[0]), InlineCase),)
    if head == "stacks" and "plugins" in rest:
        models = (StackMember,)
    return [field.alias or key for m in models for key, field in m.model_fields.items()]


def _dotted(loc: Place, data: dict[Hashable, Any]) -> str:
    """A place as people write it: plugins[1].sha256; tags of unions are left out."""
    text, here = "", data
    for i, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
            here = here[part] if isinstance(here, list) and part < len(here) else None
        elif isinstance(here, dict) and (part in here or i == len(loc) - 1):
            text += f".{part}" if text else part
            here = here.get(part)
    return text or "the manifest"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
