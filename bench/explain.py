"""Everything about one image: what it was made of, what came out, and how to make it again."""

from __future__ import annotations

import math
import shlex
from typing import Any

from bench.errors import UserError, shown_path
from bench.store import RunStore


def find_trial(store: RunStore, beginning: str) -> dict[str, Any]:
    """The trial whose id begins so; `UserError` for none and for several."""
    trials = store.trials()
    found = trials[trials["trial_id"].str.startswith(beginning)]
    if found.empty:
        raise UserError(
            f"no trial of {shown_path(store.folder)} begins with {beginning!r}: ids stand in "
            "trials.parquet and are the names of the images"
        )
    if found["trial_id"].nunique() > 1:
        some = ", ".join(found["trial_id"].head(3))
        raise UserError(f"{len(found)} trials begin with {beginning!r} ({some}, ...): add digits")
    return _plain(found.iloc[0].to_dict())


def explain_trial(store: RunStore, beginning: str) -> dict[str, Any]:
    """Trial, result, scores, settings, weights and the command that renders it again."""
    trial = find_trial(store, beginning)
    trial_id = trial["trial_id"]
    facts, manifest = store.run_facts(), store.manifest()
    results, scores = store.results(), store.scores()
    result = results[results["trial_id"] == trial_id]
    own_scores = scores[scores["trial_id"] == trial_id]
    plugins = [p.model_dump(mode="json") for p in manifest.plugins if p.id == trial["plugin"]]
    return {
        "trial": trial,
        "result": _plain(result.iloc[0].to_dict()) if len(result) else None,
        "scores": [
            _plain(row)
            for row in own_scores[["metric", "recipe", "better", "value", "reason"]].to_dict(
                "records"
            )
        ],
        "plugin": plugins[0] if plugins else None,
        "case": vars(store.cases()[trial["case_id"]]) if store.cases() else None,
        "settings": manifest.settings.model_dump(mode="json"),
        "weights": facts.get("weights"),
        "versions": facts.get("versions"),
        "device": facts.get("device"),
        "git": facts.get("git"),
        "render_again": again_command(store, trial_id, facts),
    }


def again_command(store: RunStore, trial_id: str, facts: dict[str, Any]) -> str:
    """The command that renders this trial alone, past the cache, into a folder of its own."""
    selection = facts.get("selection", {})
    words = ["xbench", "run", "--manifest", shown_path(store.folder / "manifest.yaml")]
    words += ["--only", trial_id, "--no-cache", "--out", f"runs/again-{trial_id[:8]}"]
    if "adapter" in selection:
        words += ["--adapter", selection["adapter"]]
    return shlex.join(words)


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A table row as plain data: missing numbers are None."""
    return {
        str(key): None if isinstance(value, float) and math.isnan(value) else value
        for key, value in row.items()
    }
