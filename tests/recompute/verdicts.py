"""Verdicts, sorting numbers and recommendations of one plugin, from the documented formulas.

Everything is by prompt: with explicit loops and left-out sums where the project has weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tests.recompute.intervals import holm, mean_above_p

N_FOLDS = 6
POWER = 0.8
_RANK = {"works": 0, "degraded": 1, "open": 1, "lost": 2}


@dataclass(frozen=True)
class Policy:
    """The thresholds of verdicts, read from their file."""

    works: float
    lost: float
    like_new: float
    like_old: float
    level: float
    min_prompts: int
    min_prompts_of_rates: int


@dataclass(frozen=True)
class Side:
    """Sums and counts of image scores by prompt, higher is better."""

    sums: dict[str, float]
    counts: dict[str, int]

    def mean(self, prompts: Sequence[str]) -> float:
        """Return the mean over all images of some prompts."""
        return sum(self.sums[p] for p in prompts) / sum(self.counts[p] for p in prompts)

    def by_prompt(self, prompts: Sequence[str]) -> np.ndarray:
        """Return each prompt's own mean [n]."""
        return np.array([self.sums[p] / self.counts[p] for p in prompts])


@dataclass(frozen=True)
class Setting:
    """One setting: function of arm, base and floor, and the distances of arm and base."""

    function: Side
    base: Side
    floor: Side
    quality: dict[str, float] | None = None  # pseudo-values by prompt
    base_quality: dict[str, float] | None = None
    value: float | None = None  # of the distance itself
    scale: float | None = None

    @property
    def prompts(self) -> list[str]:
        """Return the prompts of the function."""
        return sorted(self.function.sums)

    def contrast(self, share: float) -> np.ndarray:
        """Return (f - o) - share (b - o) of each prompt."""
        f, b, o = (s.by_prompt(self.prompts) for s in (self.function, self.base, self.floor))
        return (f - o) - share * (b - o)

    def floor_of_variance(self, share: float) -> float:
        """Return the variance that half a count leaves each rate of all or none."""
        total = 0.0
        weighted = ((self.function, 1.0), (self.base, share), (self.floor, 1 - share))
        for side, weight in weighted:
            means = side.by_prompt(self.prompts)
            if means.min() == means.max() and means[0] in (0.0, 1.0):
                rate = (means.sum() + 0.5) / (len(means) + 1)
                total += weight**2 * rate * (1 - rate)
        return total

    @property
    def is_rate(self) -> bool:
        """Whether each prompt's means are 0 or 1."""
        sides = (self.function, self.base, self.floor)
        return all(set(s.by_prompt(self.prompts)) <= {0.0, 1.0} for s in sides)


@dataclass(frozen=True)
class Found:
    """A word with its p-value, and about how many more prompts decide an open one."""

    word: str
    p: float | None = None
    more: int | None = None


def verdicts(settings: Mapping[str, Setting], policy: Policy) -> dict[str, Found]:
    """Return each setting's verdict; the settings are one family."""
    found: dict[str, Found] = {}
    for name, setting in settings.items():
        least = policy.min_prompts_of_rates if setting.is_rate else policy.min_prompts
        if len(setting.prompts) < least:
            found[name] = Found("open", None, least - len(setting.prompts))
    tested = {name: s for name, s in settings.items() if name not in found}
    shares = {"works": policy.works, "lost": policy.lost}
    p = {}
    for word, share in shares.items():
        for side, sign in (("above", 1), ("below", -1)):
            raw = [
                mean_above_p(sign * s.contrast(share), s.floor_of_variance(share))
                for s in tested.values()
            ]
            p[side, word] = dict(zip(tested, holm(raw), strict=True))
    for name, setting in tested.items():
        between = max(p["below", "works"][name], p["above", "lost"][name])
        if p["above", "works"][name] <= policy.level:
            found[name] = Found("works", p["above", "works"][name])
        elif p["below", "lost"][name] <= policy.level:
            found[name] = Found("lost", p["below", "lost"][name])
        elif between <= policy.level:
            found[name] = Found("degraded", between)
        else:
            ends = [
                (setting.contrast(s), setting.floor_of_variance(s))
                for s in (policy.lost, policy.works)
            ]
            found[name] = Found("open", None, _more(ends, policy.level / len(tested)))
    return found


