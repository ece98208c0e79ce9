"""What a metric of a condition gives the source picture: the best that an image can get."""

import numpy as np
import pytest

from bench.registry import find_metric, installed, load_entry, metrics_of
from tests.metrics.pictures import NoReferences, image_of
from tests.metrics.random_weights import on_random_weights

PAIRS = [
    (condition, name) for condition in installed("detectors") for name in metrics_of(condition)
]
BEST = {"depth-rmse": 0, "depth-aligned-rmse": 0, "tile-lpips": 0, "tile-psnr": 100}
# one size only, seconds to build; of random joints there are no people
LARGE = {"openpose", "hed"}


def marked(condition: str, name: str):
    is_slow = condition in LARGE or name.endswith("ms-ssim")
    return pytest.param(condition, name, marks=pytest.mark.slow if is_slow else ())


CASES = [marked(*pair) for pair in PAIRS]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (192, 192, 3), np.uint8)


@pytest.mark.parametrize(("condition", "name"), CASES)
def test_each_condition_has_metrics_that_apply_and_know_their_ceiling(condition, name, picture):
    metric = on_random_weights(find_metric(name))
    if condition == "mask":
        picture = np.full_like(picture, 245)
        picture[40:90, 50:120] = (214, 40, 40)
    made = load_entry("detectors", condition).detect(picture, size_px=(192, 192), family="pocket")
    image = image_of(
        0,
        picture=np.roll(picture, 60, axis=1),
        condition=made,
        detector=condition,
        source=picture,
    )
    assert metric.applies_to(image)
    assert not metric.applies_to(image_of(0, detector="scribble", condition=made))
    if metric.level == "group":
        return
    ceiling, own = metric.ceiling(image), metric.score([image], NoReferences())[0]
    if condition == "openpose":
        assert ceiling.value is not None or ceiling.reason
        return
    assert ceiling.value == pytest.approx(BEST.get(name, 1), abs=1e-6)
    assert own.value is not None
    assert own.value < ceiling.value if metric.better == "higher" else own.value > ceiling.value


def test_without_a_source_picture_there_is_no_ceiling(picture):
    for name in ("edge-f1", "edge-f1-kornia", "tile-psnr"):
        condition = "tile" if name == "tile-psnr" else "canny"
        image = image_of(0, picture=picture, condition=picture, detector=condition)
        assert find_metric(name).ceiling(image).reason
