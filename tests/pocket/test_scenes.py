"""Claims about the pocket world's scenes."""

import numpy as np
import pytest

from pocket.scenes import STYLES, SceneObject, caption, outline_points, render, scene_at
from pocket.tokenizer import WORDS, unknown_words


def test_a_scene_depends_on_its_seed_and_index_alone() -> None:
    assert scene_at(3, 17) == scene_at(3, 17)
    assert len({scene_at(3, i) for i in range(50)}) == 50


def test_every_caption_stays_inside_the_vocabulary() -> None:
    for i in range(200):
        for style in STYLES:
            assert unknown_words(caption(scene_at(1, i), style)) == []


def test_a_lora_style_puts_its_trigger_at_the_end() -> None:
    scene = scene_at(1, 0)
    assert caption(scene, "outline") == caption(scene) + " outline drawing"
    assert caption(scene, "shaded") == caption(scene)


@pytest.mark.parametrize("style", STYLES)
def test_the_same_scene_is_drawn_alike_at_both_sizes(style: str) -> None:
    for i in range(10):
        large, small = render(scene_at(2, i), style, 128), render(scene_at(2, i), style, 64)
        halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(halved - small).mean() < 3.0


def test_objects_stay_inside_the_picture_and_relations_hold() -> None:
    for i in range(300):
        scene = scene_at(4, i)
        for item in scene.objects:
            assert np.all((outline_points(item) > -0.06) & (outline_points(item) < 1.06))
        if scene.relation:
            assert _holds(*scene.objects, scene.relation)


def _holds(a: SceneObject, b: SceneObject, relation: str) -> bool:
    step = {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}
    return step[relation] > a.radius + b.radius


def test_vocabulary_has_no_double_words() -> None:
    assert len(set(WORDS)) == len(WORDS)
