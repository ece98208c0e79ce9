import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from metrics.condition.detectors import SEG
from metrics.condition.segmentation import SEG_IOU, SEG_MIOU, agreement, classes_of
from metrics.networks.annotators import palette
from tests.metrics.pictures import NoReferences, image_of
from tests.metrics.random_weights import on_random_weights


def classes(seed: int, n: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, (30, 40))


def test_mean_iou_is_torchmetrics_over_the_classes_that_are_there():
    a, b = classes(0), classes(1)
    expected = multiclass_jaccard_index(
        torch.from_numpy(a), torch.from_numpy(b), num_classes=6, average="macro"
    )
    assert agreement(a, b, n_classes=150).mean_iou() == pytest.approx(float(expected))


def test_known_segments_have_known_values():
    a = classes(0)
    assert agreement(a, a, n_classes=150).mean_iou() == 1
    assert agreement(a + 6, a, n_classes=150).mean_iou() == 0
    half = np.zeros((2, 2), int)
    half[0] = 1
    assert agreement(half, np.zeros((2, 2), int), n_classes=2).mean_iou() == pytest.approx(0.25)


def test_colors_are_classes_and_small_changes_of_color_do_not_matter():
    colors = palette()
    wanted = classes(2, 40)
    picture = colors[wanted]
    assert np.array_equal(classes_of(picture, colors), wanted)
    near = (picture.astype(int) + np.random.default_rng(0).integers(-2, 3, picture.shape)).clip(
        0, 255
    )
    assert (classes_of(near.astype(np.uint8), colors) == wanted).mean() > 0.99


def test_sets_count_pixels_and_leave_out_prompts():
    metric, single = on_random_weights(SEG_MIOU), SEG_IOU
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)]
    conditions = [SEG.detect(p, size_px=(64, 64)) for p in pictures]
    images = [
        image_of(i, picture=p, condition=c, detector="seg", prompt=f"prompt {i}")
        for i, (p, c) in enumerate(zip(pictures, [conditions[0], *conditions[:2]], strict=True))
    ]
    found = metric.score(images, NoReferences())
    assert found.value == pytest.approx(metric.score(images[::-1], NoReferences()).value)
    left = found.leave_one_out
    assert left is not None and found.value is not None and found.value < 1
    for i in range(3):
        rest = metric.score(images[:i] + images[i + 1 :], NoReferences()).value
        assert left[f"prompt {i}"] == pytest.approx(rest)
    assert single.score(images[:1], NoReferences())[0].value == 1
