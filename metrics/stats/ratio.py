"""Retention, quality gain and compatibility of a plugin: ratios of differences, with intervals.

Numerator and denominator are resampled jointly: every draw takes the same prompts for all arms.
A ratio whose denominator is not clearly above 0 is None with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.base import Better
from metrics.stats.intervals import MIN_CLUSTERS, Estimate, bootstrap_interval
from metrics.stats.quantity import (
    Pairs,
    Quantity,
    image_quantities,
    restricted,
    set_quantity,
    shared_prompts,
    weighted,
)

__all__ = [
    "NO_CEILING",
    "NO_EFFECT",
    "NO_ROOM",
    "N_SPLITS",
    "Compatibility",
    "Pairs",
    "Quantity",
    "Reference",
    "compatibility",
    "dominated_area",
    "image_quantities",
    "normalized",
    "pareto_front",
    "quality_gain",
    "restricted",
    "retention",
    "set_quantity",
    "settings_in_plane",
]

N_SPLITS = 20
NO_EFFECT = "plugin has no measurable effect over floor"
NO_CEILING = "the ceiling is not measurably above floor"
NO_ROOM = "the base model's quality is not measurably below the upgraded model's"


@dataclass(frozen=True)
class Compatibility:
    """The area dominated in the (retention, quality gain) plane, in [0, 1].

    `split_half` chooses the settings on one half of the prompts and measures them on the other:
    far below `score`, the score owes much to picking the best of noisy points.
    """

    score: Estimate
    split_half: float | None


def retention(
    method: Quantity,
    *,
    base: Quantity,
    floor: Quantity,
    better: Better,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the share of the plugin's effect that is kept: (f - f_floor) / (f_base - f_floor).

    1 is as good as on the base model, 0 as the upgraded model without the plugin.
    """
    return _ratio(
        (method, floor),
        (base, floor),
        sign=1.0 if better == "higher" else -1.0,
        nothing=NO_EFFECT,
        confidence=confidence,
        seed=seed,
    )


