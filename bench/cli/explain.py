"""Everything about one image: inputs, result, scores, and how to render it again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cli.python_code import python_code, settings_of_trial
from bench.errors import UserError, shown_path
from bench.store import Row, RunStore, records
from bench.store.documents import members_of
from plugins_manifest.text import shell_command
from runners.base import generator_seed
from runners.options import DeviceOptions


def find_trial(store: RunStore, prefix: str) -> Row:
    """Return the trial with this prefix of an id, or of this picture's path.

    Raises `UserError` for none or several.
    """
    prefix = Path(prefix).stem if prefix.endswith(".png") else prefix
    found = {
        row["trial_id"]: row
        for row in records(store.trials())
        if row["trial_id"].startswith(prefix)
    }
    if not found:
        raise UserError(
            f"no trial of {shown_path(store.folder)} has the prefix {prefix!r}: the ids are in "
            "trials.parquet and in the names of the images"
        )
    if len(found) > 1:
        some = ", ".join(list(found)[:3])
        raise UserError(f"{len(found)} trials have the prefix {prefix!r} ({some}, ...): add digits")
    return next(iter(found.values()))


def explain_trial(store: RunStore, prefix: str) -> dict[str, Any]:
    """Return trial, result, scores, settings, weights and the command to render it again."""
    trial = find_trial(store, prefix)
    trial_id = trial["trial_id"]
    facts, manifest = store.run_facts(), store.manifest()
    results = [row for row in records(store.results()) if row["trial_id"] == trial_id]
    members = members_of(trial["stack"])
    plugins = [p.model_dump(mode="json") for p in manifest.plugins if p.id in members]
    stacks = [s.model_dump(mode="json") for s in manifest.stacks if s.id == trial["plugin"]]
    return {
        "trial": trial,
        "result": results[0] if results else None,
        "scores": [
            {key: row[key] for key in ("metric", "recipe", "better", "value", "reason")}
            for row in records(store.scores())
            if row["trial_id"] == trial_id
        ],
        "plugin": plugins[0] if plugins else None,
        "plugins": plugins,
        "stack": stacks[0] if stacks else None,
        "case": asdict(store.cases()[trial["case_id"]]),
        "settings": settings_of_trial(trial, manifest).model_dump(mode="json"),
        **{key: facts.get(key) for key in ("weights", "versions", "device", "git")},
        "generator_seed": generator_seed(int(trial["seed"]), trial["case_id"]),
        **_python(store, trial),
        "render_again": again_command(store, trial_id, facts),
    }


def _python(store: RunStore, trial: Row) -> dict[str, str | None]:
    """Return the code that makes the image with diffusers, or why there is none."""
    try:
        return {"python": python_code(store, trial), "no_python": None}
    except UserError as error:
        return {"python": None, "no_python": str(error)}


def again_command(store: RunStore, trial_id: str, facts: dict[str, Any]) -> str:
    """Return the command that renders this trial alone, without the cache, in a new folder."""
    selection = facts.get("selection", {})
    words: list[str | Path] = ["xbench", "run", "--manifest", store.manifest_path]
    words += ["--only", trial_id, "--no-cache", "--out", f"runs/again-{trial_id[:8]}"]
    if "adapter" in selection:
        words += ["--adapter", selection["adapter"]]
    options = DeviceOptions.of_context(facts.get("render_context") or "")
    words += ["--compile"] if options.compile else []
    words += ["--low-memory"] if options.low_memory else []
    return shell_command(words)
