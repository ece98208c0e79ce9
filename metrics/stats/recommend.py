"""Which setting to use: of those that cannot be told from the best, one that works, the cheapest.

Ties are never broken by the order of a list: equal settings are equal, and cost decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.stats.margin import within_margin_p

MIN_PROMPTS = 12


@dataclass(frozen=True)
class Candidate:
    """A setting: its value by prompt (higher is better) and its cost, such as seconds an image.

    `is_shown` is whether its effect is shown: one that is not is never recommended. Of equal ones
    the lowest `rank` is taken, then the cheapest.
    """

    name: str
    values: Mapping[str, float]
    cost: float
    is_shown: bool = True
    rank: int = 0


@dataclass(frozen=True)
class Recommendation:
    """The setting to use, the settings that cannot be told from the best, and the best mean.

    Without a `name` nothing can be recommended; `reason` says why.
    """

    name: str | None
    equal: tuple[str, ...] = ()
    best: str | None = None
    reason: str | None = None


def recommend(candidates: Sequence[Candidate], *, level: float = 0.05) -> Recommendation:
    """Return the best-ranked, then cheapest of the settings that cannot be told from the best.

    A setting is told from the best where a paired one-sided test over the shared prompts, with
    Bonferroni's correction, finds the best better.
    """
    shown = [one for one in candidates if one.is_shown]
    if not shown:
        return Recommendation(None, reason="no setting has an effect that is shown")
    shared = sorted(set.intersection(*(set(one.values) for one in shown)))
    if len(shared) < MIN_PROMPTS:
        return Recommendation(None, reason=f"a recommendation needs {MIN_PROMPTS} prompts")
    rows = {one.name: np.array([one.values[name] for name in shared]) for one in shown}
    best = max(shown, key=lambda one: (float(rows[one.name].mean()), -one.cost, one.name))
    n_tests = max(len(shown) - 1, 1)
    equal = [
        one
        for one in shown
        if one is best or not _is_worse(rows[best.name] - rows[one.name], level / n_tests)
    ]
    chosen = min(
        equal, key=lambda one: (one.rank, one.cost, -float(rows[one.name].mean()), one.name)
    )
    return Recommendation(chosen.name, tuple(sorted(one.name for one in equal)), best.name)


def _is_worse(differences: np.ndarray, level: float) -> bool:
    """Return whether the mean difference is shown to be above 0."""
    if np.ptp(differences) == 0:
        return bool(differences[0] > 0)
    p = within_margin_p(differences, 0.0)
    return p is not None and p <= level
