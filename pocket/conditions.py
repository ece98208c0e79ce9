"""Detectors without weights: condition images of pocket ControlNets.

Both take and return uint8 RGB, H x W x 3, and run at the base model's size.
"""

import numpy as np

CANNY_THRESHOLDS = (150, 300)


def canny(image: np.ndarray) -> np.ndarray:
    """Return Canny edges (0 or 255) of a color image, the strongest channel at each pixel."""
    import cv2

    edges = cv2.Canny(np.ascontiguousarray(image), *CANNY_THRESHOLDS)
    return np.repeat(edges[..., None], 3, -1)


def mask(image: np.ndarray) -> np.ndarray:
    """Return silhouettes (0 or 255): regions more saturated than any background, holes filled."""
    import cv2

    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV_FULL)
    inside = ((hsv[..., 1] > 128) & (hsv[..., 2] > 50)).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(inside)
    cv2.drawContours(filled, contours, -1, (255,), -1)
    return np.repeat(filled[..., None], 3, -1)
