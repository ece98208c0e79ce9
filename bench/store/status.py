"""How far a run is, from the facts of its run.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARD_DONE = "shard complete"  # the status of a shard that has a result for each of its trials
_FINISHED = ("complete", "failed trials")


def is_finished(facts: Mapping[str, Any]) -> bool:
    """Return whether the facts of a run state that nothing of it is left to do."""
    return facts.get("status") in _FINISHED


def n_to_make(facts: Mapping[str, Any], n_planned: int) -> int:
    """Return how many images of a plan a run makes: a shard makes its part only."""
    counts = facts.get("counts")
    n_part = counts.get("trials") if facts.get("shard") and isinstance(counts, dict) else None
    return min(n_part, n_planned) if isinstance(n_part, int) else n_planned
