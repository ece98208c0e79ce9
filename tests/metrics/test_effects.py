"""Effects of a plugin on two models: exact on small examples, without bias under noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from metrics.base import Score, ScoredImage, traits_of
from metrics.effects import (
    EFFECT_KEPT,
    POCKET_EFFECT_CONSISTENCY,
    POCKET_EFFECT_DIRECTION,
    POCKET_EFFECT_KEPT,
    POCKET_EFFECT_STRENGTH,
    Effects,
    consistency,
    product,
)
from metrics.features import FeatureCache
from metrics.sets.formulas import cross_prompt_means
from tests.metrics.pictures import image_of

N = 12
OLD, NEW = np.array([0.0, 0, 1, 0]), np.array([0.0, 0, 0, 1])  # looks of the two models
EFFECT, OTHER = np.array([1.0, 0, 0, 0]), np.array([0.0, 1, 0, 0])


class Rows:
    """Rows of length 1 by method, with noise of each image, instead of a network.

    `shares` is how far a method turns from its model's look to the effect, in radians.
    """

    needs = ()

    def __init__(self, shares: dict[str, float], noise: float = 0.0) -> None:
        self.shares, self.noise = shares, noise

    def recipe(self) -> str:
        return "given rows"

    def rows(self, images, references) -> np.ndarray:
        return np.stack([self._row(image) for image in images])

    def encode(self, pictures) -> np.ndarray:
        raise NotImplementedError

    def _row(self, image: ScoredImage) -> np.ndarray:
        look = OLD if image.method.startswith("base") else NEW
        angle = self.shares.get(image.method, 0.0)
        effect = OTHER if image.method == "other" else EFFECT
        row = math.cos(angle) * look + math.sin(angle) * effect
        drawn = np.random.default_rng([*map(ord, image.trial_id)]).normal(0, self.noise, 4)
        return row + drawn


class Run:
    """References as a run gives them."""

    def __init__(self, *methods: str, n: int = N, seeds: int = 1) -> None:
        self.features = FeatureCache()
        self.made = {method: images(method, n, seeds) for method in methods}

    def base_of(self, image):
        return None

    def floor_of(self, image):
        floor = {(i.case_id, i.seed): i for i in self.made.get("floor", [])}
        return floor.get((image.case_id, image.seed))

    def style_bank(self, image):
        return []

    def made_by(self, method, image):
        return self.made.get(method, [])


def images(method: str, n: int = N, seeds: int = 1) -> list[ScoredImage]:
    return [
        image_of(i, method=method, prompt=f"prompt {i}", seed=seed, style="flat")
        for i in range(n)
        for seed in range(seeds)
    ]


RUN = Run("base", "base-floor", "floor")
WHOLE = {"base": 0.4, "same": 0.4, "less": 0.2, "other": 0.4}
SETS = {
    "strength": POCKET_EFFECT_STRENGTH,
    "direction": POCKET_EFFECT_DIRECTION,
    "consistency": POCKET_EFFECT_CONSISTENCY,
}


def of_set(part: str, method: str, encoder: Rows, run: Run = RUN, **size) -> Score:
    return replace(SETS[part], encoder=encoder).score(images(method, **size), run)


def kept(method: str, encoder: Rows, run: Run = RUN, **size) -> list[float | None]:
    metric = replace(POCKET_EFFECT_KEPT, encoder=encoder)
    return [score.value for score in metric.score(images(method, **size), run)]


def test_the_same_effect_in_the_same_features_is_whole() -> None:
    """On one model (the old look on both sides) equal images give 1 everywhere."""
    same = {"base": 0.4, "base2": 0.4}
    run = Run("base", "base-floor", "floor")
    run.made["floor"] = images("base-floor")
    for part in SETS:
        assert of_set(part, "base2", Rows(same), run).value == pytest.approx(1)
    assert kept("base2", Rows(same), run) == pytest.approx([1.0] * N)


def test_the_base_row_is_its_own_measure() -> None:
    for part in SETS:
        assert of_set(part, "base", Rows(WHOLE)).value == pytest.approx(1)
    noisy = [v for v in kept("base", Rows(WHOLE, noise=0.2)) if v is not None]
    assert np.mean(noisy) == pytest.approx(1)  # exactly: the same pairs are above and below


def test_without_an_effect_the_strength_is_0_and_there_is_no_direction() -> None:
    run = Run("base", "base-floor", "floor")
    run.made["floor"] = images("floor")
    encoder = Rows(WHOLE, noise=0.1)
    assert of_set("strength", "floor", encoder, run).value == 0
    assert kept("floor", encoder, run) == [0.0] * N
    found = of_set("direction", "floor", encoder, run)
    assert found.value is None and "no direction" in (found.reason or "")
    found = of_set("consistency", "floor", encoder, run)
    assert found.value is None and "fewer than 2 prompts" in (found.reason or "")


def test_half_of_an_effect_has_half_of_its_strength() -> None:
    # chords of the unit circle: 2 sin(angle / 2)
    ratio = math.sin(0.1) / math.sin(0.2)
    assert of_set("strength", "less", Rows(WHOLE)).value == pytest.approx(ratio)


def test_another_effect_has_strength_and_no_share() -> None:
    """Across the old one: the models' looks are at right angles too, so that nothing is common."""
    encoder = Rows(WHOLE)
    assert of_set("strength", "other", encoder).value == pytest.approx(1)
    assert of_set("direction", "other", encoder).value == pytest.approx(0, abs=1e-12)
    assert kept("other", encoder) == pytest.approx([0.0] * N, abs=1e-12)


