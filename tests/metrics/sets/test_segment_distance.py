"""Quality without style, on given features and drawn pictures whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.registry import find_metric, installed
from metrics.base import ScoredImage, traits_of
from metrics.pocket_scorer import PocketEncoder
from metrics.sets.formulas import CMMD_SCALE, cross_prompt_kernel_distance
from metrics.sets.run_distance import POCKET_KID_FLOOR
from metrics.sets.segment import Rows, place_on_segment
from metrics.sets.segment_distance import (
    CMMD_PLACE,
    CMMD_REST,
    POCKET_PLACE,
    POCKET_REST,
    SegmentDistance,
)
from tests.metrics.pictures import GivenReferences, image_of, random_scorer, random_sha256

D = 8
N_PROMPTS, N_SEEDS = 40, 2
STYLE, DEFECT = np.r_[1.5, np.zeros(D - 1)], np.r_[0.0, 2.0, np.zeros(D - 2)]


class GivenRows:
    """Rows by trial id instead of a network."""

    needs = ()

    def __init__(self, rows: dict[str, np.ndarray]) -> None:
        self.of_trial = rows

    def recipe(self) -> str:
        return "given rows"

    def rows(self, images, references) -> np.ndarray:
        return np.stack([self.of_trial[image.trial_id] for image in images])

    def encode(self, pictures) -> np.ndarray:
        raise NotImplementedError


def world(seed: int = 0) -> tuple[dict[str, list[ScoredImage]], dict[str, np.ndarray]]:
    """Return images by method and their features: content of the prompt, noise, style, defect.

    Of "mixed" 30 % of the images have the style; "broken" has style and defect.
    """
    rng = np.random.default_rng(seed)
    content = rng.normal(0, 1, (N_PROMPTS, D))
    looks = {"floor": 0 * STYLE, "oracle": STYLE, "mixed": 0 * STYLE, "broken": STYLE + DEFECT}
    blank = np.zeros((2, 2, 3), np.uint8)
    images: dict[str, list[ScoredImage]] = {}
    rows: dict[str, np.ndarray] = {}
    for method, look in looks.items():
        for i in range(N_PROMPTS * N_SEEDS):
            prompt, seed_of_image = i % N_PROMPTS, i // N_PROMPTS
            image = image_of(
                prompt, picture=blank, method=method, prompt=f"prompt {prompt}", seed=seed_of_image
            )
            own = STYLE if method == "mixed" and i % 10 < 3 else look
            images.setdefault(method, []).append(image)
            rows[image.trial_id] = content[prompt] + rng.normal(0, 0.3, D) + own
    return images, rows


def score_of(metric: SegmentDistance, method: str, *, drop: str | None = None):
    images, rows = world()
    kept = {m: [i for i in of if i.prompt != drop] for m, of in images.items()}
    references = GivenReferences(others=[*kept["floor"], *kept["oracle"]])
    return replace(metric, encoder=GivenRows(rows)).score(kept[method], references)


def test_a_mixture_of_floor_and_oracle_is_no_distance_away_at_its_share() -> None:
    rest, place = (score_of(metric, "mixed") for metric in (POCKET_REST, POCKET_PLACE))
    broken = score_of(POCKET_REST, "broken")
    assert place.value == pytest.approx(0.3, abs=0.05)
    assert broken.value is not None and rest.value is not None
    assert abs(rest.value) < 0.02 * broken.value


def test_a_defect_without_style_raises_the_distance_alone() -> None:
    oracle, broken = (score_of(POCKET_REST, method) for method in ("oracle", "broken"))
    assert oracle.value == pytest.approx(0, abs=1e-9)
    assert broken.value is not None and broken.value > 0.3
    assert score_of(POCKET_PLACE, "broken").value == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("method", "place"), [("floor", 0.0), ("oracle", 1.0)])
def test_the_ends_of_the_segment_are_on_it(method: str, place: float) -> None:
    assert score_of(POCKET_REST, method).value == pytest.approx(0, abs=1e-9)
    assert score_of(POCKET_PLACE, method).value == pytest.approx(place)


@pytest.mark.parametrize("metric", [POCKET_REST, POCKET_PLACE, CMMD_REST, CMMD_PLACE])
def test_values_without_a_prompt_are_those_of_a_run_without_it(metric: SegmentDistance) -> None:
    left = score_of(metric, "mixed").leave_one_out
    assert left is not None and len(left) == N_PROMPTS
    for prompt in ("prompt 0", "prompt 17"):
        assert left[prompt] == pytest.approx(score_of(metric, "mixed", drop=prompt).value)


def test_a_prompt_that_a_reference_lacks_is_left_out_of_the_others() -> None:
    rng = np.random.default_rng(3)
    names = [f"p{i}" for i in range(6)]
    arm, floor = (Rows(rng.normal(0, 1, (6, D)), names) for _ in range(2))
    oracle = Rows(rng.normal(1, 1, (5, D)), names[1:])
    found = place_on_segment(arm, floor, oracle)
    direct = place_on_segment(*(Rows(r.features[1:], names[1:]) for r in (arm, floor)), oracle)
    assert found.rest_without["p0"] == pytest.approx(direct.rest)
    assert found.w_without["p0"] == pytest.approx(direct.w)


def test_the_distance_to_clips_segment_has_the_scale_of_cmmd() -> None:
    images, rows = world()
    a, f, o = (
        Rows(np.stack([rows[i.trial_id] for i in images[m]]), [i.prompt for i in images[m]])
        for m in ("broken", "floor", "oracle")
    )
    unit = [
        Rows(r.features / np.linalg.norm(r.features, axis=1)[:, None], r.prompts) for r in (a, f, o)
    ]

    def gaussian(x, y):
        return np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / 200)

    expected = CMMD_SCALE * place_on_segment(*unit, kernel=gaussian).rest
    assert score_of(CMMD_REST, "broken").value == pytest.approx(expected)


def test_without_native_images_the_distance_to_floor_is_named() -> None:
    images, rows = world()
    found = replace(POCKET_REST, encoder=GivenRows(rows)).score(
        images["mixed"], GivenReferences(others=images["floor"])
    )
    assert found.value is None and found.reason is not None
    assert "method oracle" in found.reason and "pocket-kid-floor" in found.reason
    no_floor = replace(POCKET_REST, encoder=GivenRows(rows)).score(
        images["mixed"], GivenReferences(others=images["oracle"])
    )
    assert no_floor.value is None and "method floor" in (no_floor.reason or "")


def test_equal_floor_and_oracle_have_no_places_between_them() -> None:
    images, rows = world()
    natives = [replace(i, method="oracle", trial_id=f"o-{i.trial_id}") for i in images["floor"]]
    rows |= {i.trial_id: rows[i.trial_id.removeprefix("o-")] for i in natives}
    references = GivenReferences(others=[*images["floor"], *natives])
    place = replace(POCKET_PLACE, encoder=GivenRows(rows)).score(images["broken"], references)
    assert place.value is None and "told apart" in (place.reason or "")
    rest = replace(POCKET_REST, encoder=GivenRows(rows)).score(images["broken"], references)
    direct, _ = cross_prompt_kernel_distance(
        *(np.stack([rows[i.trial_id] for i in images[m]]) for m in ("broken", "floor")),
        prompts_x=[i.prompt for i in images["broken"]],
        prompts_y=[i.prompt for i in images["floor"]],
    )
    assert rest.value == pytest.approx(direct) and "distance to floor" in (rest.reason or "")


@pytest.mark.parametrize("metric", [POCKET_REST, POCKET_PLACE])
def test_sets_that_are_too_small_are_null_with_the_reason(metric: SegmentDistance) -> None:
    images, rows = world()
    references = GivenReferences(others=[*images["floor"], *images["oracle"]])
    given = replace(metric, encoder=GivenRows(rows))
    assert given.score([], references).reason == "there are no images"
    assert "2 prompts" in (given.score(images["mixed"][:1], references).reason or "")


def test_native_pictures_are_farther_from_floor_than_from_the_segment() -> None:
    """On drawn pictures: the plugin's style is no loss, that of another plugin is."""
    encoder = PocketEncoder(random_scorer, random_sha256)
    natives = [image_of(i, method="oracle", style="outline") for i in range(24)]
    floor = [image_of(i, method="floor") for i in range(24)]
    references = GivenReferences(others=[*natives, *floor])
    styled = [image_of(40 + i, style="outline") for i in range(24)]
    rest = replace(POCKET_REST, encoder=encoder).score(styled, references)
    away = replace(POCKET_KID_FLOOR, encoder=encoder).score(styled, references)
    assert rest.value is not None and away.value is not None
    assert abs(rest.value) < away.value / 3


def test_metrics_that_name_others_name_installed_ones() -> None:
    names = installed("metrics")
    for name in names:
        metric = find_metric(name)
        traits = traits_of(metric)
        named = [*traits.beside, getattr(metric, "floor_distance", name)]
        assert set(named) <= set(names)
        if traits.axis is not None:
            assert traits.axis.scale > 0 and metric.level == "group"
            assert (traits.axis.reference == "segment") == (traits.axis.place is not None)
            assert traits.axis.place in (None, *names)


def test_a_distance_that_serves_instead_measures_from_floor() -> None:
    segments = [find_metric(n) for n in installed("metrics") if n.endswith("-rest")]
    assert len(segments) == 3
    for segment in segments:
        own, floor = traits_of(segment), traits_of(find_metric(segment.floor_distance))
        assert own.axis is not None and floor.axis is not None
        assert (floor.axis.reference, floor.axis.scale) == ("floor", own.axis.scale)
        assert floor.role == "quality" and own.role is None