def normalized(
    method: Quantity,
    *,
    ceiling: Quantity,
    floor: Quantity,
    better: Better,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the place between floor and ceiling: (f - f_floor) / (f_ceiling - f_floor)."""
    return _ratio(
        (method, floor),
        (ceiling, floor),
        sign=1.0 if better == "higher" else -1.0,
        nothing=NO_CEILING,
        confidence=confidence,
        seed=seed,
    )


def quality_gain(
    method: Quantity,
    *,
    base: Quantity,
    upgraded: Quantity,
    better: Better = "lower",
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the share of the upgrade's gain in quality: (q_base - q) / (q_base - q_up).

    1 is the upgraded model's quality (or the native plugin's, given its images), 0 the base's.
    """
    return _ratio(
        (base, method),
        (base, upgraded),
        sign=1.0 if better == "lower" else -1.0,
        nothing=NO_ROOM,
        confidence=confidence,
        seed=seed,
    )


@dataclass(frozen=True)
class Reference:
    """The arms that all settings of a method are measured against, in function and quality."""

    function_base: Quantity
    function_floor: Quantity
    quality_base: Quantity
    quality_upgraded: Quantity
    function_better: Better = "higher"
    quality_better: Better = "lower"


def compatibility(
    points: Sequence[tuple[Quantity, Quantity]],
    reference: Reference,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Compatibility:
    """Return the area dominated by a method's settings (function, quality), clipped axes.

    None where a ratio would be None, with that ratio's reason.
    """
    if not points:
        return _nothing("no settings were measured")
    r, (function, quality) = reference, points[0]
    checks = (
        retention(function, base=r.function_base, floor=r.function_floor, better=r.function_better),
        quality_gain(
            quality, base=r.quality_base, upgraded=r.quality_upgraded, better=r.quality_better
        ),
    )
    # settings share both denominators: if one ratio is undefined, all are
    for check in checks:
        if check.value is None:
            return _nothing(check.reason or "no value", check)
    quantities = [q for point in points for q in point]
    bases = [r.function_base, r.function_floor, r.quality_base, r.quality_upgraded]
    names = shared_prompts([*bases, *quantities])
    if names is None:
        return _nothing("function and quality were measured on different prompts")
    # the area itself is the statistic: all settings are resampled with the same prompts
    plane = _plane(points, r, names)

    def area(weights: np.ndarray) -> np.ndarray:
        return dominated_area(*plane(weights))

    value = float(area(np.ones((1, len(names))))[0])
    low, high = bootstrap_interval(area, len(names), confidence=confidence, seed=seed)
    n = min(q.n for q in quantities)
    score = Estimate(value, low, high, n, len(names))
    return Compatibility(score, _split_half(plane, len(names), seed=seed))


def dominated_area(kept: np.ndarray, gained: np.ndarray) -> np.ndarray:
    """Return the area of the union of rectangles (0, 0)-(kept, gained) in [0, 1]; [R, K] -> [R]."""
    # staircase from the right: at each retention the best gain among settings that keep more
    kept, gained = np.clip(kept, 0, 1), np.clip(gained, 0, 1)
    order = np.argsort(-kept, axis=1, kind="stable")
    kept = np.take_along_axis(kept, order, axis=1)
    best = np.maximum.accumulate(np.take_along_axis(gained, order, axis=1), axis=1)
    widths = kept - np.pad(kept[:, 1:], ((0, 0), (0, 1)))
    return (widths * best).sum(axis=1)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point exceeds in both coordinates, from left to right."""
    # from the right to the left, a point is on the front if it is above all before it
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]


def settings_in_plane(
    points: Sequence[tuple[Quantity, Quantity]], reference: Reference
) -> list[tuple[float, float]]:
    """Return retention and quality gain of each setting; NaN without effect or room.

    Raises ValueError where the parts were measured on different prompts.
    """
    r = reference
    bases = [r.function_base, r.function_floor, r.quality_base, r.quality_upgraded]
    names = shared_prompts([*bases, *(q for point in points for q in point)])
    if names is None:
        raise ValueError("function and quality were measured on different prompts")
    kept, gained = _plane(points, reference, names)(np.ones((1, len(names))))
    return [(float(k), float(g)) for k, g in zip(kept[0], gained[0], strict=True)]


def _ratio(
    over: tuple[Quantity, Quantity],
    under: tuple[Quantity, Quantity],
    *,
    sign: float,
    nothing: str,
    confidence: float,
    seed: int,
) -> Estimate:
    """Return (a - b) / (c - d) if c - d is clearly above 0, else None with `nothing` as reason."""
    quantities = [*over, *under]
    names, n = shared_prompts(quantities), min(q.n for q in quantities)
    if names is None:
        return Estimate(None, None, None, n, 0, "the parts were measured on different prompts")
    if len(names) < MIN_CLUSTERS:
        have = "1 prompt is" if len(names) == 1 else f"{len(names)} prompts are"
        few = f"{have} too few for a ratio (at least {MIN_CLUSTERS})"
        return Estimate(None, None, None, n, len(names), few)
    a, b, c, d = (weighted(q, names) for q in quantities)

    def room(weights: np.ndarray) -> np.ndarray:
        return sign * (c(weights) - d(weights))

    def ratio(weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return sign * (a(weights) - b(weights)) / room(weights)

    # a denominator that may be 0 makes the ratio meaningless, whatever its point estimate
    low, _ = bootstrap_interval(room, len(names), confidence=confidence, seed=seed)
    if low <= 0:
        return Estimate(None, None, None, n, len(names), nothing)
    value = float(ratio(np.ones((1, len(names))))[0])
    low, high = bootstrap_interval(ratio, len(names), confidence=confidence, seed=seed)
    return Estimate(value, low, high, n, len(names))


_Plane = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _plane(
    points: Sequence[tuple[Quantity, Quantity]], reference: Reference, names: Sequence[str]
) -> _Plane:
    """Return a function of weights [R, C]: retention and gain of every setting, each [R, K]."""
    r = reference
    signs = (
        1.0 if r.function_better == "higher" else -1.0,
        1.0 if r.quality_better == "lower" else -1.0,
    )
    functions = [weighted(function, names) for function, _ in points]
    qualities = [weighted(quality, names) for _, quality in points]
    f_base, f_floor = (weighted(q, names) for q in (r.function_base, r.function_floor))
    q_base, q_up = (weighted(q, names) for q in (r.quality_base, r.quality_upgraded))

    # signs turn both axes so that higher is better
    def plane(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        floor, base = f_floor(weights), q_base(weights)
        effect = signs[0] * (f_base(weights) - floor)
        room = signs[1] * (base - q_up(weights))
        kept = [signs[0] * (f(weights) - floor) / _positive(effect) for f in functions]
        gained = [signs[1] * (base - q(weights)) / _positive(room) for q in qualities]
        return np.stack(kept, axis=1), np.stack(gained, axis=1)

    return plane


def _positive(room: np.ndarray) -> np.ndarray:
    """Replace denominators that are not positive by NaN: such draws are left out."""
    return np.where(room > 0, room, np.nan)


def _split_half(plane: _Plane, n_prompts: int, *, seed: int) -> float | None:
    """Return the mean area over seeded splits: settings chosen on one half, measured on the other.

    None below twice the least number of prompts, or where a half shows no effect.
    """
    if n_prompts < 2 * MIN_CLUSTERS:
        return None
    rng = np.random.default_rng([seed, n_prompts])
    areas = []
    for _ in range(N_SPLITS):
        half = np.zeros(n_prompts)
        half[rng.permutation(n_prompts)[: n_prompts // 2]] = 1.0
        # both directions of each split
        for chosen_on in (half, 1 - half):
            choosing, measuring = (plane(w[None]) for w in (chosen_on, 1 - chosen_on))
            areas.append(_area_of_choice(choosing, measuring))
    found = [area for area in areas if np.isfinite(area)]
    return float(np.mean(found)) if found else None


def _area_of_choice(
    choosing: tuple[np.ndarray, np.ndarray], measuring: tuple[np.ndarray, np.ndarray]
) -> float:
    """Return the area under the measured gains of the settings chosen for each retention."""
    kept, gained = (np.clip(x[0], 0, 1) for x in choosing)
    kept_there, gained_there = (np.clip(x[0], 0, 1) for x in measuring)
    if not np.isfinite([*kept, *gained, *kept_there, *gained_there]).all():
        return float("nan")
    # `best` of the choosing half serves retentions from `high` down to the next setting's
    order = np.argsort(-kept, kind="stable")
    area, high, best = 0.0, 1.0, order[0]
    for place, setting in enumerate(order):
        best = max(best, setting, key=lambda i: gained[i])
        low = kept[order[place + 1]] if place + 1 < len(order) else 0.0
        # measured gain, over the retentions that the setting also reaches when measured
        area += gained_there[best] * max(0.0, min(high, kept_there[best]) - low)
        high = low
    return area


def _nothing(reason: str, like: Estimate | None = None) -> Compatibility:
    n, n_clusters = (like.n, like.n_clusters) if like else (0, 0)
    return Compatibility(Estimate(None, None, None, n, n_clusters, reason), None)
