"""Distances against clean-fid, torch-fidelity and closed forms."""

import numpy as np
import pytest
import torch_fidelity.metric_kid as torch_fidelity_kid
from cleanfid.fid import kernel_distance as clean_kernel
from scipy.linalg import sqrtm

from metrics.sets.formulas import (
    frechet_distance,
    frechet_infinity,
    frechet_of_rows,
    gaussian_kernel,
    kernel_distance,
    kernel_distance_of_subsets,
    kernel_leave_one_out,
    moments,
    polynomial_kernel,
)


def distance(x, y):
    (m1, s1), (m2, s2) = moments(x), moments(y)
    return frechet_distance(m1, s1, mean_2=m2, covariance_2=s2)


def correlated(seed, n, d=16, shift=0.0):
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(d).normal(size=(d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)) @ mix + shift


# recorded from cleanfid.fid.frechet_distance (clean-fid 0.1.35) with scipy 1.17.1; scipy 1.18 no
# longer runs its call of sqrtm
@pytest.mark.parametrize(
    ("d", "recorded"),
    [(4, 1.211718265804448), (16, 3.420556922323634), (64, 11.766760086138277)],
)
def test_frechet_equals_clean_fid_where_covariances_have_full_rank(d, recorded):
    x, y = correlated(0, 4 * d, d), correlated(1, 4 * d, d, shift=0.3)
    assert distance(x, y) == pytest.approx(recorded, rel=1e-9)


def test_frechet_equals_clean_fid_nearly_where_covariances_are_singular():
    x, y = correlated(0, 12, 16), correlated(1, 12, 16, shift=0.3)
    assert distance(x, y) == pytest.approx(10.229551589600433, abs=1e-6)


def test_frechet_of_gaussians_has_its_closed_form():
    # diagonal covariances: |m|^2 + sum (s1 - s2)^2 over standard deviations
    mean, a, b = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.5, 1.0])
    found = frechet_distance(mean, np.diag(a**2), mean_2=np.zeros(3), covariance_2=np.diag(b**2))
    assert found == pytest.approx(float(mean @ mean + ((a - b) ** 2).sum()), rel=1e-9)


def test_frechet_of_equal_sets_is_zero_and_symmetric():
    x, y = correlated(0, 200), correlated(1, 200, shift=1)
    assert distance(x, x) == pytest.approx(0, abs=1e-9)
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-9)


def test_kernel_distance_equals_clean_fid_on_full_sets():
    x, y = correlated(0, 50), correlated(1, 50, shift=0.2)
    expected = clean_kernel(x, y, num_subsets=1, max_subset_size=50)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_follows_the_definition_on_unequal_sets():
    x, y = correlated(0, 7, 3), correlated(1, 11, 3)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within_x = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    across = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_kernel_distance_is_unbiased():
    values = [kernel_distance(correlated(i, 20), correlated(1000 + i, 20)) for i in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)


def test_kernel_subsets_are_seeded_and_near_the_full_value():
    x, y = correlated(0, 300), correlated(1, 300, shift=0.5)
    found = kernel_distance_of_subsets(x, y, subset_size=100, seed=4)
    assert found == kernel_distance_of_subsets(x, y, subset_size=100, seed=4)
    assert found == pytest.approx(kernel_distance(x, y), rel=0.1)


def test_leave_one_out_equals_leaving_out():
    x, y = correlated(0, 12), correlated(1, 20)
    clusters = ["a"] * 5 + ["b"] * 4 + ["c"] * 3
    found = kernel_leave_one_out(x, y, clusters=clusters)
    keep = np.array(clusters)
    assert found == {
        name: pytest.approx(kernel_distance(x[keep != name], y)) for name in ("a", "b", "c")
    }


def test_leave_one_out_leaves_out_clusters_that_empty_the_set():
    assert set(kernel_leave_one_out(np.eye(3), np.eye(3), clusters=["a", "a", "b"])) == {"b"}


