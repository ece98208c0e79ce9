"""Analyze a pocket picture without a network: objects, positions, colors, style.

Saturated regions are objects, hue gives the color, contour geometry the shape, the
border the background, the share of painted interior the style. Works on 128 px pictures.
Models draw contours with gaps; only for the style they are closed, since near objects would merge.
"""

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from pocket import weights
from pocket.scenes import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    Scene,
    Shape,
    Style,
    render,
    sample_scene,
)

SIZE_PX = 128
N_SHAPES = 600  # drawn references of the shipped part "shapes"
_MIN_AREA_PX = 70
_NEIGHBORS = 9
_STROKE_PX = 8.5  # wider than the stroke of any style, seen from the outer edge
_GAP_PX = 11  # of a contour, such as a stripe's end on it; wider than a stripe
_BARE_DISTANCE = 45  # a pixel this near to the background's color is not painted
_COLOR_NAMES = tuple(COLORS)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_HUES = np.array([colorsys.rgb_to_hsv(*(v / 255 for v in COLORS[c]))[0] * 360 for c in COLORS])
_SEEN_HUES = np.arange(256)[:, None] * 360 / 256
_COLOR_OF_HUE = np.abs((_SEEN_HUES - _HUES + 180) % 360 - 180).argmin(-1)


@dataclass(frozen=True)
class SeenObject:
    """One region: its color, shape and center (shares of the side), and filled area."""

    color: str
    shape: Shape
    x: float
    y: float
    area_px: float


@dataclass(frozen=True)
class OracleReading:
    """Which statements of a scene's caption hold in a picture; None where one does not apply."""

    colors: bool
    shapes: bool
    count: bool
    background: bool
    relation: bool | None
    style: Style | None

    @property
    def accuracy(self) -> float:
        """Share of the statements that apply and hold, 0..1."""
        held = (self.colors, self.shapes, self.count, self.background, self.relation)
        known = [h for h in held if h is not None]
        return sum(known) / len(known)


def check(image: np.ndarray, scene: Scene) -> OracleReading:
    """Compare a picture (uint8 RGB, H x W x 3; resized to 128 px) with the scene it should show."""
    picture = _to_reading_size(image)
    seen = see(picture)
    want = [(o.color, o.shape) for o in scene.objects]
    have = [(s.color, s.shape) for s in seen]
    colors_seen = [s.color for s in seen]
    return OracleReading(
        colors=all(color in colors_seen for color, _ in want),
        shapes=all(pair in have for pair in want),
        count=sorted(colors_seen) == sorted(color for color, _ in want),
        background=read_background(picture) == scene.background,
        relation=_relation_holds(seen, scene),
        style=read_style(picture),
    )


def see(picture: np.ndarray) -> list[SeenObject]:
    """Find the objects in a 128 px picture."""
    return [
        SeenObject(color, shape_of(region), *_center(region), float(region.sum()))
        for color, region in _regions(picture)
    ]


def read_style(image: np.ndarray) -> Style | None:
    """Return the style of the larger part of all objects' area; None without objects."""
    picture = _to_reading_size(image)
    bare = np.abs(picture.astype(int) - _border_color(picture)).max(-1) < _BARE_DISTANCE
    pieces = _components(_filled(_with_closed_gaps(_painted(picture))))
    return _style_of(picture, ((_fill_style(p, bare), float(p.sum())) for p in pieces))


def read_background(picture: np.ndarray) -> str:
    """Name the background by the color of the picture's border."""
    color = _border_color(picture)
    references = np.array([BACKGROUNDS[b] for b in _BACKGROUND_NAMES], float)
    tint = references / references.mean(1, keepdims=True)
    nearest = ((tint - color / max(1.0, color.mean())) ** 2).sum(1).argmin()
    if _BACKGROUND_NAMES[nearest] in ("white", "gray"):
        return "white" if color.mean() > 185 else "gray"
    return _BACKGROUND_NAMES[nearest]


def _border_color(picture: np.ndarray) -> np.ndarray:
    border = [picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]]
    return np.median(np.concatenate([b.reshape(-1, 3) for b in border]), 0).astype(float)


def shape_of(region: np.ndarray) -> Shape:
    """Classify the shape of a filled region by nearest neighbors among drawn references."""
    features, labels, spread = _shape_references()
    distance = (((features - _describe(region)) / spread) ** 2).sum(1)
    votes = labels[np.argsort(distance)[:_NEIGHBORS]]
    return SHAPES[int(np.bincount(votes, minlength=len(SHAPES)).argmax())]


def _to_reading_size(image: np.ndarray) -> np.ndarray:
    import cv2

    if image.shape[:2] == (SIZE_PX, SIZE_PX):
        return np.ascontiguousarray(image)
    shrinks = image.shape[0] > SIZE_PX
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=how)


def _regions(picture: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return color and filled region (uint8 0/1) of each saturated component."""
    import cv2

    hues = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)[..., 0]
    painted, color_of = _painted(picture), _COLOR_OF_HUE[hues]
    return [
        (_COLOR_NAMES[color], part)
        for region in _components(_filled(painted))
        for color, part in _split_colors(region, painted, color_of)
        if part.sum() >= _MIN_AREA_PX
    ]


def _painted(picture: np.ndarray) -> np.ndarray:
    """Return the saturated pixels, without single ones (uint8 0/1)."""
    import cv2

    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
    painted = ((hsv[..., 1] > 128) & (hsv[..., 2] > 50)).astype(np.uint8)
    return cv2.morphologyEx(painted, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))


def _with_closed_gaps(painted: np.ndarray) -> np.ndarray:
    """Close gaps of up to `_GAP_PX`, at the picture's edge too: an object may reach beyond it."""
    import cv2

    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GAP_PX, _GAP_PX))
    padded = np.pad(painted, _GAP_PX, mode="edge")
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disk)
    return np.ascontiguousarray(closed[_GAP_PX:-_GAP_PX, _GAP_PX:-_GAP_PX])


