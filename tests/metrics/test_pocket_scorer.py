"""The metrics of the shipped pocket scorer: recorded scores, and what its features distinguish."""

import numpy as np
import pytest

from bench.registry import find_metric
from metrics.features import unit
from metrics.pocket_scorer import PocketEncoder
from pocket.scenes import caption, render, scene_at
from tests.metrics.pictures import GivenReferences, image_of

# recorded when each metric had a class of its own; another CPU rounds float32 differently
RECORDED = {
    "pocket-clip": -0.03966513210260447,
    "pocket-fid": 47.19191757057092,
    "pocket-kid": 0.26621840493044013,
    "pocket-kid-floor": 0.9587144300034227,
    "pocket-kid-oracle": 0.9587144300034227,
    "pocket-lpips": 6.800266742706299,
    "pocket-style": -0.05083976776379229,
    "pocket-style-paper": 0.008818781336106883,
}


@pytest.mark.parametrize("name", RECORDED)
def test_scores_are_the_recorded_ones(name):
    images = [image_of(i, prompt=f"prompt {i % 4}") for i in range(6)]
    # of the base model's size: LPIPS of pocket maps enlarges it, and does not shrink the other
    base = image_of(9, picture=render(scene_at(21, 9), "outline", 64), method="base")
    references = GivenReferences(
        base=base,
        bank=[image_of(20 + i, style="outline", method="base") for i in range(5)],
        others=[
            image_of(40 + i, style="outline", method=method, prompt=f"prompt {i % 3}")
            for i in range(6)
            for method in ("oracle", "floor")
        ],
    )
    found = find_metric(name).score(images, references)
    first = found[0] if isinstance(found, list) else found
    assert first.value == pytest.approx(RECORDED[name], rel=1e-4, abs=1e-5)


def test_captions_match_their_own_pictures_better_than_others():
    scenes = [scene_at(9, i) for i in range(8)]
    pictures = unit(PocketEncoder().encode([render(s, "shaded", 128) for s in scenes]))
    cosines = pictures @ unit(PocketEncoder().encode_texts([caption(s) for s in scenes])).T
    assert np.diag(cosines).mean() > cosines.mean() + 0.1


def test_drawings_of_one_style_are_nearer_than_those_of_another():
    flat, outline = (
        unit(PocketEncoder().encode([render(scene_at(8, i), style, 128) for i in range(40)]))
        for style in ("flat", "outline")
    )
    others = ~np.eye(40, dtype=bool)
    assert (outline @ outline.T)[others].mean() > (outline @ flat.T)[others].mean()