def test_the_share_kept_is_strength_times_direction() -> None:
    encoder, run = Rows(WHOLE, noise=0.1), Run("base", "base-floor", "floor", seeds=2)
    parts = [of_set(p, "less", encoder, run, seeds=2).value for p in ("strength", "direction")]
    shares = kept("less", encoder, run, seeds=2)
    assert None not in parts and None not in shares
    assert np.mean(shares) == pytest.approx(np.prod(parts))


def test_noise_alone_is_no_effect_on_average() -> None:
    """Mean norms would call it strong: every image differs from the one without the plugin."""
    shares = kept("nothing", Rows(WHOLE, noise=0.3), Run("base", "base-floor", "floor", n=60), n=60)
    values = np.array(shares, float)
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))


def test_images_that_share_their_noise_with_the_base_images_gain_nothing_by_it() -> None:
    """As SDEdit's, which are redrawn base images: pairs of one prompt would look like an effect."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 8))
    prompts = [f"prompt {i}" for i in range(400)]
    shared = Effects(noise, prompts)
    found = product(shared, shared)
    assert (noise**2).sum(axis=1).mean() > 7
    assert abs(found.value) < 0.1


def test_products_are_those_of_pairs_of_different_prompts_and_so_without_each() -> None:
    rng = np.random.default_rng(1)
    a = Effects(rng.normal(size=(10, 6)), [f"p{i % 4}" for i in range(10)])
    b = Effects(rng.normal(size=(9, 6)), [f"p{i % 5}" for i in range(9)])
    expected = cross_prompt_means(
        a.rows, b.rows, prompts_x=a.prompts, prompts_y=b.prompts, kernel=lambda x, y: x @ y.T
    )
    found = product(a, b)
    assert found.value == pytest.approx(expected[0])
    assert dict(found.without) == pytest.approx(expected[1])
    with pytest.raises(ValueError, match="2 prompts on each side"):
        product(a, Effects(b.rows[:1], b.prompts[:1]))


def test_consistency_is_the_mean_cosine_of_different_prompts() -> None:
    rows = np.array([[3.0, 0], [0, 2], [1, 1], [0, 0]])
    found = consistency(Effects(rows, ["a", "b", "c", "d"]))
    assert found is not None
    assert found.value == pytest.approx((0 + math.sqrt(0.5) + math.sqrt(0.5)) / 3)
    assert consistency(Effects(rows[:2], ["a", "a"])) is None


def test_values_without_a_prompt_are_those_of_a_run_without_it() -> None:
    encoder = Rows(WHOLE, noise=0.1)
    smaller = Run("base", "base-floor", "floor", n=N - 1)
    for part in SETS:
        left = of_set(part, "less", encoder).leave_one_out
        expected = of_set(part, "less", encoder, smaller, n=N - 1).value
        assert left is not None and left[f"prompt {N - 1}"] == pytest.approx(expected)


def test_order_and_company_change_nothing() -> None:
    metric = replace(POCKET_EFFECT_KEPT, encoder=Rows(WHOLE, noise=0.1))
    forward = metric.score(images("less"), RUN)
    assert metric.score(images("less")[::-1], RUN) == forward[::-1]
    assert metric.score(images("less")[3:5], RUN) == forward[3:5]


@pytest.mark.parametrize(
    ("run", "method", "reason"),
    [
        (Run("base", "floor"), "less", "add the methods base and base-floor"),
        (Run("base-floor", "floor"), "less", "add the methods base and base-floor"),
        (Run("base", "base-floor"), "less", "no image of this case and seed by the upgraded"),
        (Run("base", "base-floor", "floor", n=1), "base", "of 2 prompts"),
        (RUN, "base-floor", "self-reference"),
    ],
)
def test_missing_references_are_named(run: Run, method: str, reason: str) -> None:
    metric = replace(POCKET_EFFECT_KEPT, encoder=Rows(WHOLE))
    found = [*metric.score(images(method), run), of_set("strength", method, Rows(WHOLE), run)]
    assert all(score.value is None for score in found)
    assert any(reason in (score.reason or "") for score in found)


def test_a_plugin_without_effect_on_the_base_model_is_not_measured() -> None:
    idle = Rows({"less": 0.2})
    for score in (of_set("strength", "less", idle), of_set("direction", "less", idle)):
        assert score.value is None and "has no effect" in (score.reason or "")
    assert kept("less", idle) == [None] * N


def test_it_is_the_function_of_last_resort_and_brings_its_row() -> None:
    own = traits_of(EFFECT_KEPT)
    assert own.role == "function" and own.is_fallback and own.brings == ("base-floor",)
    for kind in ("lora", "controlnet", "ip_adapter"):
        assert EFFECT_KEPT.applies_to(image_of(0, kind=kind))
