"""Claims about tests of many paired comparisons."""

from itertools import product

import numpy as np
import pytest

from metrics.stats.intervals import sign_flip_p, sign_flip_ps
from metrics.stats.paired import two_sided_ps


def test_samples_together_have_the_p_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(0.5, 1, n) for n in (12, 12, 24, 300, 8)]
    together = two_sided_ps(samples)
    assert together == pytest.approx([two_sided_ps([one])[0] for one in samples])
    assert together[-1] is None


def test_flips_of_many_samples_are_those_of_each() -> None:
    x_rn = np.random.default_rng(1).normal(0.3, 1, (300, 20))
    names = [f"{i:02}" for i in range(20)]
    assert sign_flip_ps(x_rn).tolist() == [sign_flip_p(row.tolist(), names) for row in x_rn]


def test_a_p_below_the_resolution_of_flips_is_not_below_the_exact_one() -> None:
    rng = np.random.default_rng(2)
    signs = np.array(list(product((-1, 1), repeat=10)))
    n_below = 0
    for spread in np.linspace(0.02, 0.3, 40):
        x = 1 + rng.normal(0, 1, 20) * spread
        (p,) = two_sided_ps([x])
        sums = (signs @ x[:10])[:, None] + signs @ x[10:]
        exact = (np.abs(sums) >= abs(x.sum()) - 1e-9).mean()
        if p is not None and p < 1e-4:
            n_below += 1
            assert p >= exact
    assert n_below > 3
