"""What is published of run.json, manifest.yaml and gate.json: named keys, nothing private."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bench.publish.redaction import Privacy, file_name
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.plugins import PluginSpec, Section

_HASH = re.compile(r"[0-9a-f]{8,64}")
_VERSION = re.compile(r"[\w.+!-]{1,60}")
_TIME = re.compile(r"[0-9T:.+Z-]{10,40}")
_WORDS = re.compile(r"[\w .-]{1,80}")
_MODES = ("methods", "t0", "limit", "seeds", "only", "mode")
_GATE_KEYS = (
    *("format", "created", "verdict", "exit_code", "reason", "baseline", "candidate", "look"),
    *("looks", "planned_prompts", "tests", "policy"),
)
_FILES = ("path", "condition_images", "image", "reference")


def public_facts(
    facts: Mapping[str, Any], privacy: Privacy, *, left_out: Collection[str]
) -> dict[str, Any]:
    """The facts of a run that others may read; counts are of what is published, so not here."""
    simple: dict[str, Callable[[Any], Any]] = {
        "run_id": _matching(_VERSION),
        "status": _matching(_WORDS),
        "created": _matching(_TIME),
        "finished": _matching(_TIME),
        "command": lambda line: _without(privacy.command(str(line)), left_out),
        "manifest": lambda name: privacy.content(str(name)),
        "manifest_fingerprint": _matching(_HASH),
        "family": _matching(_WORDS),
        "adapter_sha256": _matching(_HASH),
        "render_context": _matching(_VERSION),
        "overhead": lambda value: value if isinstance(value, float) else None,
        "versions": lambda said: _mapping(said, _matching(_VERSION)),
        "weights": lambda said: _mapping(said, _matching(_HASH)),
        "git": _git,
        "device": lambda said: _device(said, privacy),
        "selection": lambda said: _selection(said, left_out),
    }
    return {key: keep(facts[key]) for key, keep in simple.items() if facts.get(key) is not None}


def public_manifest(
    data: Mapping[str, Any], privacy: Privacy, *, left_out: Collection[str]
) -> dict[str, Any]:
    """The manifest without the plugins and stacks left out; of local files only their names."""
    known = _keys(Manifest)
    found = {key: _content(value, privacy) for key, value in data.items() if key in known}
    found["plugins"] = [
        _plugin(entry, privacy) for entry in data["plugins"] if entry["id"] not in left_out
    ]
    if "stacks" in found:
        found["stacks"] = [stack for stack in found["stacks"] if stack["id"] not in left_out]
    cases = data.get("cases")
    if isinstance(cases, dict):
        found["cases"] = _case(cases, privacy)
    elif isinstance(cases, list):
        found["cases"] = [_case(case, privacy) for case in cases]
    return found


def public_gate(data: Mapping[str, Any], privacy: Privacy) -> dict[str, Any]:
    """A gate's outcome; of folders only their names."""
    found = {key: _technical(data[key], privacy) for key in _GATE_KEYS if key in data}
    for side in ("baseline", "candidate"):
        if isinstance(found.get(side), dict) and "folder" in found[side]:
            found[side]["folder"] = privacy.technical(file_name(str(data[side]["folder"])))
    return found


def _keys(section: type[Section]) -> set[str]:
    return {field.alias or name for name, field in section.model_fields.items()}


def _plugin(entry: Mapping[str, Any], privacy: Privacy) -> dict[str, Any]:
    known = _keys(PluginSpec)
    found = {key: _content(value, privacy) for key, value in entry.items() if key in known}
    found["source"] = privacy.source(str(entry.get("source", "")))
    if entry.get("reference"):
        found["reference"] = file_name(str(entry["reference"]))
    return found


def _case(case: Mapping[str, Any], privacy: Privacy) -> dict[str, Any]:
    found = _content(case, privacy)
    for key in _FILES:
        if isinstance(case.get(key), str):
            found[key] = privacy.content(file_name(case[key]))
    if isinstance(case.get("conditions"), dict):
        found["conditions"] = {
            name: privacy.content(file_name(str(path))) for name, path in case["conditions"].items()
        }
    return found


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], str | None]:
    return lambda value: value if isinstance(value, str) and pattern.fullmatch(value) else None


def _mapping(said: Any, keep: Callable[[Any], Any]) -> dict[str, Any]:
    items = said.items() if isinstance(said, dict) else ()
    return {key: kept for key, value in items if (kept := keep(value)) is not None}


def _git(said: Any) -> dict[str, Any] | None:
    commit = _matching(_HASH)(said.get("commit")) if isinstance(said, dict) else None
    return {"commit": commit, "changed": bool(said.get("changed"))} if commit else None


def _device(said: Any, privacy: Privacy) -> dict[str, Any]:
    said = said if isinstance(said, dict) else {}
    found: dict[str, Any] = {
        key: privacy.technical(said[key]) for key in ("kind", "name") if key in said
    }
    if isinstance(said.get("threads"), int):
        found["threads"] = said["threads"]
    return found


def _selection(said: Any, left_out: Collection[str]) -> dict[str, Any]:
    said = said if isinstance(said, dict) else {}
    found = {key: said[key] for key in _MODES if key in said}
    if "plugins" in said:
        found["plugins"] = [name for name in said["plugins"] if name not in left_out]
    if "adapter" in said:
        found["adapter"] = file_name(str(said["adapter"]))
    return found


def _without(command: str, names: Collection[str]) -> str:
    """The command without the names of what is left out."""
    for name in names:
        command = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-]),?", "", command)
    return command


def _content(value: Any, privacy: Privacy) -> Any:
    return _each(value, privacy.content)


def _technical(value: Any, privacy: Privacy) -> Any:
    return _each(value, privacy.technical)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """The same structure with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each(item, change) for item in value]
    return value
