import numpy as np
import pytest

from metrics.condition import detectors
from metrics.condition.pose import POSE_OKS, of_people, oks, pck
from tests.metrics.pictures import NoReferences, image_of
from tests.metrics.random_weights import on_random_weights


def people(seed: int, n: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 200, (n, 18, 2))


def test_equal_poses_score_one_and_far_ones_zero():
    pose = people(0)
    for similarity in (oks, pck):
        assert of_people(pose, pose, similarity).value == 1
        assert of_people(pose + 2000, pose, similarity).value == pytest.approx(0, abs=1e-6)
        assert of_people(np.empty((0, 18, 2)), pose, similarity).value == 0


def test_oks_of_one_moved_joint_has_its_closed_form():
    pose = people(1)[0]
    box = np.ptp(np.delete(pose, 1, axis=0), axis=0)
    nose, moved = 0.026, pose.copy()
    moved[0] += (3, 4)
    inside = np.ptp(np.delete(moved, 1, axis=0), axis=0)
    assert inside.shape == box.shape
    expected = (16 + np.exp(-25 / (2 * box.prod() * (2 * nose) ** 2))) / 17
    assert oks(moved, pose) == pytest.approx(expected)


def test_the_neck_is_no_joint_of_coco():
    pose = people(2)[0]
    moved = pose.copy()
    moved[1] += 500
    assert oks(moved, pose) == pck(moved, pose) == 1


def test_pck_counts_joints_within_a_tenth_of_the_box():
    pose = people(3)[0]
    side = np.ptp(np.delete(pose, 1, axis=0), axis=0).max()
    moved = pose.copy()
    moved[2:6, 0] += 0.11 * side
    moved[6:8, 0] += 0.09 * side
    assert pck(moved, pose) == pytest.approx(13 / 17)


def test_unseen_joints_count_only_where_they_were_wanted():
    pose = people(4)[0]
    hidden = pose.copy()
    hidden[5] = np.nan
    assert oks(pose, hidden) == 1
    assert oks(hidden, pose) == pytest.approx(16 / 17)
    assert pck(hidden, pose) == pytest.approx(16 / 17)


def test_people_are_matched_whatever_their_order_and_missing_ones_count():
    crowd = people(5, n=3) + np.arange(3)[:, None, None] * 300
    assert of_people(crowd[[2, 0, 1]], crowd, oks).value == 1
    assert of_people(crowd[:2], crowd, pck).value == pytest.approx(2 / 3)
    few = np.full((1, 18, 2), np.nan)
    assert of_people(crowd, few, oks).value is None


def test_the_pose_is_wanted_as_the_source_shows_it(monkeypatch):
    joints_at = {10: people(6), 20: people(6) + 1}

    class Drawn:
        def people(self, picture):
            return joints_at[int(picture[0, 0, 0])]

    monkeypatch.setattr(type(detectors.POSE), "loaded", lambda self: Drawn())
    source, picture = (np.full((64, 64, 3), level, np.uint8) for level in (10, 20))
    image = image_of(0, picture=picture, condition=source, detector="openpose", source=source)
    found = POSE_OKS.score([image], NoReferences())[0].value
    assert found == pytest.approx(oks(joints_at[20][0], joints_at[10][0]))
    without = image_of(0, picture=picture, condition=source, detector="openpose")
    assert POSE_OKS.score([without], NoReferences())[0].value is None


@pytest.mark.slow
def test_open_pose_runs_at_its_real_size():
    on_random_weights(POSE_OKS)
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    found = detectors.POSE.loaded().people(picture)
    assert found.shape[1:] == (18, 2)
    assert detectors.OPENPOSE.detect(picture, size_px=(128, 128)).shape == (128, 128, 3)
