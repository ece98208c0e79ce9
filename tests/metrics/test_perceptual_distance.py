import warnings
from dataclasses import replace

import lpips
import numpy as np
import pytest
import torch

from metrics.condition.tile import PSNR_LIMIT, TILE_LPIPS, TILE_PSNR, low_pass_psnr
from metrics.perceptual_distance import (
    ALEX,
    LPIPS,
    LPIPS_DIVERSITY,
    POCKET_LPIPS,
    Lpips,
    PairNetwork,
)
from metrics.pocket_scorer import PocketMaps
from tests.metrics.pictures import (
    GivenReferences,
    NoReferences,
    image_of,
    random_scorer,
    random_sha256,
)
from tests.metrics.random_weights import on_random_weights, with_random_weights


def picture(seed: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def distance(network: PairNetwork, a: np.ndarray, b: np.ndarray) -> float:
    return network.distances([(a, b)])[0]


@pytest.fixture(scope="module")
def alex():
    return with_random_weights(ALEX)


def test_distances_are_the_lpips_packages_own(alex):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = torch.load(alex.weights.path(), weights_only=True)["state_dict"]
    own = package.net.state_dict()
    package.net.load_state_dict({k: features[f"features.{k.partition('.')[2]}"] for k in own})
    a, b = picture(0), picture(1)
    tensors = (torch.from_numpy(p.transpose(2, 0, 1)[None].copy()).float() / 255 for p in (a, b))
    with torch.inference_mode():
        expected = float(package(*tensors, normalize=True))
    assert expected > 0
    assert distance(alex, a, b) == pytest.approx(expected, rel=1e-5)


def test_known_pictures_have_known_distances(alex):
    a = picture(0)
    assert distance(alex, a, a) == 0
    assert distance(alex, a, 255 - a) > distance(alex, a, (a // 2) * 2) > 0
    assert distance(alex, a, picture(1)) == pytest.approx(distance(alex, picture(1), a))


def test_a_larger_picture_is_shrunk_to_the_smaller_ones_size(alex):
    a = picture(0, 64)
    large = np.kron(a, np.ones((2, 2, 1), np.uint8))
    assert distance(alex, large, a) < distance(alex, picture(1), a) / 3


def test_the_base_image_is_not_compared_with_itself(alex):
    metric, base = on_random_weights(LPIPS), image_of(0, picture=picture(0), method="base")
    image = image_of(0, picture=picture(1))
    found = metric.score([image, base], GivenReferences(base=base))
    assert found[0].value == pytest.approx(distance(alex, picture(1), picture(0)))
    assert found[1].value is None and "self-reference" in (found[1].reason or "")
    assert metric.score([image], NoReferences())[0].value is None


def test_diversity_is_the_mean_over_pairs_of_seeds_of_a_case(alex):
    metric = on_random_weights(LPIPS_DIVERSITY)
    images = [
        image_of(case, picture=picture(10 * case + seed), seed=seed, prompt=f"prompt {case}")
        for case in range(2)
        for seed in range(3)
    ]
    pairs = [(0, 1), (0, 2), (1, 2)]
    by_case = [
        np.mean([distance(alex, picture(10 * c + i), picture(10 * c + j)) for i, j in pairs])
        for c in range(2)
    ]
    found = metric.score(images, NoReferences())
    assert found.value == pytest.approx(np.mean(by_case))
    assert found.leave_one_out == {
        "prompt 0": pytest.approx(by_case[1]),
        "prompt 1": pytest.approx(by_case[0]),
    }
    assert metric.score(images[::-1], NoReferences()).value == found.value
    same = [image_of(0, picture=picture(0), seed=seed) for seed in range(2)]
    assert metric.score(same, NoReferences()).value == 0
    assert metric.score(images[:1], NoReferences()).value is None


def test_a_tile_condition_is_compared_with_the_image(alex):
    condition = picture(0)
    images = [
        image_of(i, picture=p, condition=condition, detector="tile")
        for i, p in enumerate((condition, picture(1)))
    ]
    near, far = on_random_weights(TILE_LPIPS).score(images, NoReferences())
    assert near.value == 0 and far.value == pytest.approx(distance(alex, picture(1), condition))
    same, other = (score.value for score in TILE_PSNR.score(images, NoReferences()))
    assert same == PSNR_LIMIT and other is not None and other < 30
    assert not TILE_PSNR.applies_to(image_of(0, condition=condition, detector="canny"))


def test_new_fine_detail_costs_nothing_after_the_low_pass():
    smooth = np.kron(picture(3, 8), np.ones((8, 8, 1), np.uint8)) // 2 + 60
    checker = np.indices((64, 64)).sum(axis=0)[..., None] % 2
    detailed = (smooth.astype(int) + 20 * (2 * checker - 1)).astype(np.uint8)
    brighter = smooth + 20
    assert low_pass_psnr(detailed, smooth) > low_pass_psnr(brighter, smooth) + 15
    assert low_pass_psnr(255 - smooth, smooth) < 20


def pocket_lpips(scorer=random_scorer) -> Lpips:
    return replace(POCKET_LPIPS, network=PocketMaps(scorer, random_sha256))


def test_layers_are_normalized_and_averaged_as_in_the_lpips_package():
    rng = np.random.default_rng(0)
    maps = {
        key: [rng.normal(size=(1, c, s, s)).astype(np.float32) for c, s in ((4, 8), (6, 4))]
        for key in (0, 1)
    }

    class GivenMaps:
        def feature_maps(self, pictures):
            return [torch.from_numpy(m) for m in maps[int(pictures[0][0, 0, 0])]]

    expected = 0.0
    for x, y in zip(*maps.values(), strict=True):
        u, v = (lpips.normalize_tensor(torch.from_numpy(t)) for t in (x, y))
        expected += float(lpips.spatial_average(((u - v) ** 2).sum(1, keepdim=True)))
    pictures = (np.full((8, 8, 3), key, np.uint8) for key in maps)
    found = distance(PocketMaps(GivenMaps, random_sha256), *pictures)
    assert found == pytest.approx(expected, rel=1e-5)


def test_equal_pictures_have_pocket_distance_zero_and_the_distance_is_symmetric():
    one, other = image_of(0), image_of(1, method="base")
    same = pocket_lpips().score([one], GivenReferences(base=one))[0].value
    there = pocket_lpips().score([one], GivenReferences(base=other))[0].value
    back = pocket_lpips().score([image_of(1)], GivenReferences(base=one))[0].value
    assert same == 0
    assert there is not None and there > 0
    assert there == pytest.approx(back)


def test_the_base_image_has_no_distance_to_itself():
    base = image_of(0, method="base")
    found = pocket_lpips().score([base], GivenReferences(base=base))[0]
    assert found.value is None and found.reason is not None
    assert found.reason.startswith("self-reference")


def test_without_a_base_image_the_distance_is_null():
    found = pocket_lpips().score([image_of(0)], NoReferences())[0]
    assert found.reason == "there is no base image of this case and seed"
