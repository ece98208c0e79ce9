import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from metrics.condition import detectors, maps
from metrics.networks import annotators
from tests.metrics.pictures import NoReferences, image_of
from tests.metrics.random_weights import on_random_weights, with_random_weights


def depth_map(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.uniform(0, 255, (8, 8)), np.ones((8, 8)))


def test_depth_error_is_in_steps_of_255():
    a = depth_map(0).clip(0, 245)
    assert maps.of_rmse(a, a).value == 0
    assert maps.of_rmse(a + 10, a).value == pytest.approx(10)
    flat = np.zeros((4, 4))
    assert maps.of_rmse(flat + 255, flat).value == 255  # black is as far from white as can be


def test_aligned_error_ignores_scale_and_shift_and_nothing_else():
    a = depth_map(1)
    assert maps.of_aligned_error(0.3 * a + 40, a).value == pytest.approx(0, abs=1e-9)
    other = depth_map(2)
    design = np.stack([other.ravel(), np.ones(other.size)], axis=1)
    best = np.linalg.lstsq(design, a.ravel(), rcond=None)[0]
    if best[0] > 0:
        expected = np.sqrt(((design @ best - a.ravel()) ** 2).mean())
        assert maps.of_aligned_error(other, a).value == pytest.approx(expected)


def test_an_inverted_depth_is_no_better_than_a_flat_one():
    a = depth_map(3)
    flat = maps.of_aligned_error(np.full_like(a, 9), a).value
    assert maps.of_aligned_error(255 - a, a).value == pytest.approx(flat)
    assert flat == pytest.approx(a.std())


def test_rank_correlation_has_its_known_values():
    a = depth_map(4)
    assert maps.of_ranks(a**1.5, a).value == pytest.approx(1)
    assert maps.of_ranks(255 - a, a).value == pytest.approx(-1)
    assert maps.of_ranks(np.zeros_like(a), a).value == 0
    assert maps.of_ranks(a, np.zeros_like(a)).value is None
    b = np.rint(depth_map(5) / 30)  # with ties
    assert maps.of_ranks(a, b).value == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)


def test_small_conditions_have_no_ms_ssim():
    small = np.zeros((64, 64))
    assert maps.of_ms_ssim(small, small).reason == "MS-SSIM needs 176 px"


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)


@pytest.mark.parametrize(
    "metric", [maps.SOFTEDGE_SSIM, maps.LINEART_SSIM, maps.DEPTH_RMSE, maps.DEPTH_SPEARMAN]
)
def test_the_source_picture_is_found_again_wholly_and_order_does_not_matter(metric, picture):
    on_random_weights(metric)
    condition = metric.detector.detect(picture, size_px=(128, 128))
    assert condition.dtype == np.uint8 and condition.shape == picture.shape
    other = np.roll(picture, 40, axis=0)
    images = [
        image_of(i, picture=p, condition=condition, detector=metric.detector.name, source=picture)
        for i, p in enumerate((picture, other))
    ]
    forward = [s.value for s in metric.score(images, NoReferences())]
    backward = [s.value for s in metric.score(images[::-1], NoReferences())]
    alone = [metric.score([image], NoReferences())[0].value for image in images]
    assert forward == backward[::-1] == alone
    best = 0 if metric.better == "lower" else 1
    assert forward[0] == pytest.approx(best) == metric.ceiling(images[0]).value
    assert forward[1] != pytest.approx(best)


def test_detectors_come_alone_without_their_packages_other_imports():
    import sys

    annotators.submodule("hed")
    assert "controlnet_aux" not in sys.modules
    assert not any(name.endswith((".mediapipe_face", ".zoe", ".leres")) for name in sys.modules)


def test_hed_is_controlnet_auxs_own_answer(picture):
    network = with_random_weights(detectors.HED.network)
    found = detectors.HED.find(picture)
    module = annotators.submodule("hed")
    net = module.ControlNetHED_Apache2()
    path = network.weights.path()
    net.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    expected = module.HEDdetector(net.eval())(
        picture, detect_resolution=128, image_resolution=128, output_type="np"
    )
    assert np.array_equal(found, expected)


def test_conditions_keep_their_size_where_detectors_work_in_steps_of_64_px(picture):
    with_random_weights(detectors.SOFTEDGE.network)
    assert detectors.SOFTEDGE.detect(picture, size_px=(150, 100)).shape == (100, 150, 3)
