"""Whether a plugin works after an upgrade: contrasts of its function, not ratios.

f is the function of an arm, b of the base model with the plugin, o of the upgraded model without:

    works      (f - o) - works (b - o) > 0 is shown
    lost       (f - o) - lost (b - o) < 0 is shown
    degraded   the first is shown to be < 0 and the second to be > 0

Each is tested one-sided over prompts at the level of the thresholds, after Holm's correction over
the arms of a family. Everything else is open. A contrast needs no division, so no effect that is
almost zero makes it large. Quality is judged alike by q, the distance of an arm's images to what
they should look like: like the new model where q < .25 of the base model's is shown, like the old
one where q > .75 of it is, between where neither end is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.stats.intervals import MIN_CLUSTERS, holm
from metrics.stats.margin import prompts_to_decide, within_margin_p
from metrics.stats.rates import is_binary

Word = Literal["works", "degraded", "lost", "open"]
QualityWord = Literal["like the new model", "between", "like the old model", "cannot be told"]
_POWER = 0.8
ALIKE = "the base model's own images are not told from what images should look like"


@dataclass(frozen=True)
class Thresholds:
    """Shares of the base model's effect and distance, and the error rate of a family."""

    works: float = 0.8
    lost: float = 0.4
    like_new: float = 0.25
    like_old: float = 0.75
    level: float = 0.05
    min_prompts: int = 12
    min_prompts_of_rates: int = 24

    def __post_init__(self) -> None:
        """Raise ValueError unless 0 <= lost < works <= 1 and 0 <= like_new < like_old <= 1."""
        for low, high in (("lost", "works"), ("like_new", "like_old")):
            a, b = getattr(self, low), getattr(self, high)
            if not 0 <= a < b <= 1:
                raise ValueError(f"{low} is {a} and {high} {b}: 0 <= {low} < {high} <= 1")


@dataclass(frozen=True)
class Function:
    """Mean scores by prompt, higher is better, of an arm, the base model and the floor."""

    arm: Mapping[str, float]
    base: Mapping[str, float]
    floor: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """A word with its reason; `n_more` prompts would decide an open one with a power of .8."""

    word: Word
    n_prompts: int
    p: float | None = None
    n_more: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Tests:
    """One-sided p-values: above and below the threshold of works, above and below that of lost."""

    above_works: float
    below_works: float
    above_lost: float
    below_lost: float


def judge(functions: Sequence[Function], thresholds: Thresholds = Thresholds()) -> list[Verdict]:
    """Return the verdict of each arm; the arms are one family, corrected together."""
    found: list[Verdict | None] = [_too_little(f, thresholds) for f in functions]
    tested = [i for i, verdict in enumerate(found) if verdict is None]
    tests = [_tests(functions[i], thresholds) for i in tested]
    # each hypothesis is a family of its own over the arms: an arm gets one word at most
    adjusted = [
        holm([getattr(test, name) for test in tests])
        for name in ("above_works", "below_works", "above_lost", "below_lost")
    ]
    for place, i in enumerate(tested):
        corrected = _Tests(*(column[place] for column in adjusted))
        found[i] = _verdict(functions[i], corrected, thresholds, n_tests=len(tested))
    return [verdict for verdict in found if verdict is not None]


@dataclass(frozen=True)
class QualityVerdict:
    """A word on quality; `n_more` prompts would tell one that cannot be told."""

    word: QualityWord
    n_more: int | None = None
    reason: str | None = None


def judge_quality(
    distances: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
    thresholds: Thresholds = Thresholds(),
) -> list[QualityVerdict]:
    """Return the word of each arm from its and the base model's q by prompt (pseudo-values)."""
    pairs = [_on_shared(*pair) for pair in distances]
    enough = [i for i, (q, _) in enumerate(pairs) if len(q) >= thresholds.min_prompts]
    shares = (thresholds.like_new, thresholds.like_old)
    # arms share their base: one question, asked once
    is_far = {i: _mean_p(pairs[i][1]) <= thresholds.level for i in enough}
    tests = [
        [_mean_p(sign * (q - share * base)) for share in shares for sign in (-1.0, 1.0)]
        for q, base in (pairs[i] for i in enough)
    ]
    columns = [holm(list(column)) for column in zip(*tests, strict=True)]
    found = [
        QualityVerdict(
            "cannot be told",
            thresholds.min_prompts - len(q),
            f"a verdict needs {thresholds.min_prompts} prompts",
        )
        for q, _ in pairs
    ]
    for place, i in enumerate(enough):
        below_new, above_new, below_old, above_old = (column[place] for column in columns)
        if not is_far[i]:
            found[i] = QualityVerdict("cannot be told", reason=ALIKE)
        elif below_new <= thresholds.level:
            found[i] = QualityVerdict("like the new model")
        elif above_old <= thresholds.level:
            found[i] = QualityVerdict("like the old model")
        elif max(above_new, below_old) <= thresholds.level:
            found[i] = QualityVerdict("between")
        else:
            q, base = pairs[i]
            ends = [q - share * base for share in shares]
            more = _more_of(ends, thresholds, n_tests=len(enough))
            found[i] = QualityVerdict("cannot be told", more)
    return found


def shown_above(
    values: Sequence[Mapping[str, float]], other: Mapping[str, float], *, level: float = 0.05
) -> list[bool]:
    """Return whether each arm's mean is shown to be above another's: paired, Holm's correction."""
    p_values = [_mean_p(np.subtract(*_on_shared(arm, other))) for arm in values]
    return [p <= level for p in holm(p_values)]


