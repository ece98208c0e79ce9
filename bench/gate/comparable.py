"""Check whether two runs are comparable, and name every setting that differs.

Only what the gate compares must be equal: the mapper may differ, and so may methods and metrics
that the policy does not name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.gate.baseline import shown_run
from bench.gate.mismatch import Difference, only_in, refuse
from bench.gate.policy import Policy
from bench.plan import Plan
from bench.publish.comparison import case_facts
from bench.store import RunStore
from plugins_manifest.files import file_sha256
from plugins_manifest.images.folder import pictures_in, pictures_sha256
from plugins_manifest.schema import Manifest

Facts = dict[str, Any]
# keys of places rather than contents; files are compared by their content
_PLACES = frozenset(
    {"source", "license", "nsfw", "path", "condition_images", "image", "conditions"}
)
_FILES = frozenset({"reference"})
_NAMED = frozenset({"methods", "plugins", "stacks"})
_MAPPER = "mapper"
_SEVERAL = (
    "a gate compares one adapter with one, and {} adapters: make a run of each with --adapter PATH "
    "(its images come from the cache)"
)
_MACHINE = ("device_kind", "device_name", "torch", "render_context")


def check_pair(baseline: RunStore, candidate: RunStore, policy: Policy) -> None:
    """Raise one `UserError` that names every setting in which two runs differ.

    A run that compares several adapters is no side of a gate.
    """
    require_one_adapter(baseline, candidate)
    left, right = facts_of_run(baseline, policy), facts_of_run(candidate, policy)
    for key in _MACHINE:  # a run of an older version did not record all of them
        if None in (left[key], right[key]):
            del left[key], right[key]
    found = [*differences(left, right), *_case_differences(baseline, candidate)]
    refuse(found, baseline, adapter=candidate.run_facts().get("selection", {}).get("adapter"))


def check_plan(baseline: RunStore, plan: Plan, policy: Policy) -> None:
    """`check_pair` before the candidate is rendered; devices are not compared yet."""
    require_one_adapter(baseline)
    if plan.adapters:
        raise UserError.collect([_SEVERAL.format(f"this run compares {len(plan.adapters)}")])
    left = facts_of_run(baseline, policy)
    hashes = {n: file_sha256(f.reference) for n, f in plan.plugins.items() if f.reference}
    right = _facts(plan.manifest, {"weights": plan.weights, "references": hashes}, policy)
    for name, file in plan.plugins.items():
        right["plugins"][name]["sha256"] = file.sha256
    known = {case_id: case_facts(case) for case_id, case in baseline.cases().items()}
    found = [
        *differences({key: left[key] for key in right}, right),
        *_differing_cases(known, {i: case_facts(case) for i, case in plan.cases.items()}),
    ]
    refuse(found, baseline, adapter=plan.selection.adapter)


def require_one_adapter(*stores: RunStore) -> None:
    """Raise one `UserError` for runs that compare several adapters."""
    counts = [(store, len(store.run_facts().get("adapters") or ())) for store in stores]
    problems = [_SEVERAL.format(f"{shown_run(store)} compares {n}") for store, n in counts if n > 1]
    if problems:
        raise UserError.collect(problems)


def facts_of_run(store: RunStore, policy: Policy) -> Facts:
    """Return the settings of a run as nested plain data."""
    run = store.run_facts()
    device, versions = run.get("device", {}), run.get("versions", {})
    torch_minor = ".".join(str(versions.get("torch")).split("+")[0].split(".")[:2])
    return {
        **_facts(store.manifest(), run, policy),
        "device_kind": device.get("kind"),
        "device_name": None if device.get("kind") == "cpu" else device.get("name"),
        "torch": torch_minor if "torch" in versions else None,
        "render_context": run.get("render_context"),
    }


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Return each leaf in which two nested mappings differ.

    Of methods, plugins and stacks that one side lacks, the names alone.
    """
    found = []
    for key in _NAMED & left.keys() & right.keys():
        found += only_in(key, left[key], right[key])
    flat = dict(_leaves({key: _common(key, left, right) for key in left}))
    other = dict(_leaves({key: _common(key, right, left) for key in right}))
    found += [
        Difference(
            name,
            f"baseline {_value_text(flat.get(name))}, candidate {_value_text(other.get(name))}",
        )
        for name in flat.keys() | other.keys()
        if flat.get(name) != other.get(name)
    ]
    return sorted(found, key=str)


