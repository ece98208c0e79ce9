import numpy as np
import pytest
from cleanfid.fid import frechet_distance as clean_frechet
from cleanfid.fid import kernel_distance as clean_kernel

from metrics.distances import (
    frechet_distance,
    kernel_distance,
    kernel_distance_of_subsets,
    kernel_leave_one_out,
    moments,
)
from metrics.distribution import PocketDistance
from tests.metrics.pictures import NoReferences, image_of, random_scorer


def ours(x, y):
    (m1, s1), (m2, s2) = moments(x), moments(y)
    return frechet_distance(m1, s1, mean_2=m2, covariance_2=s2)


pytestmark = pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning:cleanfid")


def theirs(x, y):
    return clean_frechet(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))


def correlated(seed, n, d=16, shift=0.0):
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(d).normal(size=(d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)) @ mix + shift


@pytest.mark.parametrize("d", [4, 16, 64])
def test_frechet_equals_clean_fid_where_covariances_have_full_rank(d):
    x, y = correlated(0, 4 * d, d), correlated(1, 4 * d, d, shift=0.3)
    assert ours(x, y) == pytest.approx(theirs(x, y), rel=1e-6)


def test_frechet_equals_clean_fid_nearly_where_covariances_are_singular():
    x, y = correlated(0, 12, 16), correlated(1, 12, 16, shift=0.3)
    assert ours(x, y) == pytest.approx(theirs(x, y), abs=1e-3)


def test_frechet_of_gaussians_has_its_closed_form():
    # diagonal covariances: |m|^2 + sum (s1 - s2)^2 over standard deviations
    mean, a, b = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.5, 1.0])
    found = frechet_distance(mean, np.diag(a**2), mean_2=np.zeros(3), covariance_2=np.diag(b**2))
    assert found == pytest.approx(float(mean @ mean + ((a - b) ** 2).sum()), rel=1e-9)


def test_frechet_of_equal_sets_is_zero_and_symmetric():
    x, y = correlated(0, 200), correlated(1, 200, shift=1)
    assert ours(x, x) == pytest.approx(0, abs=1e-9)
    assert ours(x, y) == pytest.approx(ours(y, x), rel=1e-9)


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


def metric(kind):
    reference = correlated(9, 200, 64)
    return PocketDistance(
        f"pocket-{kind}",
        kind,
        scorer=random_scorer,
        scorer_sha256=lambda: "a" * 64,
        reference=lambda: reference,
        reference_sha256=lambda: "b" * 64,
    )


@pytest.mark.parametrize("kind", ["frechet", "kernel"])
def test_set_score_does_not_depend_on_the_order_of_images(kind):
    images = [image_of(i, prompt=f"prompt {i % 4}") for i in range(8)]
    forward = metric(kind).score(images, NoReferences())
    backward = metric(kind).score(images[::-1], NoReferences())
    assert forward.value == pytest.approx(backward.value, rel=1e-9)


def test_frechet_of_few_images_is_marked_unstable():
    found = metric("frechet").score([image_of(i) for i in range(3)], NoReferences())
    assert found.value is not None
    assert found.reason == "unstable: n = 3 < 2048"


def test_kernel_score_brings_leave_one_prompt_out_values():
    images = [image_of(i, prompt=f"prompt {i % 3}") for i in range(9)]
    found = metric("kernel").score(images, NoReferences())
    assert found.leave_one_out is not None
    assert sorted(found.leave_one_out) == ["prompt 0", "prompt 1", "prompt 2"]


@pytest.mark.parametrize("kind", ["frechet", "kernel"])
def test_one_image_has_no_distribution(kind):
    found = metric(kind).score([image_of(0)], NoReferences())
    assert found.value is None and found.reason is not None
