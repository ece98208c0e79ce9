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


@dataclass(frozen=True)
class Place:
    """The squared distance `rest` to the segment, the place `w` on it (0 floor, 1 oracle).

    `rest_without` and `w_without` are the values without each prompt. `rest` can be a little below
    0: it is unbiased.
    """

    rest: float
    w: float
    rest_without: Mapping[str, float]
    w_without: Mapping[str, float]


@dataclass(frozen=True)
class Rows:
    """Features [N, D], unit-scaled, and the prompt of each row."""

    features: np.ndarray
    prompts: Sequence[str]


def place_on_segment(
    arm: Rows, floor: Rows, oracle: Rows, *, kernel: Kernel = polynomial_kernel
) -> Place:
    """Return the place of an arm; pairs of different prompts count alone.

    Raises ValueError with fewer than two prompts in a set.
    """
    sets = {"a": arm, "f": floor, "o": oracle}
    means: dict[str, float] = {}
    without: dict[str, Mapping[str, float]] = {}
    for one, other in combinations_with_replacement("afo", 2):
        x, y = sets[one], sets[other]
        means[one + other], without[one + other] = cross_prompt_means(
            x.features, y.features, prompts_x=x.prompts, prompts_y=y.prompts, kernel=kernel
        )
    rest, w = _place(means)
    names = set.intersection(*(set(values) for values in without.values()))
    left = {
        name: _place({pair: values[name] for pair, values in without.items()}) for name in names
    }
    return Place(
        rest,
        w,
        {name: left[name][0] for name in sorted(left)},
        {name: left[name][1] for name in sorted(left)},
    )


def _place(k: Mapping[str, float]) -> tuple[float, float]:
    """Return (rest, w) from the mean kernels of the pairs of sets."""
    # L = |o - f|^2; w = <a - f, o - f> / L, clipped to the segment
    length = k["ff"] + k["oo"] - 2 * k["fo"]
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
    return rest, w
