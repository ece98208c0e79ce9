import pytest

from metrics.pocket_oracle import POCKET_ORACLE, POCKET_STYLE_RATE, style_of
from pocket.scenes import render, scene_at
from tests.metrics.pictures import NoReferences, image_of


def test_drawn_scenes_are_read_right_and_others_are_not():
    images = [image_of(i, style="flat") for i in range(10)]
    wrong = [
        image_of(i, picture=render(scene_at(21, i + 50), "flat", 128), style="wrong")
        for i in range(10)
    ]
    right = [score.value for score in POCKET_ORACLE.score(images, NoReferences())]
    missed = [score.value for score in POCKET_ORACLE.score(wrong, NoReferences())]
    assert sum(v or 0 for v in right) / 10 > 0.9
    assert sum(v or 0 for v in missed) / 10 < 0.6


@pytest.mark.parametrize("style", ["outline", "hatched"])
def test_style_rate_counts_the_plugins_style(style):
    trigger = f"{style} drawing"
    inside = [image_of(i, style=style, trigger=trigger) for i in range(6)]
    outside = [image_of(i, style="flat", trigger=trigger) for i in range(6)]
    scores = POCKET_STYLE_RATE.score([*inside, *outside], NoReferences())
    assert sum(score.value or 0 for score in scores[:6]) >= 5
    assert sum(score.value or 0 for score in scores[6:]) == 0


def test_only_triggers_that_name_a_style_are_asked():
    assert style_of("outline drawing") == "outline"
    assert style_of(None) is None
    assert not POCKET_STYLE_RATE.applies_to(image_of(0, trigger="anime"))


@pytest.mark.parametrize("metric", [POCKET_ORACLE, POCKET_STYLE_RATE])
def test_selftests_pass(metric):
    assert metric.selftest() is None
