"""The gate outcome of two runs, and which runs to compare first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.publish.select import is_finished
from bench.store import Row
from leaderboard.data import Run
from leaderboard.data.catalog import text_of

_HUGE = 1e300  # JSON allows integers beyond the range of a float


@dataclass(frozen=True)
class Verdict:
    """Outcome of a gate; all values are text or numbers from its file."""

    verdict: str
    reason: str
    created: str
    tests: tuple[Row, ...]


def gate_of(baseline: Run, candidate: Run) -> Verdict | None:
    """Return the gate outcome of these two runs; None if no gate compared them."""
    facts = candidate.gate or {}
    compared = facts.get("baseline")
    own = text_of(baseline.facts.get("run_id"))
    if not isinstance(compared, Mapping) or not own or compared.get("run_id") != own:
        return None
    tests = facts.get("tests")
    listed = tests if isinstance(tests, list) else []
    return Verdict(
        verdict=text_of(facts.get("verdict")),
        reason=text_of(facts.get("reason")),
        created=text_of(facts.get("created")),
        tests=tuple(_test(test) for test in listed if isinstance(test, dict)),
    )


def first_pair(runs: Mapping[str, Run]) -> tuple[str, str]:
    """Return the default baseline and candidate.

    They are those of the newest gate, else the newest two finished runs of equal cases, whose
    images pair, else the newest two.
    """
    for candidate in runs.values():
        for baseline in runs.values():
            if baseline.key != candidate.key and gate_of(baseline, candidate) is not None:
                return baseline.key, candidate.key
    keys = [key for key, run in runs.items() if is_finished(run.facts)]
    of_cases: dict[str, list[str]] = {}
    for key in keys:
        if cases := runs[key].manifest.get("cases"):
            of_cases.setdefault(repr(cases), []).append(key)
    keys += [key for key in runs if key not in keys]
    pair = next((found for found in of_cases.values() if len(found) > 1), keys)
    return pair[1], pair[0]


def _test(test: Mapping[str, Any]) -> Row:
    names = ("plugin", "metric", "verdict", "better", "reason", "sentence")
    words = {name: text_of(test.get(name)) for name in names}
    numbers = {
        name: _finite(test.get(name))
        for name in ("difference", "low", "high", "margin", "n_prompts", "further_images")
    }
    return {**words, **numbers}


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < _HUGE else None