def _common(key: str, side: Mapping[str, Any], other: Mapping[str, Any]) -> Any:
    """Return a value without the named entries that the other side lacks."""
    if key not in _NAMED or key not in other:
        return side[key]
    return {name: entry for name, entry in side[key].items() if name in other[key]}


def _facts(manifest: Manifest, run: Mapping[str, Any], policy: Policy) -> Facts:
    """Return what is compared; `run` has the hashes of weights and of plugins' pictures."""
    data, references = manifest.as_data(), run.get("references") or {}
    methods = {m["name"]: m for m in data["methods"] if m["name"] in policy.methods}
    for method in methods.values():
        chosen = [t for t in method.get("t0") or () if policy.t0 is None or t in policy.t0]
        method["t0"] = sorted(chosen)
    seeds = {key: sorted(value) for key, value in data.items() if key == "seeds"}
    plugins = {entry["id"]: _cleaned(entry, manifest.folder) for entry in data["plugins"]}
    recorded = {"reference": references, "samples": run.get("samples") or {}}
    for key, hashes in recorded.items():  # a run that was moved lacks the files
        for name in plugins.keys() & hashes.keys():
            plugins[name][key] = hashes[name]
    wanted = policy.plugins
    return {
        "family": data["family"],
        "settings": data["settings"],
        "cases": _cleaned(data["cases"], manifest.folder) if _is_listed(data) else "inline",
        **seeds,
        "methods": methods,
        "plugins": {k: v for k, v in plugins.items() if wanted is None or k in wanted},
        "stacks": {
            stack["id"]: stack
            for stack in data.get("stacks", ())
            if wanted is None or stack["id"] in wanted
        },
        "weights": {part: sha for part, sha in run.get("weights", {}).items() if part != _MAPPER},
    }


def _is_listed(data: Mapping[str, Any]) -> bool:
    return isinstance(data["cases"], Mapping)


def _cleaned(entry: Mapping[str, Any], folder: Path) -> Facts:
    """Return an entry without places; files are replaced by their sha256."""
    kept = {key: value for key, value in entry.items() if key not in _PLACES}
    for key in _FILES & kept.keys():
        path = folder / str(kept[key])
        kept[key] = file_sha256(path) if path.is_file() else None
    if "samples" in kept:
        paths = pictures_in(folder / str(kept["samples"]))
        kept["samples"] = pictures_sha256(paths) if paths else None
    return kept


def _case_differences(baseline: RunStore, candidate: RunStore) -> list[Difference]:
    known, rows = (
        {case_id: case_facts(case) for case_id, case in store.cases().items()}
        for store in (baseline, candidate)
    )
    found, others = _differing_cases(known, rows), []
    planned, made = baseline.condition_hashes(), candidate.condition_hashes()
    for path in _condition_files(candidate):
        left, right, name = baseline.folder / path, candidate.folder / path, path.as_posix()
        if left.is_file():
            is_other = left.read_bytes() != right.read_bytes()
        else:  # published, or archived without them
            is_other = name in planned and name in made and planned[name] != made[name]
        if is_other:
            others.append(name)
    if others:
        text = f"{len(others)} images of the two runs differ, the first is {others[0]}"
        found.append(Difference("conditions", text))
    return found


def _differing_cases(known: Mapping[str, Facts], rows: Mapping[str, Facts]) -> list[Difference]:
    unknown = [case_id for case_id in rows if case_id not in known]
    found = []
    if unknown:
        text = f"the candidate has {len(unknown)} that the baseline lacks, the first is "
        found.append(Difference("cases", text + unknown[0]))
    for case_id in sorted(rows.keys() & known.keys()):
        found += differences(
            {f"cases.{case_id}": known[case_id]}, {f"cases.{case_id}": rows[case_id]}
        )
    return found


def _condition_files(store: RunStore) -> Iterable[Path]:
    found = sorted(store.conditions_dir.rglob("*.png"))
    return [path.relative_to(store.folder) for path in found]


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _value_text(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
