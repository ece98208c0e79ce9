"""One number to sort settings by: S = clip(retention) x clip(1 - q / k), both clipped to 0..1.

q is the distance of quality and k the constant of its metric. Without a quality axis S is the
clipped retention. S is for sorting alone: what may be claimed are the verdicts. Choosing the
setting with the largest S on some prompts and reporting that S there is too high (by .15 at 12
prompts), so a method's S is cross-fitted: chosen on five sixths of the prompts, measured on the
rest, six times.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metrics.base import Better
from metrics.stats.quantity import Quantity, restricted, weighted

N_FOLDS = 6
_EPSILON = 1e-5
MIN_PROMPTS_OF_INTERVAL = 60  # below, its interval covers .74 to .91 instead of .95


@dataclass(frozen=True)
class SortedSetting:
    """The parts of one setting's S; `quality` and `scale` (k) are None together.

    Base is that of the setting's own plugin scale.
    """

    function: Quantity
    base: Quantity
    floor: Quantity
    better: Better
    quality: Quantity | None = None
    scale: float | None = None


class SortValues:
    """S of settings that were measured on the same prompts, also by prompt and in folds."""

    def __init__(self, settings: Sequence[SortedSetting]) -> None:
        """Take the prompts that all parts share; without any, raise ValueError.

        Where a setting lacks its quality, all are compared by function alone.
        """
        if any(s.quality is None for s in settings):
            settings = [replace(s, quality=None, scale=None) for s in settings]
        parts = [q for s in settings for q in (s.function, s.base, s.floor, s.quality) if q]
        common = set.intersection(*(set(q.sums) for q in parts))
        if not common:
            raise ValueError("the settings have no prompt in common")
        self.names = names = sorted(common)
        settings = [_restricted(s, common) for s in settings]
        self._parts = [_value_of(setting, names) for setting in settings]
        ones = np.ones((1, len(names)))
        self.values = [float(part(ones)[0]) for part in self._parts]

    def by_prompt(self, place: int) -> dict[str, float]:
        """Return each prompt's part in one setting's S: their mean is S (Efron 1982, section 6.1).

        By infinitesimal weights: leaving a whole prompt out would cross the ends where S is
        clipped, and its pseudo-values would then have a mean outside of 0..1.
        """
        n, value, part = len(self.names), self.values[place], self._parts[place]
        more, less = (part(1.0 + step * np.eye(n)) for step in (_EPSILON, -_EPSILON))
        parts = value + n * (more - less) / (2 * _EPSILON)
        return dict(zip(self.names, parts.tolist(), strict=True))

    def cross_fitted(self, places: Sequence[int]) -> dict[str, float]:
        """Return each prompt's part under the setting chosen without its fold.

        Their mean is the cross-fitted S of the best of these settings.
        """
        parts = [self._parts[place] for place in places]
        pseudo = [self.by_prompt(place) for place in places]
        folds = folds_of(self.names)
        found: dict[str, float] = {}
        for fold in range(N_FOLDS):
            inside = folds == fold
            if not inside.any():
                continue
            chosen = max(range(len(parts)), key=lambda i: float(parts[i](1.0 - inside[None])[0]))
            found |= {n: pseudo[chosen][n] for n, i in zip(self.names, inside, strict=True) if i}
        return {name: found[name] for name in self.names}


def _restricted(setting: SortedSetting, prompts: set[str]) -> SortedSetting:
    parts = {n: getattr(setting, n) for n in ("function", "base", "floor", "quality")}
    kept = {n: restricted(q, prompts) for n, q in parts.items() if q is not None}
    return replace(setting, **kept)


def folds_of(prompts: Sequence[str]) -> np.ndarray:
    """Return the fold of each prompt [n]: dealt in the order of their sha256."""
    order = sorted(
        range(len(prompts)), key=lambda i: hashlib.sha256(prompts[i].encode()).hexdigest()
    )
    folds = np.empty(len(prompts), int)
    folds[order] = np.arange(len(prompts)) % N_FOLDS
    return folds


def _value_of(setting: SortedSetting, names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return S as a function of the prompts' weights [R, n] -> [R]; 0 without an effect."""
    sign = 1.0 if setting.better == "higher" else -1.0
    f, base, floor = (weighted(q, names) for q in (setting.function, setting.base, setting.floor))
    quality = None if setting.quality is None else weighted(setting.quality, names)
    k = setting.scale or math.inf

    def value(weights: np.ndarray) -> np.ndarray:
        effect, kept = (sign * (x(weights) - floor(weights)) for x in (base, f))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(effect > 0, np.clip(kept / effect, 0, 1), 0.0)
        if quality is None:
            return share
        return share * np.clip(1 - quality(weights) / k, 0, 1)

    return value
