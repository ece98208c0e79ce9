"""Procedural scenes with captions and ground truth.

A scene has one or two colored shapes on a background and four styles: `flat` is the base model's,
`shaded` the upgraded model's, `outline` and `hatched` are the LoRAs'.
Images are uint8 RGB, H x W x 3.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Shape = Literal["circle", "square", "triangle", "star"]
Style = Literal["flat", "shaded", "outline", "hatched"]
Size = Literal["large", "small"]
Relation = Literal["left of", "right of", "above", "below"]
Image = np.ndarray

SHAPES: tuple[Shape, ...] = get_args(Shape)
STYLES: tuple[Style, ...] = get_args(Style)
SIZES: tuple[Size, ...] = get_args(Size)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 40),
    "purple": (135, 50, 170),
    "orange": (240, 130, 30),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "gray": (150, 150, 150),
    "pink": (245, 180, 205),
    "teal": (120, 195, 190),
}
STYLE_WORDS: dict[Style, str] = {"outline": "outline drawing", "hatched": "hatched drawing"}

_RADIUS: dict[Size, tuple[float, float]] = {"large": (0.225, 0.265), "small": (0.135, 0.16)}
_PAIR_SHRINK = 0.72
_SUPERSAMPLING = 2
_CIRCUMRADIUS: dict[Shape, float] = {"circle": 0.95, "square": 1.2, "triangle": 1.25, "star": 1.3}


@dataclass(frozen=True)
class SceneObject:
    """One shape; `x`, `y` and `radius` are shares of the image side, `rotation` is in radians."""

    shape: Shape
    color: str
    size: Size
    x: float
    y: float
    radius: float
    rotation: float


@dataclass(frozen=True)
class Scene:
    """One or two objects on a background; `relation` is the place of the first to the second."""

    background: str
    objects: tuple[SceneObject, ...]
    relation: Relation | None = None


def sample_scene(rng: np.random.Generator) -> Scene:
    """Sample a scene: 40 % have one object, 60 % two of different colors in a relation."""
    background = str(rng.choice(list(BACKGROUNDS)))
    if rng.random() < 0.4:
        return Scene(background, (_sample_single(rng),))
    relation = RELATIONS[rng.integers(len(RELATIONS))]
    return Scene(background, _sample_pair(rng, relation), relation)


def scene_at(seed: int, index: int) -> Scene:
    """Return scene `index` of the infinite list of `seed`; scenes are independent."""
    return sample_scene(np.random.default_rng([seed, index]))


def caption(scene: Scene, style: Style | None = None) -> str:
    """Describe a scene in the pocket vocabulary; a LoRA style adds its trigger at the end."""
    phrases = [f"a {o.size} {o.color} {o.shape}" for o in scene.objects]
    text = f" {scene.relation} ".join(phrases) + f" on a {scene.background} background"
    trigger = STYLE_WORDS.get(style) if style else None
    return f"{text} {trigger}" if trigger else text


def render(scene: Scene, style: Style, size_px: int) -> Image:
    """Draw a scene in a style at `size_px` x `size_px` with antialiasing."""
    import cv2

    n = size_px * _SUPERSAMPLING
    canvas = _background(scene, style, n)
    for item in scene.objects:
        color, alpha = _paint(item, style, n)
        canvas = canvas * (1 - alpha[..., None]) + color * alpha[..., None]
    small = cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


def downscale(image: Image, size_px: int) -> Image:
    """Return an area-averaged copy of an image at a smaller size."""
    import cv2

    return cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)


def outline_points(item: SceneObject) -> np.ndarray:
    """Return the corners of the object's contour as shares of the image side, K x 2."""
    n_corners = {"circle": 64, "square": 4, "triangle": 3, "star": 10}[item.shape]
    angle = np.arange(n_corners) * 2 * math.pi / n_corners
    angle = angle + (math.pi / 4 if item.shape == "square" else -math.pi / 2) + item.rotation
    radius = np.full(n_corners, item.radius * _CIRCUMRADIUS[item.shape])
    if item.shape == "star":
        radius[1::2] = item.radius * 0.58
    return np.stack([item.x + radius * np.cos(angle), item.y + radius * np.sin(angle)], -1)


