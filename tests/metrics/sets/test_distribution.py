import pytest

from metrics.sets.distribution import PocketDistance
from tests.metrics.pictures import NoReferences, image_of, random_scorer
from tests.metrics.sets.test_formulas import correlated


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
