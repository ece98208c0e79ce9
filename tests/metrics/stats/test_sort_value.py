"""The number for sorting: its definition, and that choosing the best setting does not raise it."""

import numpy as np
import pytest

from metrics.stats.quantity import Quantity, image_quantities, set_quantity
from metrics.stats.sort_value import N_FOLDS, SortedSetting, SortValues, folds_of

PROMPT_OF = {f"c{i}": f"p{i}" for i in range(400)}


def arms(rng: np.random.Generator, *means: float, n: int, noise: float) -> tuple[Quantity, ...]:
    drawn = [{(f"c{i}", 0): mean + noise * float(rng.normal()) for i in range(n)} for mean in means]
    return image_quantities(*drawn, cluster_of=PROMPT_OF)


def distance(rng: np.random.Generator, mean: float, *, n: int, noise: float) -> Quantity:
    values = rng.normal(mean, noise, n)
    left = {f"p{i}": float(np.delete(values, i).mean()) for i in range(n)}
    return set_quantity(float(values.mean()), left, n=n)


def test_it_is_the_product_of_both_clipped_parts():
    rng = np.random.default_rng(0)
    f, base, floor = arms(rng, 0.5, 0.9, 0.1, n=20, noise=0.01)
    q = distance(rng, 0.1, n=20, noise=0.001)
    found = SortValues([SortedSetting(f, base, floor, "higher", q, 0.25)])
    share = (f.value - floor.value) / (base.value - floor.value)
    assert found.values == [pytest.approx(share * (1 - q.value / 0.25))]
    assert np.mean(list(found.by_prompt(0).values())) == pytest.approx(found.values[0], abs=1e-3)


def test_without_quality_all_settings_are_sorted_by_function():
    rng = np.random.default_rng(1)
    f, g, base, floor = arms(rng, 0.5, 0.7, 0.9, 0.1, n=20, noise=0.01)
    q = distance(rng, 0.1, n=20, noise=0.001)
    known = SortedSetting(f, base, floor, "higher", q, 0.25)
    unknown = SortedSetting(g, base, floor, "higher")
    assert SortValues([known, unknown]).values == pytest.approx([0.5, 0.75], abs=0.02)


def test_a_lower_score_can_be_the_better_one():
    f, base, floor = arms(np.random.default_rng(2), 0.3, 0.1, 0.9, n=20, noise=0.01)
    found = SortValues([SortedSetting(f, base, floor, "lower")])
    assert found.values == [pytest.approx(0.75, abs=0.02)]


def test_the_best_of_many_noisy_settings_is_not_raised_by_choosing_it():
    rng, naive, fitted = np.random.default_rng(3), [], []
    for _ in range(120):
        f = arms(rng, *([0.5] * 8), 1.0, 0.0, n=24, noise=0.6)
        found = SortValues([SortedSetting(x, f[8], f[9], "higher") for x in f[:8]])
        naive.append(max(found.values) - 0.5)
        fitted.append(np.mean(list(found.cross_fitted(range(8)).values())) - 0.5)
    assert np.mean(naive) > 0.1
    assert abs(np.mean(fitted)) < 0.03


def test_folds_depend_on_the_prompts_alone_and_are_of_equal_size():
    names = [f"prompt {i}" for i in range(24)]
    folds = dict(zip(names, folds_of(names), strict=True))
    assert dict(zip(names[::-1], folds_of(names[::-1]), strict=True)) == folds
    assert np.bincount(list(folds.values())).tolist() == [4] * N_FOLDS


def test_settings_without_a_common_prompt_cannot_be_sorted():
    rng = np.random.default_rng(4)
    f, base, floor = arms(rng, 0.5, 0.9, 0.1, n=10, noise=0.1)
    other = Quantity(1.0, {"elsewhere": 1.0}, {"elsewhere": 1.0}, 1)
    with pytest.raises(ValueError, match="no prompt in common"):
        SortValues([SortedSetting(f, base, floor, "higher", other, 1.0)])