def quality_words(settings: Mapping[str, Setting], policy: Policy) -> dict[str, Found]:
    """Return each setting's word on quality, of those with distances of arm and base."""
    found, tested = {}, {}
    alike: set[str] = set()  # where the base model's own distance is not told from 0
    for name, s in settings.items():
        if s.quality is None or s.base_quality is None:
            continue
        shared = sorted(set(s.prompts) & set(s.quality) & set(s.base_quality))
        q, b = (np.array([x[p] for p in shared]) for x in (s.quality, s.base_quality))
        if len(shared) < policy.min_prompts:
            found[name] = Found("cannot be told", None, policy.min_prompts - len(shared))
        else:
            tested[name] = (q - policy.like_new * b, q - policy.like_old * b)
            alike |= {name} if _above_p(b) > policy.level else set()
    p = {
        (side, end): dict(
            zip(tested, holm([_above_p(sign * x[end]) for x in tested.values()]), strict=True)
        )
        for side, sign in (("above", 1), ("below", -1))
        for end in (0, 1)
    }
    for name, ends in tested.items():
        if name in alike:
            found[name] = Found("cannot be told")
        elif p["below", 0][name] <= policy.level:
            found[name] = Found("like the new model")
        elif p["above", 1][name] <= policy.level:
            found[name] = Found("like the old model")
        elif max(p["above", 0][name], p["below", 1][name]) <= policy.level:
            found[name] = Found("between")
        else:
            more = _more([(x, 0.0) for x in ends], policy.level / len(tested))
            found[name] = Found("cannot be told", None, more)
    return found


def _above_p(values: np.ndarray) -> float:
    if len(values) and values.min() == values.max():
        return 0.0 if len(values) >= 5 and values[0] > 0 else 1.0
    return mean_above_p(values)


def _more(ends: Sequence[tuple[np.ndarray, float]], alpha: float) -> int:
    """Return about how many more prompts decide: n = ((z_alpha + z_power) s / effect)^2."""
    needed = []
    for values, floor in ends:
        spread = math.sqrt(max(values.var(ddof=1), floor, 1e-12))
        effect = max(abs(values.mean()), 1e-6)
        n = ((stats.norm.isf(alpha) + stats.norm.ppf(POWER)) * spread / effect) ** 2
        needed.append(min(max(math.ceil(n), 5), 1_000_000))
    lower, upper = (values.mean() for values, _ in ends)
    total = max(needed) if upper < 0 < lower else needed[1] if upper > 0 else needed[0]
    return max(total - len(ends[0][0]), 1)


