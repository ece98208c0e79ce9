"""The one resize of all metrics: clean-fid's `clean` mode (Parmar et al., arXiv 2104.11222).

Each channel as float, PIL bicubic, which widens its filter when it shrinks; nothing is quantized.
"""

import numpy as np
from PIL import Image

NAME = "PIL bicubic, antialiased, float"


def clean_resize(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Resize uint8 or float RGB [H, W, 3] in 0..255 to (width, height); float32 in 0..255."""
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize(
            size_px, Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    return np.stack([np.asarray(c) for c in channels], axis=-1).clip(0, 255)


def to_size(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 picture to (width, height), rounded; unchanged if it has that size."""
    height, width = image.shape[:2]
    if (width, height) == size_px:
        return image
    return np.rint(clean_resize(image, size_px)).astype(np.uint8)
