import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from metrics.condition.ssim import MS_SSIM_MIN_PX, ms_ssim, ssim


def texture(seed: int, size: int = 192) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.uniform(0, 255, (size // 8, size // 8)), np.ones((8, 8)))


def noisy(plane: np.ndarray, spread: float) -> np.ndarray:
    return (plane + np.random.default_rng(9).normal(0, spread, plane.shape)).clip(0, 255)


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )


@pytest.mark.parametrize("spread", [3, 30, 200])
def test_ssim_is_scikit_images(spread):
    a = texture(0)
    b = noisy(a, spread)
    assert ssim(a, b) == pytest.approx(skimage_ssim(a, b), abs=1e-9)


@pytest.mark.parametrize("spread", [3, 30])
def test_ms_ssim_is_torchmetrics_but_for_its_padded_border_at_the_last_scale(spread):
    a = texture(0, 256)
    b = noisy(a, spread)
    x, y = (torch.from_numpy(p)[None, None] for p in (a, b))
    expected = multiscale_structural_similarity_index_measure(x, y, data_range=255.0)
    assert ms_ssim(a, b) == pytest.approx(float(expected), abs=2e-3)


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_known_pictures_have_known_values(measure):
    a = texture(1)
    assert measure(a, a) == pytest.approx(1.0)
    assert measure(a, 255 - a) <= 0.05
    assert measure(a, np.full_like(a, 128)) < 0.5
    assert measure(a, np.roll(a, 5, axis=1)) < measure(a, noisy(a, 5)) < 1
    assert measure(a, texture(2)) == pytest.approx(measure(texture(2), a))


def test_ssim_of_two_flat_pictures_has_its_closed_form():
    c1 = (0.01 * 255) ** 2
    a, b = np.full((20, 20), 100.0), np.full((20, 20), 50.0)
    assert ssim(a, b) == pytest.approx((2 * 100 * 50 + c1) / (100**2 + 50**2 + c1))


def test_five_scales_fit_the_smallest_size():
    assert np.isfinite(ms_ssim(texture(0, MS_SSIM_MIN_PX), texture(1, MS_SSIM_MIN_PX)))
