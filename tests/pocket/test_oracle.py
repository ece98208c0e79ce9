"""Claims about the analytic oracle of pocket pictures."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pocket.oracle import (
    N_SHAPES,
    _fill_style,
    _regions,
    _shape_references,
    _style_of,
    check,
    draw_shapes,
    read_style,
)
from pocket.scenes import COLORS, STYLES, Style, render, scene_at

N_SCENES = 60


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size_px", [64, 128])
def test_the_oracle_reads_every_attribute_of_drawn_scenes(style: Style, size_px: int) -> None:
    scenes = [scene_at(40, i) for i in range(N_SCENES)]
    readings = [check(render(s, style, size_px), s) for s in scenes]
    assert np.mean([r.accuracy for r in readings]) == 1.0


@pytest.mark.parametrize("style", STYLES)
def test_the_oracle_names_the_style(style: Style) -> None:
    pictures = [render(scene_at(41, i), style, 128) for i in range(N_SCENES)]
    assert np.mean([read_style(p) == style for p in pictures]) >= 0.95


def test_the_shipped_shapes_are_the_drawn_ones() -> None:
    features, labels = draw_shapes(n=30)
    kept_features, kept_labels, _ = _shape_references()
    assert len(kept_features) == len(kept_labels) == N_SHAPES
    np.testing.assert_allclose(features, kept_features[:30], rtol=1e-9)
    assert list(labels) == list(kept_labels[:30])


def test_a_wrong_color_shape_background_or_count_is_noticed() -> None:
    scene = next(s for i in range(99) if len((s := scene_at(42, i)).objects) == 1)
    (item,) = scene.objects
    other_color = next(c for c in COLORS if c != item.color)
    other_shape = "star" if item.shape != "star" else "circle"
    other_background = "teal" if scene.background != "teal" else "pink"
    drawn = render(scene, "flat", 128)
    wrong_color = check(drawn, replace(scene, objects=(replace(item, color=other_color),)))
    assert not wrong_color.colors and not wrong_color.shapes and not wrong_color.count
    wrong_shape = check(drawn, replace(scene, objects=(replace(item, shape=other_shape),)))
    assert wrong_shape.colors and not wrong_shape.shapes
    assert not check(drawn, replace(scene, background=other_background)).background
    empty = render(replace(scene, objects=()), "flat", 128)
    assert not check(empty, scene).count
    assert read_style(empty) is None


def test_a_mirrored_picture_breaks_the_relation() -> None:
    scene = next(s for i in range(99) if (s := scene_at(43, i)).relation == "left of")
    mirrored = cv2.flip(render(scene, "shaded", 128), 1)
    assert check(mirrored, scene).relation is False
    assert check(render(scene, "shaded", 128), scene).relation is True


def test_depth_inside_an_object_is_the_exact_distance() -> None:
    """Bare two thirds of the exact interior are an outline; a 5 x 5 mask sees more interior."""
    (*_, (_, region)) = _regions(render(scene_at(41, 50), "flat", 128))
    outside = np.argwhere(np.pad(region, 1) == 0) - 1
    pixels = np.argwhere(region)
    depth = np.sqrt(((pixels[:, None] - outside[None]) ** 2).sum(-1).min(1))
    inside = pixels[depth > min(8.5, 0.75 * depth.max())]
    bare = np.zeros(region.shape, bool)
    bare[tuple(inside[: int(0.68 * len(inside))].T)] = True
    assert 0.65 < bare[tuple(inside.T)].mean() < 0.7
    assert _fill_style(region, bare) == "outline"


def test_the_style_is_that_of_most_of_the_area_and_not_of_the_largest_piece() -> None:
    plain = np.full((128, 128, 3), 245, np.uint8)

    pieces: list[tuple[Style, float]] = [("flat", 300), ("hatched", 200), ("hatched", 180)]
    assert _style_of(plain, pieces) == "hatched"
    assert _style_of(plain, pieces[::-1]) == "hatched"
    assert _style_of(plain, pieces[:2]) == "flat"
    assert _style_of(plain, []) is None


def test_two_small_outlines_outweigh_one_larger_flat_object_in_a_picture() -> None:
    picture = np.full((128, 128, 3), 245, np.uint8)
    cv2.circle(picture, (34, 34), 28, COLORS["red"], -1)
    cv2.circle(picture, (96, 96), 21, COLORS["blue"], 5)
    cv2.circle(picture, (30, 98), 21, COLORS["green"], 5)
    assert read_style(picture) == "outline"


def test_gaps_in_contours_do_not_hide_a_style() -> None:
    """Models draw stripes that run into the background and contours that do not close."""
    plain = np.full((128, 128, 3), 245, np.uint8)
    ring = cv2.circle(plain.copy(), (64, 64), 30, COLORS["red"], 5)
    ring[60:68, 90:] = 245
    assert read_style(ring) == "outline"
    stripes = cv2.circle(plain.copy(), (64, 64), 30, COLORS["red"], -1)
    for x in range(-64, 128, 21):
        cv2.line(stripes, (x, 0), (x + 128, 128), (245, 245, 245), 5)
    assert read_style(stripes) == "hatched"