def _components(mask: np.ndarray) -> list[np.ndarray]:
    """Return each connected piece that is large enough, uint8 0/1."""
    import cv2

    n_labels, labels = cv2.connectedComponents(mask, connectivity=8)
    pieces = ((labels == label).astype(np.uint8) for label in range(1, n_labels))
    return [piece for piece in pieces if piece.sum() >= _MIN_AREA_PX]


def _split_colors(
    region: np.ndarray, painted: np.ndarray, color_of: np.ndarray
) -> list[tuple[int, np.ndarray]]:
    """Split touching objects: one part for each color that covers a quarter of the region."""
    ink = (region & painted).astype(bool)
    counts = np.bincount(color_of[ink], minlength=len(_COLOR_NAMES))
    main = np.flatnonzero(counts > 0.25 * max(1, counts.sum()))
    if len(main) < 2:
        return [(int(c), region) for c in main]
    return [(int(c), _filled((ink & (color_of == c)).astype(np.uint8))) for c in main]


def _fill_style(region: np.ndarray, bare: np.ndarray) -> Style:
    """Classify the painted share of the interior: flat (or shaded), hatched, outline."""
    import cv2

    # the exact distance: that of the 5 x 5 mask is off by up to 2 %, enough for another style
    depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = depth[1:-1, 1:-1]
    inside = depth > min(_STROKE_PX, 0.75 * depth.max())
    share = float(bare[inside].mean())
    if share < 0.12:
        return "flat"
    return "hatched" if share < 0.65 else "outline"


def _style_of(picture: np.ndarray, pieces: Iterable[tuple[Style, float]]) -> Style | None:
    """Return the style of the larger part of the objects' area; pieces are (fill, area in px)."""
    area_px: dict[Style, float] = {}
    for fill, area in pieces:
        area_px[fill] = area_px.get(fill, 0.0) + area
    if not area_px:
        return None
    fill = max(area_px, key=lambda style: (area_px[style], style))
    if fill != "flat":
        return fill
    return "shaded" if _background_slope(picture) > 0.05 else "flat"


def _background_slope(picture: np.ndarray) -> float:
    """Return the relative decrease of brightness from the top edge to the bottom edge."""
    top = np.median(picture[:4].reshape(-1, 3), 0).mean()
    bottom = np.median(picture[-4:].reshape(-1, 3), 0).mean()
    return float((top - bottom) / max(1.0, top))


def _relation_holds(seen: list[SeenObject], scene: Scene) -> bool | None:
    if scene.relation is None:
        return None
    places = []
    for item in scene.objects:
        same = [s for s in seen if s.color == item.color]
        if not same:
            return False
        places.append(max(same, key=lambda s: s.area_px))
    a, b = places
    dx, dy = b.x - a.x, b.y - a.y
    step = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[scene.relation]
    return step > 0.05


def _center(region: np.ndarray) -> tuple[float, float]:
    ys, xs = np.nonzero(region)
    return float(xs.mean()) / SIZE_PX, float(ys.mean()) / SIZE_PX


def _filled(mask: np.ndarray) -> np.ndarray:
    import cv2

    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = np.zeros_like(mask)
    cv2.drawContours(out, contours, -1, (1,), -1)
    return out


def _describe(region: np.ndarray) -> np.ndarray:
    """Return five scale-free numbers: area over hull, circle, triangle and box, and roundness."""
    import cv2

    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    area = max(1.0, cv2.contourArea(contour))
    hull = max(1.0, cv2.contourArea(cv2.convexHull(contour)))
    _, radius = cv2.minEnclosingCircle(contour)
    triangle, _ = cv2.minEnclosingTriangle(contour)
    box_sides = np.array(cv2.minAreaRect(contour)[1], float)
    perimeter = cv2.arcLength(contour, True)
    circle = np.pi * radius * radius
    roundness = 4 * np.pi * area / perimeter**2
    box = max(1.0, float(box_sides.prod()))
    return np.array([area / hull, area / circle, area / max(1.0, triangle), area / box, roundness])


@cache
def _shape_references() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, labels and feature spread of the shipped references."""
    from safetensors.numpy import load_file

    kept = load_file(weights.part_path("shapes"))
    return kept["features"], kept["labels"], kept["features"].std(0)


def draw_shapes(n: int = N_SHAPES) -> tuple[np.ndarray, np.ndarray]:
    """Describe drawn objects of known shape; return features [n, 5] and places in `SHAPES` [n]."""
    rng = np.random.default_rng(77)
    features, labels = [], []
    styles: tuple[Style, ...] = ("shaded", "flat", "outline")
    while len(features) < n:
        scene = sample_scene(rng)
        if len(scene.objects) != 1:
            continue
        regions = _regions(render(scene, styles[len(features) % 3], SIZE_PX))
        if len(regions) == 1:
            _, region = regions[0]
            features.append(_describe(region))
            labels.append(SHAPES.index(scene.objects[0].shape))
    return np.array(features), np.array(labels)
