"""Select the public keys of run.json, manifest.yaml and gate.json, and redact their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bench.publish.redaction import Privacy, file_name
from plugins_manifest.schema import Manifest, PluginSpec
from plugins_manifest.schema.plugins import Section

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
    """Return the public facts of a run; without counts, which are those of the publication."""
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
        "metric_device": _matching(_WORDS),
        "overhead": lambda value: value if isinstance(value, float) else None,
        "versions": lambda value: _mapping(value, _matching(_VERSION)),
        "weights": lambda value: _mapping(value, _matching(_HASH)),
        "adapters": lambda value: _mapping(value, _matching(_HASH)),
        "references": lambda value: _mapping(value, _matching(_HASH)),
        "samples": lambda value: _mapping(value, _matching(_HASH)),
        "git": _git,
        "device": lambda value: _device(value, privacy),
        "selection": lambda value: _selection(value, left_out),
    }
    return {key: keep(facts[key]) for key, keep in simple.items() if facts.get(key) is not None}


def public_manifest(
    data: Mapping[str, Any], privacy: Privacy, *, left_out: Collection[str]
) -> dict[str, Any]:
    """Return the manifest without what is left out; of local paths only file names."""
    known = _keys(Manifest)
    found = {key: _content(value, privacy) for key, value in data.items() if key in known}
    found["plugins"] = [
        _plugin(entry, privacy) for entry in data["plugins"] if entry["id"] not in left_out
    ]
    if "stacks" in found:
        found["stacks"] = [stack for stack in found["stacks"] if stack["id"] not in left_out]
    if "adapters" in found:
        found["adapters"] = _adapters(found["adapters"])
    cases = data.get("cases")
    if isinstance(cases, dict):
        found["cases"] = _case(cases, privacy)
    elif isinstance(cases, list):
        found["cases"] = [_case(case, privacy) for case in cases]
    return found


def public_gate(data: Mapping[str, Any], privacy: Privacy) -> dict[str, Any]:
    """Return a gate's outcome; of folders only their names."""
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
    for key in ("reference", "samples"):
        if entry.get(key):
            found[key] = file_name(str(entry[key]))
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


def _mapping(value: Any, keep: Callable[[Any], Any]) -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else ()
    return {key: kept for key, item in items if (kept := keep(item)) is not None}


def _git(value: Any) -> dict[str, Any] | None:
    commit = _matching(_HASH)(value.get("commit")) if isinstance(value, dict) else None
    return {"commit": commit, "changed": bool(value.get("changed"))} if commit else None


def _device(value: Any, privacy: Privacy) -> dict[str, Any]:
    value = value if isinstance(value, dict) else {}
    found: dict[str, Any] = {
        key: privacy.technical(value[key]) for key in ("kind", "name") if key in value
    }
    if isinstance(value.get("threads"), int):
        found["threads"] = value["threads"]
    return found


def _selection(value: Any, left_out: Collection[str]) -> dict[str, Any]:
    value = value if isinstance(value, dict) else {}
    found = {key: value[key] for key in _MODES if key in value}
    if "plugins" in value:
        found["plugins"] = [name for name in value["plugins"] if name not in left_out]
    if "adapter" in value:
        found["adapter"] = file_name(str(value["adapter"]))
    if "adapters" in value:
        found["adapters"] = _adapters(value["adapters"])
    return found


def _adapters(entries: Any) -> list[dict[str, str]]:
    """Return adapters with the file names of their paths."""
    listed = entries if isinstance(entries, list) else []
    return [{"id": str(one["id"]), "path": file_name(str(one["path"]))} for one in listed]


def _without(command: str, names: Collection[str]) -> str:
    """Remove the names of what is left out from a command."""
    for name in names:
        command = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-]),?", "", command)
    return command


def _content(value: Any, privacy: Privacy) -> Any:
    return _each(value, privacy.content)


def _technical(value: Any, privacy: Privacy) -> Any:
    return _each(value, privacy.technical)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Return the same structure with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each(item, change) for item in value]
    return value
