import lpips
import numpy as np
import pytest
import torch

from metrics.perceptual import PocketLpips, distance, normalized
from tests.metrics.pictures import (
    GivenReferences,
    NoReferences,
    image_of,
    random_scorer,
    random_sha256,
)


def metric() -> PocketLpips:
    return PocketLpips(scorer=random_scorer, scorer_sha256=random_sha256)


def test_layers_are_normalized_and_averaged_as_in_the_lpips_package():
    rng = np.random.default_rng(0)
    a, b = (
        [rng.normal(size=(c, s, s)).astype(np.float32) for c, s in ((4, 8), (6, 4))] for _ in "ab"
    )
    theirs = 0.0
    for x, y in zip(a, b, strict=True):
        u, v = (lpips.normalize_tensor(torch.from_numpy(t)[None]) for t in (x, y))
        theirs += float(lpips.spatial_average(((u - v) ** 2).sum(1, keepdim=True)))
    found = distance([normalized(x) for x in a], [normalized(y) for y in b])
    assert found == pytest.approx(theirs, rel=1e-5)


def test_equal_pictures_have_distance_zero_and_the_distance_is_symmetric():
    one, other = image_of(0), image_of(1, method="base")
    same = metric().score([one], GivenReferences(base=one))[0].value
    there = metric().score([one], GivenReferences(base=other))[0].value
    back = metric().score([image_of(1)], GivenReferences(base=one))[0].value
    assert same == 0
    assert there is not None and there > 0
    assert there == pytest.approx(back)


def test_the_base_image_has_no_distance_to_itself():
    base = image_of(0, method="base")
    found = metric().score([base], GivenReferences(base=base))[0]
    assert found.value is None and found.reason is not None
    assert found.reason.startswith("self-reference")


def test_without_a_base_image_the_distance_is_null():
    found = metric().score([image_of(0)], NoReferences())[0]
    assert found.reason == "there is no base image of this case and seed"


def test_selftest_orders_equal_near_and_far():
    assert metric().selftest() is None
