"""Structural similarity of two gray pictures, at one scale and at five.

SSIM: Wang et al. 2004, eq. 13, Gaussian window of 11 px and sigma 1.5, where it is fully inside.
MS-SSIM: Wang et al. 2003, eq. 7.
"""

import numpy as np

WINDOW_PX, SIGMA = 11, 1.5
MS_SSIM_MIN_PX = 176  # five scales leave one window
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return SSIM of planes [H, W] in 0..255, 11 px at least; 1 for equal ones."""
    return _terms(a.astype(np.float64), b.astype(np.float64))[0]


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return MS-SSIM of planes [H, W] in 0..255, `MS_SSIM_MIN_PX` at least; no negative terms."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    value = 1.0
    for scale, weight in enumerate(_WEIGHTS):
        similarity, contrast = _terms(x, y)
        is_last = scale == len(_WEIGHTS) - 1
        value *= max(similarity if is_last else contrast, 0.0) ** weight
        x, y = _halved(x), _halved(y)
    return value


def _terms(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the mean of SSIM, and of its contrast-structure part."""
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    contrast = (2 * covariance + _C2) / (variances + _C2)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return float((luminance * contrast).mean()), float(contrast.mean())


def _blur(plane: np.ndarray) -> np.ndarray:
    import cv2

    edge = WINDOW_PX // 2
    return cv2.GaussianBlur(plane, (WINDOW_PX, WINDOW_PX), SIGMA)[edge:-edge, edge:-edge]


def _halved(plane: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in plane.shape)
    quads = plane[:height, :width].reshape(height // 2, 2, width // 2, 2)
    return quads.mean(axis=(1, 3))
