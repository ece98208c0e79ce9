"""How far a set of images is from everything between the new model's look and a native plugin's.

Quality without style: a plugin changes what images look like, so the distance to the upgraded
model's own images (floor) counts its style as a loss. In the kernel's space, take the segment from
the mean of the floor to the mean of the oracle (the upgraded model with a plugin made for it): the
place w on it nearest to an arm is how much of the style there is, and the squared distance q to
that place is what is left, the quality. Ours, of the parts of the squared MMD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from metrics.sets.formulas import Kernel, cross_prompt_means, polynomial_kernel

_ROUNDING = 1e-12  # of a kernel mean


@dataclass(frozen=True)
class Place:
    """The squared distance `rest` to the segment, the place `w` on it (0 floor, 1 oracle).

    `rest_without` and `w_without` are the values without each prompt of the arm. `rest` can be a
    little below 0: it is unbiased but for the choice of w. `length` is the squared distance between
    floor and oracle; where it is not above 0, w is 0.
    """

    rest: float
    w: float
    length: float
    rest_without: Mapping[str, float]
    w_without: Mapping[str, float]


@dataclass(frozen=True)
class Rows:
    """Features [N, D] as the kernel takes them, and the prompt of each row."""

    features: np.ndarray
    prompts: Sequence[str]


def place_on_segment(
    arm: Rows, floor: Rows, oracle: Rows, *, kernel: Kernel = polynomial_kernel
) -> Place:
    """Return the place of an arm; only pairs of different prompts count.

    Prompts are left out of all three sets at once. Raises ValueError with fewer than two prompts in
    a set; a prompt that leaves fewer behind has no values.
    """
    sets = {"a": arm, "f": floor, "o": oracle}
    means: dict[str, float] = {}
    without: dict[str, Mapping[str, float]] = {}
    for one, other in combinations_with_replacement("afo", 2):
        x, y = sets[one], sets[other]
        means[one + other], left = cross_prompt_means(
            x.features, y.features, prompts_x=x.prompts, prompts_y=y.prompts, kernel=kernel
        )
        # a prompt that neither set has leaves their mean as it is
        absent = set(arm.prompts) - {*x.prompts, *y.prompts}
        without[one + other] = {**left, **dict.fromkeys(absent, means[one + other])}
    rest, w = _place(means)
    names = set(arm.prompts).intersection(*without.values())
    left_out = {
        name: _place({pair: values[name] for pair, values in without.items()})
        for name in sorted(names)
    }
    return Place(
        rest,
        w,
        _length(means),
        {name: values[0] for name, values in left_out.items()},
        {name: values[1] for name, values in left_out.items()},
    )


def _length(k: Mapping[str, float]) -> float:
    """Return L = |o - f|^2."""
    return k["ff"] + k["oo"] - 2 * k["fo"]


def _place(k: Mapping[str, float]) -> tuple[float, float]:
    """Return (rest, w) from the mean kernels of the pairs of sets."""
    # w = <a - f, o - f> / L, clipped to the segment
    length = _length(k)
    along = (k["ao"] - k["af"]) - (k["fo"] - k["ff"])
    w = min(max(along / length, 0.0), 1.0) if length > 0 else 0.0
    # |a - (1 - w) f - w o|^2
    rest = (
        k["aa"]
        + (1 - w) ** 2 * k["ff"]
        + w**2 * k["oo"]
        + 2 * w * (1 - w) * k["fo"]
        - 2 * (1 - w) * k["af"]
        - 2 * w * k["ao"]
    )
    # of an arm that is one of the ends, rounding alone is left
    return 0.0 if abs(rest) < _ROUNDING * max(map(abs, k.values())) else rest, w