def _sample_object(rng: np.random.Generator, *, shrink: float) -> dict:
    size = SIZES[rng.integers(len(SIZES))]
    return {
        "shape": SHAPES[rng.integers(len(SHAPES))],
        "color": str(rng.choice(list(COLORS))),
        "size": size,
        "radius": float(rng.uniform(*_RADIUS[size])) * shrink,
        "rotation": float(rng.uniform(-0.3, 0.3)),
    }


def _sample_single(rng: np.random.Generator) -> SceneObject:
    fields = _sample_object(rng, shrink=1.0)
    margin = fields["radius"] * 1.3 + 0.02
    x, y = rng.uniform(margin, 1 - margin, 2)
    return SceneObject(**fields, x=float(x), y=float(y))


def _sample_pair(rng: np.random.Generator, relation: Relation) -> tuple[SceneObject, SceneObject]:
    first, second = (_sample_object(rng, shrink=_PAIR_SHRINK) for _ in range(2))
    while second["color"] == first["color"]:
        second["color"] = str(rng.choice(list(COLORS)))
    axis = 0 if relation in ("left of", "right of") else 1
    sign = 1 if relation in ("left of", "above") else -1
    gap = (first["radius"] + second["radius"]) * 1.2
    while True:
        places = [
            rng.uniform(o["radius"] * 1.2 + 0.01, 1 - o["radius"] * 1.2 - 0.01, 2)
            for o in (first, second)
        ]
        step = places[1] - places[0]
        if sign * step[axis] > gap and abs(step[1 - axis]) < 0.25:
            break
    a, b = (
        SceneObject(**o, x=float(p[0]), y=float(p[1]))
        for o, p in zip((first, second), places, strict=True)
    )
    return a, b


def _polygon_mask(points: np.ndarray, n: int) -> np.ndarray:
    import cv2

    mask = np.zeros((n, n), np.uint8)
    cv2.fillPoly(mask, [np.round(points * n * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def _stroke_mask(points: np.ndarray, n: int, width: float) -> np.ndarray:
    import cv2

    mask = np.zeros((n, n), np.uint8)
    corners = np.round(points * n * 16).astype(np.int32)
    cv2.polylines(mask, [corners], True, (255,), max(2, round(width * n)), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def _grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    yy, xx = np.mgrid[0:n, 0:n].astype(np.float32) / n
    return yy, xx


def _background(scene: Scene, style: Style, n: int) -> np.ndarray:
    import cv2

    plain = np.broadcast_to(np.array(BACKGROUNDS[scene.background], np.float32), (n, n, 3))
    if style != "shaded":
        return plain
    yy, xx = _grid(n)
    lit = np.clip(plain * (1.05 - 0.17 * yy - 0.05 * xx)[..., None], 0, 255)
    shadow = np.zeros((n, n), np.float32)
    for item in scene.objects:
        points = outline_points(item) + np.array([0.03, 0.04])
        shadow = np.maximum(shadow, _polygon_mask(points, n))
    shadow = cv2.GaussianBlur(shadow, (0, 0), n * 0.025)
    return lit * (1 - 0.4 * shadow[..., None])


def _paint(item: SceneObject, style: Style, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return color (3 or n x n x 3) and opacity (n x n, 0..1) of one object."""
    points = outline_points(item)
    color = np.array(COLORS[item.color], np.float32)
    if style == "flat":
        return color, _polygon_mask(points, n)
    if style == "shaded":
        return _shade(item, color, n), _polygon_mask(points, n)
    if style == "outline":
        return color, _stroke_mask(points, n, 0.042)
    yy, xx = _grid(n)
    stripes = np.clip(np.sin((xx + yy) * 2 * math.pi / 0.17) * 6 + 0.5, 0, 1)
    fill = _polygon_mask(points, n) * stripes
    return color, np.maximum(fill, _stroke_mask(points, n, 0.022))


def _shade(item: SceneObject, color: np.ndarray, n: int) -> np.ndarray:
    """Shade an object, lit from the upper left: bright core, dark rim, a small soft highlight."""
    yy, xx = _grid(n)
    dx, dy = xx - (item.x - 0.3 * item.radius), yy - (item.y - 0.35 * item.radius)
    distance = (dx**2 + dy**2) / item.radius**2
    lit = np.clip(color * (0.55 + 0.55 * np.exp(-distance / 1.2))[..., None], 0, 255)
    highlight = 0.4 * np.exp(-distance / 0.11)[..., None]
    return lit * (1 - highlight) + 255 * highlight
