import cv2
import numpy as np
import pytest
from scipy import ndimage

from metrics.base import describe
from metrics.condition.detectors import CANNY
from metrics.condition.overlap import (
    EDGE_F1,
    EDGE_F1_1PX,
    EDGE_F1_2PX,
    EDGE_IOU,
    EDGE_PRECISION,
    EDGE_RECALL,
    MASK_IOU,
    ConditionMetric,
    overlap,
)
from pocket import conditions
from pocket.scenes import render, scene_at
from tests.metrics.pictures import NoReferences, image_of

ALL = (EDGE_F1, EDGE_F1_1PX, EDGE_F1_2PX, EDGE_IOU, EDGE_PRECISION, EDGE_RECALL, MASK_IOU)


def random_edges(seed, share=0.2, size=40):
    return (np.random.default_rng(seed).random((size, size)) < share).astype(np.uint8) * 255


def score_of(metric: ConditionMetric, picture, condition):
    image = image_of(0, picture=picture, condition=condition, detector=metric.detector.name)
    return metric.score([image], NoReferences())[0]


def test_exact_measures_follow_their_definitions():
    found, wanted = random_edges(0), random_edges(1, 0.3)
    a, b = found > 0, wanted > 0
    tp, fp, fn = (a & b).sum(), (a & ~b).sum(), (~a & b).sum()
    result = overlap(found, wanted)
    assert result.score("precision").value == pytest.approx(tp / (tp + fp))
    assert result.score("recall").value == pytest.approx(tp / (tp + fn))
    assert result.score("iou").value == pytest.approx(tp / (tp + fp + fn))
    assert result.score("f1").value == pytest.approx(2 * tp / (2 * tp + fp + fn))


def test_f1_is_two_iou_over_one_plus_iou():
    result = overlap(random_edges(2), random_edges(3))
    f1, iou = result.score("f1").value, result.score("iou").value
    assert iou is not None
    assert f1 == pytest.approx(2 * iou / (1 + iou))


@pytest.mark.parametrize("tolerance_px", [1, 2, 3])
def test_tolerant_f1_counts_what_lies_within_the_distance(tolerance_px):
    found, wanted = random_edges(4, 0.03), random_edges(5, 0.03)
    a, b = found > 0, wanted > 0
    to_a, to_b = (ndimage.distance_transform_edt(~x) for x in (a, b))
    precision = (to_b[a] <= tolerance_px).mean()
    recall = (to_a[b] <= tolerance_px).mean()
    result = overlap(found, wanted, tolerance_px=tolerance_px)
    expected = 2 * precision * recall / (precision + recall)
    assert result.score("f1").value == pytest.approx(expected)


def test_a_shift_of_one_pixel_costs_the_exact_f1_and_not_the_tolerant_one():
    line = np.zeros((32, 32), np.uint8)
    line[5:25, 10] = 255
    shifted = np.roll(line, 1, axis=1)
    assert overlap(shifted, line).score("f1").value == 0
    assert overlap(shifted, line, tolerance_px=1).score("f1").value == 1
    assert overlap(np.roll(line, 3, axis=1), line, tolerance_px=2).score("f1").value == 0


def test_an_empty_condition_is_null_and_an_empty_image_is_zero():
    blank, edges = np.zeros((64, 64), np.uint8), random_edges(0, size=64)
    assert overlap(edges, blank).score("f1").value is None
    assert overlap(blank, edges).score("f1").value == 0
    assert overlap(blank, edges).score("iou").value == 0
    assert overlap(blank, edges).score("precision").value is None


def test_conditions_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match="sizes differ"):
        overlap(np.zeros((8, 8)), np.zeros((8, 9)))


@pytest.mark.parametrize("metric", ALL)
def test_selftests_pass_and_recipes_name_detector_and_size(metric):
    metric.selftest()
    facts = describe(metric)
    assert facts["name"] == metric.name
    assert "at the condition's size" in facts["recipe"]
    assert "antialiased" in facts["recipe"]


@pytest.mark.parametrize("metric", ALL)
def test_the_source_picture_scores_one(metric):
    picture = render(scene_at(3, 1), "flat", 64)
    condition = metric.detector.detect(picture, size_px=(64, 64), family="pocket")
    assert score_of(metric, picture, condition).value == 1.0


def test_larger_images_are_shrunk_to_the_conditions_size():
    scene = scene_at(3, 4)
    condition = conditions.canny(render(scene, "flat", 64))
    near = score_of(EDGE_F1_1PX, render(scene, "flat", 128), condition).value
    far = score_of(EDGE_F1_1PX, render(scene_at(3, 5), "flat", 128), condition).value
    assert near is not None and far is not None
    assert near > 0.9
    assert far < 0.5


def test_inverted_images_keep_edges_and_blank_images_lose_them():
    picture = render(scene_at(3, 1), "flat", 64)
    condition = conditions.canny(picture)
    inverted = score_of(EDGE_F1, 255 - picture, condition).value
    assert inverted is not None and inverted > 0.9
    assert score_of(EDGE_F1, np.full_like(picture, 128), condition).value == 0


def test_photos_and_pocket_scenes_have_their_own_canny():
    picture = render(scene_at(3, 2), "shaded", 64)
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    photo = CANNY.detect(picture, size_px=(64, 64))
    pocket = CANNY.detect(picture, size_px=(64, 64), family="pocket")
    assert np.array_equal(photo[..., 0], cv2.Canny(gray, 100, 200))
    assert np.array_equal(pocket, conditions.canny(picture))


def test_only_plugins_with_the_same_detector_are_asked():
    canny, lora = image_of(0, detector="canny"), image_of(0)
    assert EDGE_F1.applies_to(canny)
    assert not EDGE_F1.applies_to(lora)
    assert not MASK_IOU.applies_to(canny)


def test_a_missing_condition_is_null_with_a_reason():
    found = EDGE_F1.score([image_of(0, detector="canny")], NoReferences())[0]
    assert found.value is None and found.reason == "the trial has no condition image"


def test_a_tolerance_is_stated_in_per_cent_of_the_width() -> None:
    assert EDGE_F1_1PX.summary == "F1 of the canny condition within 1 px (1.6% of 64 px)"
    assert EDGE_F1_2PX.summary == "F1 of the canny condition within 2 px (0.4% of 512 px)"
    assert "px" not in EDGE_F1.summary
    assert EDGE_F1_1PX.recipe().startswith("f1, within 1 px; ")  # as in scores of earlier runs


def test_exact_edges_are_reported_beside_tolerant_ones() -> None:
    assert EDGE_F1_1PX.beside == (EDGE_F1.name,)