def covariance(seed: int, d: int) -> np.ndarray:
    mix = np.random.default_rng(seed).normal(size=(d, 2 * d))
    return mix @ mix.T / d


@pytest.mark.parametrize("d", [2, 8, 40])
def test_frechet_of_two_gaussians_has_its_closed_form(d):
    a, b = covariance(0, d), covariance(1, d)
    step = np.random.default_rng(2).normal(size=d)
    root = sqrtm(a)
    expected = step @ step + np.trace(a + b - 2 * sqrtm(root @ b @ root).real)
    found = frechet_distance(step, a, mean_2=np.zeros(d), covariance_2=b)
    assert found == pytest.approx(expected, rel=1e-6)


def test_frechet_of_a_scaled_gaussian_has_its_closed_form():
    a = covariance(3, 12)
    found = frechet_distance(np.ones(12), a, mean_2=np.zeros(12), covariance_2=4 * a)
    assert found == pytest.approx(12 + np.trace(a), rel=1e-6)


@pytest.mark.parametrize("n", [3, 12, 31])
def test_frechet_of_fewer_rows_than_dimensions_needs_no_covariance(n):
    x, y = correlated(0, n, 32), correlated(1, n + 5, 32, shift=0.2)
    assert frechet_of_rows(x, y) == pytest.approx(distance(x, y), rel=1e-6)
    assert frechet_of_rows(x, x) == pytest.approx(0, abs=1e-6)


def test_the_bias_of_frechet_falls_as_one_over_n_and_infinity_removes_it():
    reference = np.random.default_rng(0).normal(size=(20000, 16))
    x = np.random.default_rng(1).normal(size=(400, 16))
    biased, extrapolated = frechet_of_rows(x, reference), frechet_infinity(x, reference)
    assert biased > 0.2
    assert abs(extrapolated) < biased / 3
    assert extrapolated == frechet_infinity(x, reference)


@pytest.mark.parametrize("n", [10, 60])
def test_kernel_distance_equals_torch_fidelitys_on_full_sets(n):
    x, y = correlated(0, n, 32), correlated(1, n, 32, shift=0.4)
    kwargs = {
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
    }
    expected = torch_fidelity_kid.kernel_mmd(x, y, kid_kernel="poly", **kwargs)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_gaussian_kernel_distance_equals_torch_fidelitys():
    x, y = correlated(0, 30, 8) * 5, correlated(1, 30, 8, shift=3)
    expected = torch_fidelity_kid.kernel_mmd(x, y, kid_kernel="rbf", kid_kernel_rbf_sigma=10)
    assert kernel_distance(x, y, kernel=gaussian_kernel) == pytest.approx(expected, rel=1e-9)


def test_the_authors_cmmd_adds_each_rows_pair_with_itself():
    x, y = correlated(0, 20, 8), correlated(1, 30, 8, shift=1)
    kxx, kyy = gaussian_kernel(x, x), gaussian_kernel(y, y)
    published = kxx.mean() + kyy.mean() - 2 * gaussian_kernel(x, y).mean()
    # each mean includes the diagonal of ones: the excess over the unbiased value falls as 1/N
    extra = (1 - _off_diagonal(kxx)) / 20 + (1 - _off_diagonal(kyy)) / 30
    assert published - extra == pytest.approx(
        kernel_distance(x, y, kernel=gaussian_kernel), rel=1e-9
    )


def _off_diagonal(square: np.ndarray) -> float:
    return float(square[~np.eye(len(square), dtype=bool)].mean())


@pytest.mark.parametrize("kernel", [polynomial_kernel, gaussian_kernel])
def test_leave_one_out_equals_leaving_out_under_every_kernel(kernel):
    x, y = correlated(0, 9), correlated(1, 7)
    keep = np.array(["a", "b", "c"] * 3)
    found = kernel_leave_one_out(x, y, clusters=list(keep), kernel=kernel)
    for name in "abc":
        assert found[name] == pytest.approx(kernel_distance(x[keep != name], y, kernel=kernel))
