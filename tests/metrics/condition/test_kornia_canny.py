import kornia
import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_f1_score

from metrics.condition.kornia_canny import EDGE_F1_KORNIA, kornia_canny
from pocket.scenes import render, scene_at
from tests.metrics.pictures import NoReferences, image_of


def smooth_noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 12, 16)))
    fine = torch.nn.functional.interpolate(coarse, (96, 128), mode="bicubic")
    return fine[0].numpy().transpose(1, 2, 0).clip(0, 255).astype(np.uint8)


PICTURES = [
    *(smooth_noise(i) for i in range(3)),
    *(render(scene_at(3, i), style, 96) for i, style in enumerate(("flat", "shaded", "hatched"))),
    np.full((40, 30, 3), 90, np.uint8),
]


@pytest.mark.parametrize("picture", PICTURES, ids=range(len(PICTURES)))
def test_edges_are_kornias(picture):
    x = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()).double() / 255
    expected = kornia.filters.canny(x)[1][0, 0].numpy() > 0
    assert np.array_equal(kornia_canny(picture)[..., 0] > 0, expected)


def score(picture: np.ndarray, source: np.ndarray) -> float | None:
    image = image_of(0, picture=picture, condition=source, detector="canny", source=source)
    return EDGE_F1_KORNIA.score([image], NoReferences())[0].value


def test_f1_is_torchmetrics():
    a, b = smooth_noise(0), np.roll(smooth_noise(0), 1, axis=1)
    edges = (torch.from_numpy(kornia_canny(p)[..., 0] // 255) for p in (a, b))
    assert score(a, b) == pytest.approx(float(binary_f1_score(*edges)))


def test_known_pictures_have_known_values():
    source = smooth_noise(1)
    assert score(source, source) == 1
    assert score(np.full_like(source, 7), source) == 0
    shifted = score(np.roll(source, 4, axis=0), source)
    assert shifted is not None and shifted < 0.5
    inverted = score(255 - source, source)
    assert inverted is not None and inverted > 0.98  # the same edges, but for ties


def test_without_a_source_picture_there_is_no_score():
    image = image_of(0, condition=smooth_noise(0), detector="canny")
    found = EDGE_F1_KORNIA.score([image], NoReferences())[0]
    assert found.value is None and "no source picture" in (found.reason or "")
