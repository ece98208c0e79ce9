"""Claims about the design of a study."""

from collections import Counter

import pytest

from bench.errors import UserError
from leaderboard.study.design import Arm, Design
from tests.leaderboard.studies import row, rows, study


def test_both_pictures_of_a_pair_share_plugin_case_and_seed_and_differ_in_the_method():
    found = study()
    assert len(found.pairs) == 2 * 3 * 6  # plugins, cases, pairs of four methods
    for first, second in found.pairs:
        assert first.scene == second.scene and first.arm != second.arm
        assert {first.arm.t0, second.arm.t0} <= {None, 0.9}
        assert first.image != second.image


def test_the_same_run_gives_the_same_study_in_any_order_of_rows():
    assert study() == study(rows()[::-1])


def test_one_more_image_gives_another_study():
    more = [*rows(), row("base", None, case=9), row("floor", None, case=9)]
    assert study().study_id != study(more).study_id


def test_every_stretch_of_the_list_is_balanced():
    found = study(rows(n_cases=8))
    kinds = [(a.plugin, a.arm, b.arm) for a, b in found.pairs]
    n = found.n_shared
    assert n == 12
    assert set(Counter(kinds[:n]).values()) == {1} and set(Counter(kinds[: 3 * n]).values()) == {3}


def test_the_papers_t0_is_chosen_and_of_two_as_near_the_larger():
    arms = {p.arm for pair in study(rows(t0s=(0.5, 0.7, 0.9, 1.0))).pairs for p in pair}
    assert {arm.t0 for arm in arms} == {None, 0.9}


def test_a_design_may_choose_methods_t0_and_length():
    found = study(design=Design(t0=(0.5, 0.9), methods=("sdedit", "xadapter"), max_pairs=7))
    assert len(found.pairs) == 7
    arms = {(p.arm.method, p.arm.t0) for pair in found.pairs for p in pair}
    assert arms <= {(m, t) for m in ("sdedit", "xadapter") for t in (0.5, 0.9)}


def test_of_many_scales_the_one_nearest_to_1_is_shown():
    found = [row("base", None), *(row("sdedit", 0.8, scale=s) for s in (0.5, 1.25, 2.0))]
    (pair,) = study(found).pairs
    assert {p.arm.plugin_scale for p in pair} == {1.0, 1.25}


def test_images_that_failed_or_are_not_there_yet_are_left_out():
    found = [row("base", None), row("sdedit", 0.8), row("xadapter", 0.8, status="failed")]
    (pair,) = study(found).pairs
    assert {p.arm.method for p in pair} == {"base", "sdedit"}


def test_nothing_to_compare_is_reported():
    with pytest.raises(UserError, match="no two images of the same plugin"):
        study([row("base", None), row("sdedit", 0.8, case=1)])


def test_arms_are_named_with_what_differs_from_the_usual():
    assert Arm("base", None, 1.0, None).label == "base"
    assert Arm("xadapter", 0.9, 0.5, 1.2).label == "xadapter t0 0.9 plugin x0.5 adapter x1.2"
