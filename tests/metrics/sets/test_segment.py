"""The distance to the segment between two sets: 0 on it, whatever the style."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.sets.formulas import cross_prompt_kernel_distance
from metrics.sets.segment import Rows, place_on_segment

D = 16


def rows(seed: int, shift: np.ndarray, n_prompts: int = 120, n_images: int = 2) -> Rows:
    rng = np.random.default_rng(seed)
    prompts = [f"p{i}" for i in range(n_prompts) for _ in range(n_images)]
    return Rows(rng.normal(0, 1, (len(prompts), D)) + shift, prompts)


def mixed(seed: int, share: float, one: np.ndarray, other: np.ndarray) -> Rows:
    """Return images of which a share has the other look."""
    rng = np.random.default_rng(seed)
    plain = rows(seed, np.zeros(D))
    has = rng.random(len(plain.prompts)) < share
    return Rows(plain.features + np.where(has[:, None], other, one), plain.prompts)


FLOOR, ORACLE = np.zeros(D), np.r_[1.5, np.zeros(D - 1)]
ASIDE = np.r_[0.0, 2.0, np.zeros(D - 2)]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_mixture_of_both_looks_lies_on_the_segment_at_its_share(share: float) -> None:
    place = place_on_segment(mixed(1, share, FLOOR, ORACLE), rows(2, FLOOR), rows(3, ORACLE))
    assert place.w == pytest.approx(share, abs=0.12)
    far = cross_prompt_kernel_distance(
        rows(2, FLOOR).features,
        rows(3, ORACLE).features,
        prompts_x=rows(2, FLOOR).prompts,
        prompts_y=rows(3, ORACLE).prompts,
    )[0]
    assert abs(place.rest) < 0.1 * far


def test_another_look_is_a_distance_that_no_style_explains() -> None:
    floor, oracle = rows(2, FLOOR), rows(3, ORACLE)
    styled = place_on_segment(rows(4, ORACLE), floor, oracle)
    worse = place_on_segment(rows(5, ORACLE + ASIDE), floor, oracle)
    assert worse.rest > 10 * abs(styled.rest) and worse.rest > 0


def test_values_without_a_prompt_are_those_of_the_sets_without_it() -> None:
    sets = [rows(seed, shift, n_prompts=6) for seed, shift in ((1, ASIDE), (2, FLOOR), (3, ORACLE))]
    place = place_on_segment(*sets)
    kept = [
        Rows(s.features[[p != "p2" for p in s.prompts]], [p for p in s.prompts if p != "p2"])
        for s in sets
    ]
    direct = place_on_segment(*kept)
    assert place.rest_without["p2"] == pytest.approx(direct.rest)
    assert place.w_without["p2"] == pytest.approx(direct.w)


def test_a_set_of_one_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="2 prompts"):
        place_on_segment(rows(1, FLOOR, n_prompts=1), rows(2, FLOOR), rows(3, ORACLE))
