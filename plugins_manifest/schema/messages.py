"""Messages for mistakes in a manifest: where, the value, and what to write instead."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from pydantic import BaseModel

from plugins_manifest.documents import Place
from plugins_manifest.errors import nearest_names, unknown_name
from plugins_manifest.schema.kinds import KINDS
from plugins_manifest.schema.manifest import (
    CASE_SOURCES,
    CocoCases,
    FileCases,
    InlineCase,
    Manifest,
    MethodSpec,
    PluginSpec,
    PocketCases,
    Settings,
    StackSpec,
)
from plugins_manifest.schema.plugins import PluginSettings, StackMember

_SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "plugins": (PluginSpec,),
    "stacks": (StackSpec,),
    "methods": (MethodSpec,),
    "settings": (Settings,),
    "cases": (InlineCase, PocketCases, CocoCases, FileCases),
}
_LONGEST_VALUE = 80
_WHOLE = "the manifest"
_CASES = {"pocket": PocketCases, "coco-val2017": CocoCases, "file": FileCases}
# pydantic's kind of error -> what to write; {braces} are its own numbers and names
_WORDS = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "dict_type": "write keys and values, KEY: VALUE",
    "finite_number": "write a finite number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "greater_than": "use more than {gt}",
    "greater_than_equal": "use {ge} or more",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_type": "write a whole number",
    "less_than": "use less than {lt}",
    "less_than_equal": "use {le} or less",
    "list_type": "write a list, [...]",
    "literal_error": "use {expected}",
    "multiple_of": "use a multiple of {multiple_of}",
    "model_type": "write keys and values, KEY: VALUE",
    "string_pattern_mismatch": (
        "use letters, digits, '.', '_' and '-', with a letter or digit in front"
    ),
    "string_too_long": "use at most {max_length} characters",
    "string_too_short": "it is empty: write at least {min_length} character",
    "string_type": "write a text, in quotes if it looks like a number",
    "too_long": "give at most {max_length} (it has {actual_length})",
    "too_short": "give at least {min_length} (it has {actual_length})",
    "tuple_type": "write a list, [...]",
}


def explain(
    problem: Mapping[str, Any], data: Mapping[Hashable, Any], *, whole: str = _WHOLE
) -> str:
    """Return the message for one of pydantic's errors; `whole` names the document."""
    loc: Place = tuple(problem["loc"])
    kind, value, name = problem["type"], problem["input"], dotted(loc, data, whole=whole)
    if kind == "extra_forbidden":
        return unknown_name("key", str(loc[-1]), _valid_keys(loc)) + f" (in {name})"
    if kind == "missing":
        return f"{name} is missing: add it"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        given = value.get("source") if isinstance(value, dict) else value
        near = ", ".join(nearest_names(str(given), CASE_SOURCES))
        return (
            f"{name} has the source {brief(given)}: write a list of prompts or a source of {near}"
        )
    if loc[-1] in ("weight", "scale") and isinstance(value, list):
        return (
            f"{name} is a list: a plugin has one strength; for a sweep write plugin_scale: "
            f"{brief(value)} in a method, it multiplies the weight"
        )
    if kind == "literal_error" and loc[-1] == "kind":
        return f"{name}: " + unknown_name("kind", str(value), KINDS)
    if kind in _WORDS:
        message = _WORDS[kind].format(**problem.get("ctx", {}))
    else:
        message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" + ("" if name.endswith("source") else value_suffix(value, message))


def value_suffix(value: Any, message: str) -> str:
    """Return the value in brackets, if it is short and missing in the message."""
    is_clear = value is None or isinstance(value, dict | list | tuple) or repr(value) in message
    return "" if is_clear else f" (it is {brief(value)})"


def brief(value: Any) -> str:
    """Return a value as Python writes it, a long one cut."""
    text = repr(value if not isinstance(value, str) else value[:_LONGEST_VALUE])
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def dotted(loc: Place, data: Mapping[Hashable, Any], *, whole: str = _WHOLE) -> str:
    """Return a place as users write it, plugins[1].sha256, without tags of unions."""
    text, here = "", data
    for i, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
            here = here[part] if isinstance(here, list) and part < len(here) else None
        elif isinstance(here, dict) and (part in here or i == len(loc) - 1):
            text += f".{part}" if text else part
            here = here.get(part)
    return text or whole


def _valid_keys(loc: Place) -> list[str]:
    head, *rest = loc
    models = _SECTIONS.get(str(head), ()) if rest else (Manifest,)
    if head == "cases" and rest:
        models = (_CASES.get(str(rest[0]), InlineCase),)
    if head == "stacks" and "plugins" in rest:
        models = (StackMember,)
    if head in ("plugins", "stacks") and "settings" in rest:
        models = (PluginSettings,)
    return [field.alias or key for m in models for key, field in m.model_fields.items()]
