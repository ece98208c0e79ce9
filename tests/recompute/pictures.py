"""What is found in a picture, without cv2: edges, silhouettes, and the pocket world's styles."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

EIGHT = np.ones((3, 3), bool)
# pocket's own thresholds, on the channel with the strongest gradient
CANNY_LOW, CANNY_HIGH = 150, 300


def resized(picture: np.ndarray, size_px: int) -> np.ndarray:
    """Shrink a square uint8 picture by cubic convolution, a = -.5, as wide as the scale; round."""
    side = picture.shape[0]
    if side == size_px:
        return picture
    weights = np.zeros((size_px, side))
    scale = side / size_px
    reach = 2 * max(scale, 1)
    for i in range(size_px):
        center = (i + 0.5) * scale
        first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), side)
        x = np.abs((np.arange(first, last) + 0.5 - center) / max(scale, 1))
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        part = np.where(x < 1, near, np.where(x < 2, far, 0))
        weights[i, first:last] = part / part.sum()
    across = np.einsum("ij,yjc->yic", weights, picture.astype(float)).astype(np.float32)
    both = np.einsum("ij,jxc->ixc", weights, across.astype(float)).astype(np.float32)
    return np.rint(both.clip(0, 255)).astype(np.uint8)


def canny(picture: np.ndarray) -> np.ndarray:
    """Return Canny edges [H, W] (Canny 1986): L1 norm, four directions, 8-connected hysteresis."""
    gradients = [
        [ndimage.sobel(picture[..., c].astype(int), axis=axis, mode="nearest") for axis in (1, 0)]
        for c in range(3)
    ]
    norms = np.stack([np.abs(dx) + np.abs(dy) for dx, dy in gradients])
    strongest = norms.argmax(axis=0)[None]
    norm = norms.max(axis=0)
    dx, dy = (
        np.take_along_axis(np.stack([g[k] for g in gradients]), strongest, 0)[0] for k in (0, 1)
    )
    around = np.pad(norm, 1)

    def beside(step_y: int, step_x: int) -> np.ndarray:
        height, width = norm.shape
        return around[1 + step_y : 1 + step_y + height, 1 + step_x : 1 + step_x + width]

    # tan(22.5 deg) in fixed point of 15 bits, as integer implementations have it
    ratio = np.abs(dx) * 13573
    steep = np.abs(dy) << 15
    flat, upright = steep < ratio, steep > ratio + (np.abs(dx) << 16)
    falling = (dx ^ dy) < 0
    diagonal = np.where(
        falling,
        (norm > beside(-1, 1)) & (norm > beside(1, -1)),
        (norm > beside(-1, -1)) & (norm > beside(1, 1)),
    )
    largest = np.where(
        flat,
        (norm > beside(0, -1)) & (norm >= beside(0, 1)),
        np.where(upright, (norm > beside(-1, 0)) & (norm >= beside(1, 0)), diagonal),
    )
    weak = largest & (norm > CANNY_LOW)
    labels, n = ndimage.label(weak, EIGHT)
    strong = np.unique(labels[weak & (norm > CANNY_HIGH)])
    return np.isin(labels, strong[strong > 0]) if n else weak


def saturated(picture: np.ndarray) -> np.ndarray:
    """Return the pixels [H, W] whose HSV saturation is above one half and value above 50."""
    value = picture.max(axis=-1).astype(int)
    spread = value - picture.min(axis=-1)
    inverse = np.rint((255 << 12) / np.maximum(value, 1)).astype(int)
    saturation = (spread * np.where(value > 0, inverse, 0) + (1 << 11)) >> 12
    return (saturation > 128) & (value > 50)


def silhouettes(picture: np.ndarray) -> np.ndarray:
    """Return the saturated regions [H, W] with their holes filled."""
    return ndimage.binary_fill_holes(saturated(picture))


def overlap(found: np.ndarray, wanted: np.ndarray, tolerance_px: int) -> tuple[float, float]:
    """Return precision and recall within a distance (Euclidean); NaN where nothing is there."""

    def share(of: np.ndarray, near: np.ndarray) -> float:
        if not of.any():
            return float("nan")
        if not near.any():
            return 0.0
        return float((ndimage.distance_transform_edt(~near)[of] <= tolerance_px).mean())

    return share(found, wanted), share(wanted, found)


def read_style(picture: np.ndarray) -> str | None:
    """Read the style of a 128 px picture: that of most of the pieces' area; None without one."""
    edge = [picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]]
    border = np.median(np.concatenate([e.reshape(-1, 3) for e in edge]), axis=0)
    bare = np.abs(picture.astype(int) - border.astype(float)).max(axis=-1) < 45
    areas: dict[str, int] = {}
    for piece in _pieces(picture):
        style = _fill(piece, bare)
        areas[style] = areas.get(style, 0) + int(piece.sum())
    if not areas:
        return None
    style = max(areas, key=lambda s: (areas[s], s))
    if style != "flat":
        return style
    top, bottom = (np.median(p.reshape(-1, 3), axis=0).mean() for p in (picture[:4], picture[-4:]))
    return "shaded" if (top - bottom) / max(1.0, top) > 0.05 else "flat"


