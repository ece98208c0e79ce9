"""Continuous style: 0 on floor, 1 on base + plugin, whatever the own prompt's images are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.registry import find_metric
from metrics.base import ScoredImage, traits_of
from metrics.features import FeatureCache, unit
from metrics.pocket_scorer import PocketEncoder
from metrics.style_projection import POCKET_STYLE_PROJECTION
from tests.metrics.pictures import image_of, random_scorer, random_sha256

N = 16


class RunOf:
    """References as a run gives them: the bank lacks the own prompt, floor does not."""

    def __init__(self, base: list[ScoredImage], floor: list[ScoredImage]) -> None:
        self.features = FeatureCache()
        self.base, self.floor = base, floor

    def base_of(self, image):
        return None

    def floor_of(self, image):
        return None

    def style_bank(self, image):
        return [b for b in self.base if b.prompt != image.prompt]

    def made_by(self, method, image):
        return self.floor if method == "floor" else []


def drawn(style: str, method: str, n: int = N) -> list[ScoredImage]:
    return [image_of(i, style=style, method=method, prompt=f"prompt {i}") for i in range(n)]


BASE, FLOOR = drawn("outline", "base"), drawn("shaded", "floor")


def projection():
    return replace(POCKET_STYLE_PROJECTION, encoder=PocketEncoder(random_scorer, random_sha256))


def values(images: list[ScoredImage], references: RunOf) -> list[float]:
    found = [score.value for score in projection().score(images, references)]
    assert None not in found
    return [value for value in found if value is not None]


class GivenRows:
    """Rows by method and prompt instead of a network."""

    needs = ()

    def __init__(self, looks: dict[str, np.ndarray], noise: float = 0.0) -> None:
        self.looks, self.noise = looks, noise

    def recipe(self) -> str:
        return "given rows"

    def rows(self, images, references) -> np.ndarray:
        noise = [np.random.default_rng([len(i.method), int(i.case_id[5:])]) for i in images]
        drawn = [r.normal(0, self.noise, 4) for r in noise]
        return np.stack([self.looks[i.method] + x for i, x in zip(images, drawn, strict=True)])

    def encode(self, pictures) -> np.ndarray:
        raise NotImplementedError


FLOOR_LOOK, BASE_LOOK = np.array([4.0, -1, 0, 0]), np.array([4.0, 1, 0, 0])
LOOKS = {
    "floor": FLOOR_LOOK,
    "base": BASE_LOOK,
    "xadapter": np.array([4.0, 0, 0, 0]),  # halfway
    "sdedit": np.array([4.0, -1, 3, 0]),  # floor's style, broken otherwise
}


@pytest.mark.parametrize(("method", "place"), [("floor", 0), ("base", 1), ("xadapter", 0.5)])
def test_floor_is_at_0_base_at_1_and_halfway_between(method: str, place: float) -> None:
    exact = replace(POCKET_STYLE_PROJECTION, encoder=GivenRows(LOOKS))
    noisy = replace(POCKET_STYLE_PROJECTION, encoder=GivenRows(LOOKS, noise=0.1))
    images, run = drawn("flat", method), RunOf(BASE, FLOOR)
    found = [score.value for score in exact.score(images, run)]
    assert found == pytest.approx([place] * N)
    means = np.mean([score.value for score in noisy.score(images, run)])
    assert means == pytest.approx(place, abs=0.08)


def test_a_defect_across_the_style_is_not_style() -> None:
    metric = replace(POCKET_STYLE_PROJECTION, encoder=GivenRows(LOOKS))
    found = [s.value for s in metric.score(drawn("flat", "sdedit"), RunOf(BASE, FLOOR))]
    assert np.mean(found) == pytest.approx(0.1, abs=0.1)


def test_drawn_pictures_in_half_of_the_style_are_halfway_for_the_shipped_scorer() -> None:
    run = RunOf(BASE, FLOOR)
    half = [*drawn("outline", "xadapter")[: N // 2], *drawn("shaded", "xadapter")[N // 2 :]]
    means = [
        np.mean([score.value for score in POCKET_STYLE_PROJECTION.score(side, run)])
        for side in (FLOOR, half, BASE)
    ]
    assert means == pytest.approx([0, 0.5, 1], abs=0.1)


def test_it_is_the_projection_on_the_direction_of_other_prompts() -> None:
    image = drawn("hatched", "xadapter")[3]
    rows = {
        m: unit(random_scorer().features([i.load_picture() for i in of if i.prompt != "prompt 3"]))
        for m, of in (("base", BASE), ("floor", FLOOR))
    }
    own = unit(random_scorer().features([image.load_picture()]))[0]
    d = rows["base"].mean(0) - rows["floor"].mean(0)
    expected = (own - rows["floor"].mean(0)) @ d / (d @ d)
    assert values([image], RunOf(BASE, FLOOR)) == pytest.approx([expected], rel=1e-4)


@pytest.mark.parametrize("side", ["base", "floor"])
def test_images_of_the_own_prompt_change_nothing(side: str) -> None:
    image = drawn("outline", "xadapter")[2]
    other = image_of(30, style="hatched", method=side, prompt="prompt 2")
    sides = {"base": [*BASE], "floor": [*FLOOR]}
    sides[side][2] = other
    before, after = values([image], RunOf(BASE, FLOOR)), values([image], RunOf(**sides))
    assert before == after
    changed = drawn("outline", "xadapter")[4]
    assert values([changed], RunOf(BASE, FLOOR)) != values([changed], RunOf(**sides))


def test_the_order_and_the_company_of_images_change_nothing() -> None:
    images, run = drawn("hatched", "xadapter"), RunOf(BASE, FLOOR)
    together = values(images, run)
    assert values(images[::-1], run) == together[::-1]
    assert values(images[3:5], run) == together[3:5]


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (RunOf([], FLOOR), "no base + plugin image of another prompt"),
        (RunOf(BASE, []), "no image of another prompt by the upgraded model"),
        (RunOf(BASE[:1], FLOOR), "no base + plugin image of another prompt"),
        (RunOf(BASE, FLOOR[:1]), "no image of another prompt by the upgraded model"),
        (RunOf([replace(f, method="base") for f in FLOOR], FLOOR), "there is no direction"),
    ],
)
def test_without_a_direction_there_is_no_score(run: RunOf, reason: str) -> None:
    (score,) = projection().score(drawn("outline", "xadapter", 1), run)
    assert score.value is None and reason in (score.reason or "")


def test_a_small_effect_is_measured_in_its_own_units() -> None:
    """A plugin that changes little still has base at 1: only rounding has no direction."""
    faint = [
        image_of(
            i,
            picture=np.clip(f.load_picture().astype(int) + 1, 0, 255).astype(np.uint8),
            style="faint",
            method="base",
            prompt=f.prompt,
        )
        for i, f in enumerate(FLOOR)
    ]
    run = RunOf(faint, FLOOR)
    shift = np.mean(values(faint, run)) - np.mean(values(FLOOR, run))
    assert shift == pytest.approx(1, abs=0.1)


def test_it_applies_where_a_plugin_changes_the_style() -> None:
    assert projection().applies_to(image_of(0, kind="lora"))
    assert not projection().applies_to(image_of(0, kind="controlnet"))


def test_the_projection_precedes_the_rate_which_is_computed_beside_it() -> None:
    rate = traits_of(find_metric("pocket-style-rate"))
    own = traits_of(POCKET_STYLE_PROJECTION)
    assert own.role == rate.role == "function" and own.rank < rate.rank
    assert own.beside == ("pocket-style-rate",)
