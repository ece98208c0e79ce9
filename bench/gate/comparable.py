"""Whether two runs may be compared: every setting that differs, by name. Loads no torch.

Only what the gate compares must agree: the mapper may differ, and so may methods and metrics that
the policy does not name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.gate.policy import Policy
from bench.plan.plan import Plan
from bench.store.run_store import RunStore
from plugins_manifest.cases.cases import Case
from plugins_manifest.files import file_sha256
from plugins_manifest.schema.manifest import Manifest

Facts = dict[str, Any]
# keys that say where something lies, not what it is; files are compared by their content
_PLACES = frozenset(
    {"source", "license", "nsfw", "path", "condition_images", "image", "conditions"}
)
_FILES = frozenset({"reference"})
_MAPPER = "mapper"
_MACHINE = ("device_kind", "device_name", "torch", "render_context")


def check_pair(baseline: RunStore, candidate: RunStore, policy: Policy) -> None:
    """Raise one `UserError` that names every setting in which two runs differ."""
    ours, theirs = facts_of_run(baseline, policy), facts_of_run(candidate, policy)
    for key in _MACHINE:  # a run of an older version did not record all of them
        if None in (ours[key], theirs[key]):
            del ours[key], theirs[key]
    problems = [*differences(ours, theirs), *_case_problems(baseline, candidate)]
    _refuse(problems, baseline)


def check_plan(baseline: RunStore, plan: Plan, policy: Policy) -> None:
    """`check_pair` before the candidate is rendered; devices are not compared yet."""
    ours = facts_of_run(baseline, policy)
    theirs = _facts(plan.manifest, plan.weights, policy)
    for name, file in plan.plugins.items():
        theirs["plugins"][name]["sha256"] = file.sha256
    known = {case_id: _case_facts(case) for case_id, case in baseline.cases().items()}
    problems = [
        *differences({key: ours[key] for key in theirs}, theirs),
        *_differing_cases(known, {i: _case_facts(case) for i, case in plan.cases.items()}),
    ]
    _refuse(problems, baseline)


def facts_of_run(store: RunStore, policy: Policy) -> Facts:
    """What a run was made with, as nested plain data."""
    run = store.run_facts()
    device, versions = run.get("device", {}), run.get("versions", {})
    torch_minor = ".".join(str(versions.get("torch")).split("+")[0].split(".")[:2])
    return {
        **_facts(store.manifest(), run.get("weights", {}), policy),
        "device_kind": device.get("kind"),
        "device_name": None if device.get("kind") == "cpu" else device.get("name"),
        "torch": torch_minor if "torch" in versions else None,
        "render_context": run.get("render_context"),
    }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """One line for each leaf in which two nested mappings differ."""
    flat, other = dict(_leaves(ours)), dict(_leaves(theirs))
    names = sorted(flat.keys() | other.keys())
    return [
        f"{name}: baseline {_shown(flat.get(name))}, candidate {_shown(other.get(name))}"
        for name in names
        if flat.get(name) != other.get(name)
    ]


def _facts(manifest: Manifest, weights: Mapping[str, str], policy: Policy) -> Facts:
    data = manifest.as_data()
    methods = {m["name"]: m for m in data["methods"] if m["name"] in policy.methods}
    for method in methods.values():
        chosen = [t for t in method.get("t0") or () if policy.t0 is None or t in policy.t0]
        method["t0"] = sorted(chosen)
    seeds = {key: sorted(value) for key, value in data.items() if key == "seeds"}
    plugins = {entry["id"]: _cleaned(entry, manifest.folder) for entry in data["plugins"]}
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
        "weights": {part: sha for part, sha in weights.items() if part != _MAPPER},
    }


def _is_listed(data: Mapping[str, Any]) -> bool:
    return isinstance(data["cases"], Mapping)


def _cleaned(entry: Mapping[str, Any], folder: Path) -> Facts:
    """An entry without places; a file is its sha256."""
    kept = {key: value for key, value in entry.items() if key not in _PLACES}
    for key in _FILES & kept.keys():
        path = folder / str(kept[key])
        kept[key] = file_sha256(path) if path.is_file() else None
    return kept


def _case_facts(case: Case) -> Facts:
    kept = {k: v for k, v in asdict(case).items() if not k.endswith(("_path", "_paths"))}
    return json.loads(json.dumps(kept))


def _case_problems(baseline: RunStore, candidate: RunStore) -> list[str]:
    known, mine = (
        {case_id: _case_facts(case) for case_id, case in store.cases().items()}
        for store in (baseline, candidate)
    )
    problems = _differing_cases(known, mine)
    for path in _condition_files(candidate):
        ours, theirs = baseline.folder / path, candidate.folder / path
        if ours.is_file() and ours.read_bytes() != theirs.read_bytes():
            problems.append(f"{path.as_posix()}: the two runs hold different condition images")
    return problems


def _differing_cases(known: Mapping[str, Facts], mine: Mapping[str, Facts]) -> list[str]:
    strangers = [case_id for case_id in mine if case_id not in known]
    problems = []
    if strangers:
        problems.append(
            f"cases: the candidate has {len(strangers)} that the baseline lacks, "
            f"the first is {strangers[0]}"
        )
    for case_id in mine.keys() & known.keys():
        problems += differences(
            {f"cases.{case_id}": known[case_id]}, {f"cases.{case_id}": mine[case_id]}
        )
    return problems


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


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse(problems: list[str], baseline: RunStore) -> None:
    if problems:
        told = "\n".join(f"  - {problem}" for problem in problems)
        raise UserError(
            f"the candidate does not pair with {shown_path(baseline.folder)}: "
            f"{len(problems)} settings differ\n{told}\n"
            "Render the candidate with the baseline's settings (xbench run --baseline RUN takes "
            "them from it), or make a new baseline",
            problems,
        )