class Sorting:
    """S = clip(retention) clip(1 - q / k) of settings on the prompts that all have."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self.settings = settings
        self.by_function = any(s.quality is None for s in settings.values())
        common = set.intersection(*(self._prompts(s) for s in settings.values()))
        self.prompts = sorted(common)
        self.values = {name: self._value(name, self.prompts) for name in settings}
        self._pseudo: dict[str, dict[str, float]] = {}

    def _prompts(self, setting: Setting) -> set[str]:
        found = set(setting.prompts)
        return (
            found if self.by_function or setting.quality is None else found & set(setting.quality)
        )

    def _value(self, name: str, prompts: Sequence[str]) -> float:
        """Return S on some prompts."""
        s = self.settings[name]
        f, b, o = (side.mean(prompts) for side in (s.function, s.base, s.floor))
        share = float(np.clip((f - o) / (b - o), 0, 1)) if b > o else 0.0
        if self.by_function or s.quality is None or s.value is None or s.scale is None:
            return share
        # without prompts, the value moves as the mean of its pseudo-values does
        everywhere = np.mean(list(s.quality.values()))
        q = s.value - everywhere + np.mean([s.quality[p] for p in prompts])
        return share * float(np.clip(1 - q / s.scale, 0, 1))

    def pseudo(self, name: str) -> dict[str, float]:
        """Return each prompt's part in S, by the product rule on what is not clipped."""
        if name not in self._pseudo:
            share, d_share = self._share_parts(name)
            look, d_look = self._look_parts(name)
            self._pseudo[name] = {
                p: share * look + d_share[p] * look + share * d_look[p] for p in self.prompts
            }
        return self._pseudo[name]

    def _share_parts(self, name: str) -> tuple[float, dict[str, float]]:
        """Return clipped retention, and how each prompt's weight moves it."""
        s = self.settings[name]
        sides = (s.function, s.base, s.floor)
        f, b, o = (side.mean(self.prompts) for side in sides)
        df, db, do = (self._mean_parts(side) for side in sides)
        ratio = (f - o) / (b - o) if b > o else 0.0
        if b <= o or not 0 < ratio < 1:
            return float(np.clip(ratio, 0, 1)), dict.fromkeys(self.prompts, 0.0)
        return ratio, {
            p: ((df[p] - do[p]) - ratio * (db[p] - do[p])) / (b - o) for p in self.prompts
        }

    def _look_parts(self, name: str) -> tuple[float, dict[str, float]]:
        """Return clipped 1 - q / k, and how each prompt's weight moves it."""
        s = self.settings[name]
        none = dict.fromkeys(self.prompts, 0.0)
        if self.by_function or s.quality is None or s.value is None or s.scale is None:
            return 1.0, none
        here = float(np.mean([s.quality[p] for p in self.prompts]))
        q = s.value - float(np.mean(list(s.quality.values()))) + here
        look = 1 - q / s.scale
        if not 0 < look < 1:
            return float(np.clip(look, 0, 1)), none
        return look, {p: -(s.quality[p] - here) / s.scale for p in self.prompts}

    def _mean_parts(self, side: Side) -> dict[str, float]:
        """Return how each prompt's weight moves a mean over images."""
        mean = side.mean(self.prompts)
        counts = {p: side.counts[p] for p in self.prompts}
        scale = len(self.prompts) / sum(counts.values())
        return {p: (side.sums[p] - mean * counts[p]) * scale for p in self.prompts}

    def cross_fitted(self, names: Sequence[str]) -> np.ndarray:
        """Return each prompt's part under the setting chosen without its fold [n]."""
        by_hash = sorted(self.prompts, key=lambda p: hashlib.sha256(p.encode()).hexdigest())
        pseudo = {name: self.pseudo(name) for name in names}
        found = []
        for fold in range(N_FOLDS):
            inside = by_hash[fold::N_FOLDS]
            if inside:
                outside = [p for p in self.prompts if p not in inside]
                best = max(names, key=lambda name: self._value(name, outside))
                found += [pseudo[best][p] for p in inside]
        return np.array(found)


@dataclass(frozen=True)
class Choice:
    """The setting to use, and those that are not told from the best."""

    name: str | None
    equal: frozenset[str] = frozenset()


def choose(
    names: Sequence[str],
    sorting: Sorting,
    *,
    shown: Mapping[str, bool],
    words: Mapping[str, str],
    costs: Mapping[str, float],
    level: float,
) -> Choice:
    """Return the cheapest of the best-ranked settings that are not told from the best."""
    usable = [name for name in names if shown[name]]
    if not usable or len(sorting.prompts) < 12:
        return Choice(None)
    pseudo = {name: np.array(list(sorting.pseudo(name).values())) for name in usable}
    best = max(usable, key=lambda n: (pseudo[n].mean(), -costs[n]))
    alpha = level / max(len(usable) - 1, 1)
    equal = [n for n in usable if n == best or not _is_better(pseudo[best] - pseudo[n], alpha)]
    chosen = min(equal, key=lambda n: (_RANK[words[n]], costs[n], -pseudo[n].mean()))
    return Choice(chosen, frozenset(equal))


def _is_better(differences: np.ndarray, alpha: float) -> bool:
    if differences.min() == differences.max():
        return bool(differences[0] > 0)
    return mean_above_p(differences) <= alpha


def shown_effects(settings: Mapping[str, Setting], level: float) -> dict[str, bool]:
    """Return whether any of the plugin's effect is shown to be kept: f > o, Holm."""
    raw = [_above_p(s.contrast(0.0)) for s in settings.values()]
    return dict(zip(settings, [p <= level for p in holm(raw)], strict=True))