def _on_shared(*arms: Mapping[str, float]) -> tuple[np.ndarray, ...]:
    names = sorted(set.intersection(*(set(arm) for arm in arms)))
    return tuple(np.array([arm[name] for name in names]) for arm in arms)


def _mean_p(values: np.ndarray) -> float:
    """Return the one-sided p that the mean is <= 0; equal values decide by their sign."""
    if len(values) and np.ptp(values) == 0:
        return 0.0 if len(values) >= MIN_CLUSTERS and values[0] > 0 else 1.0
    p = within_margin_p(values, 0.0)
    return 1.0 if p is None else p


def contrast(function: Function, share: float) -> np.ndarray:
    """Return (f - o) - share (b - o) of each prompt that all three have, by name."""
    return sum(weight * _values(values, function) for values, weight in _weighted(function, share))  # pyright: ignore[reportReturnType]


def _weighted(function: Function, share: float) -> list[tuple[Mapping[str, float], float]]:
    return [(function.arm, 1.0), (function.base, -share), (function.floor, share - 1.0)]


def _values(values: Mapping[str, float], function: Function) -> np.ndarray:
    shared = sorted(function.arm.keys() & function.base.keys() & function.floor.keys())
    return np.array([values[name] for name in shared])


def _is_rate(function: Function) -> bool:
    arms = (function.arm, function.base, function.floor)
    return all(is_binary(list(values.values())) for values in arms)


def _too_little(function: Function, thresholds: Thresholds) -> Verdict | None:
    n = len(_values(function.arm, function))
    rate = _is_rate(function)
    least = thresholds.min_prompts_of_rates if rate else thresholds.min_prompts
    if n >= least:
        return None
    what = "a rate" if rate else "a verdict"
    return Verdict("open", n, n_more=least - n, reason=f"{what} needs {least} prompts")


def _tests(function: Function, thresholds: Thresholds) -> _Tests:
    works, lost = (contrast(function, share) for share in (thresholds.works, thresholds.lost))
    floors = [_least_variance(function, share) for share in (thresholds.works, thresholds.lost)]
    return _Tests(
        _p(works, floors[0]), _p(-works, floors[0]), _p(lost, floors[1]), _p(-lost, floors[1])
    )


def _p(values: np.ndarray, floor: float) -> float:
    """Return the one-sided p that the mean is <= 0, with a floor under the variance."""
    widened = values
    variance = float(values.var(ddof=1))
    if variance < floor:
        # spread the values around their mean until they have the least variance
        mean, n = values.mean(), len(values)
        if variance > 0:
            widened = mean + (values - mean) * math.sqrt(floor / variance)
        else:
            signs = np.where(np.arange(n) % 2, 1.0, -1.0) - (n % 2 and -1.0 / n)
            widened = mean + signs * math.sqrt(floor / float(signs.var(ddof=1)))
    p = within_margin_p(widened, 0.0)
    return 1.0 if p is None else p


def _least_variance(function: Function, share: float) -> float:
    """Return the variance that rates of all or none still have: half a count is added to each."""
    total = 0.0
    for values, weight in _weighted(function, share):
        x = _values(values, function)
        if np.ptp(x) == 0 and is_binary(x.tolist()):
            rate = (x.sum() + 0.5) / (len(x) + 1)
            total += weight**2 * rate * (1 - rate)
    return total


def _verdict(function: Function, tests: _Tests, thresholds: Thresholds, *, n_tests: int) -> Verdict:
    n, level = len(_values(function.arm, function)), thresholds.level
    if tests.above_works <= level:
        return Verdict("works", n, p=tests.above_works)
    if tests.below_lost <= level:
        return Verdict("lost", n, p=tests.below_lost)
    degraded = max(tests.below_works, tests.above_lost)
    if degraded <= level:
        return Verdict("degraded", n, p=degraded)
    return Verdict("open", n, n_more=_more(function, thresholds, n_tests=n_tests))


def _more(function: Function, thresholds: Thresholds, *, n_tests: int) -> int:
    """Return about how many more prompts decide, if means and spreads stay as measured."""
    shares = (thresholds.works, thresholds.lost)
    ends = [contrast(function, share) for share in shares]
    floors = [_least_variance(function, share) for share in shares]
    return _more_of(ends[::-1], thresholds, n_tests=n_tests, floors=floors[::-1])


def _more_of(
    ends: Sequence[np.ndarray],
    thresholds: Thresholds,
    *,
    n_tests: int,
    floors: Sequence[float] = (0.0, 0.0),
) -> int:
    """Return about how many more prompts decide between the contrasts of two thresholds.

    The lower share is first; the lower end needs its contrast below 0, the upper end its above 0,
    and what is between both.
    """
    needed = []
    for values, floor in zip(ends, floors, strict=True):
        spread = math.sqrt(max(float(values.var(ddof=1)), floor, 1e-12))
        effect = max(abs(float(values.mean())), 1e-6)
        alpha = thresholds.level / n_tests
        needed.append(prompts_to_decide(spread, effect=effect, alpha=alpha, power=_POWER))
    lower, upper = (float(values.mean()) for values in ends)
    total = max(needed) if upper < 0 < lower else needed[1] if upper > 0 else needed[0]
    return max(total - len(ends[0]), 1)