def _pieces(picture: np.ndarray) -> list[np.ndarray]:
    """Return the filled regions with 70 pixels or more, gaps of their contours closed."""
    labels, n = ndimage.label(_filled(_closed(_opened(saturated(picture)))), EIGHT)
    found = [labels == label for label in range(1, n + 1)]
    return [piece for piece in found if piece.sum() >= 70]


def _fill(piece: np.ndarray, bare: np.ndarray) -> str:
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1].astype(np.float32)
    share = bare[depth > min(8.5, 0.75 * depth.max())].mean()
    return "flat" if share < 0.12 else "hatched" if share < 0.65 else "outline"


def _filled(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(mask)


def _opened(mask: np.ndarray) -> np.ndarray:
    """Return a 2 x 2 opening whose anchor is the lower right pixel, in both steps."""
    square = {"structure": np.ones((2, 2), bool)}
    eroded = ndimage.binary_erosion(mask, **square, border_value=1)
    # the dilation moves towards the same corner, so that its result is shifted by one pixel
    return ndimage.binary_dilation(eroded, **square, origin=(-1, -1))


def _closed(mask: np.ndarray) -> np.ndarray:
    """Return the closing with a disk of radius 5; the picture goes on beyond its edges."""
    y, x = np.mgrid[-5:6, -5:6]
    disk = np.abs(x) <= np.rint(np.sqrt(25 - y**2))
    wide = np.pad(mask, 11, mode="edge")
    grown = ndimage.binary_dilation(wide, disk)
    return ndimage.binary_erosion(grown, disk, border_value=1)[11:-11, 11:-11]


def enlarged(picture: np.ndarray, size_px: int) -> np.ndarray:
    """Enlarge a square uint8 picture by cubic convolution with a = -.75, in 11-bit weights."""
    side = picture.shape[0]
    if side == size_px:
        return picture
    places = (np.arange(size_px) + 0.5) * side / size_px - 0.5
    first = np.floor(places).astype(int)
    weights = np.zeros((size_px, side), int)
    a = -0.75
    for i, (start, t) in enumerate(zip(first, places - first, strict=True)):
        x = np.array([t + 1, t, 1 - t, 2 - t])
        outer, inner = a * (x**3 - 5 * x**2 + 8 * x - 4), (a + 2) * x**3 - (a + 3) * x**2 + 1
        part = np.rint(np.where((x > 1), outer, inner) * 2048).astype(int)
        np.add.at(weights[i], np.clip(start + np.arange(-1, 3), 0, side - 1), part)
    across = np.einsum("jxc,kx->jkc", picture.astype(int), weights)
    both = np.einsum("ij,jkc->ikc", weights, across)
    return ((both + (1 << 21)) >> 22).clip(0, 255).astype(np.uint8)
