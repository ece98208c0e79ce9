"""Provenance of a run: its facts, and the commands that reproduce it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from leaderboard.data import Run
from leaderboard.data.catalog import text_of

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_FACTS = {
    "run_id": "Run",
    "status": "Status",
    "created": "Started (UTC)",
    "finished": "Finished (UTC)",
    "family": "Family",
    "manifest": "Manifest",
    "manifest_fingerprint": "Manifest's fingerprint",
    "adapter_sha256": "Adapter's SHA-256",
    "plan_key": "Plan's key",
    "render_context": "Rendered as",
}


def facts_of(run: Run) -> dict[str, str]:
    """Return the recorded facts of a run as title -> text."""
    facts = {title: text_of(run.facts.get(name)) for name, title in _FACTS.items()}
    counts = run.facts.get("counts")
    if isinstance(counts, Mapping):
        facts["Images"] = pairs_text(counts)
    return {title: text for title, text in facts.items() if text}


def group_of(run: Run, name: str) -> dict[str, str]:
    """Return a group of facts (versions, weights, device) as text."""
    group = run.facts.get(name)
    return {str(k): str(v) for k, v in group.items()} if isinstance(group, Mapping) else {}


def commands_of(run: Run) -> list[str]:
    """Return the commands that reproduce the run, first the commit if it is recorded."""
    git = run.facts.get("git")
    commit = text_of(git.get("commit")) if isinstance(git, Mapping) else ""
    changed = isinstance(git, Mapping) and bool(git.get("changed"))
    command = text_of(run.facts.get("command"))
    lines = [f"git checkout {commit}"] if _COMMIT.fullmatch(commit) else []
    if changed:
        lines.append("# the code had changes that were not committed")
    return [*lines, "pip install -q uv", f"uv run {command}"] if command else lines


def pairs_text(facts: Mapping[Any, Any]) -> str:
    """Return a group of facts on one line."""
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
