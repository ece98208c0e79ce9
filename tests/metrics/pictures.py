"""Drawn pocket scenes as scored images, and a scorer with random weights."""

from functools import cache

import numpy as np
import torch

from metrics.base import ScoredImage
from metrics.features import FeatureCache
from pocket.scenes import Style, caption, render, scene_at
from pocket.scorer import Scorer, ScorerConfig, build_clip


@cache
def random_scorer() -> Scorer:
    torch.manual_seed(0)
    return Scorer(build_clip(ScorerConfig(vision_width=8, text_width=32)), sha256="a" * 64)


def random_sha256() -> str:
    return "a" * 64


@cache
def drawn(index: int, style: Style) -> np.ndarray:
    picture = render(scene_at(21, index), style, 128)
    picture.setflags(write=False)
    return picture


def image_of(
    index: int,
    *,
    picture: np.ndarray | None = None,
    condition: np.ndarray | None = None,
    method: str = "xadapter",
    plugin: str = "pocket-outline",
    kind: str = "lora",
    prompt: str | None = None,
    detector: str | None = None,
    trigger: str | None = None,
    style: Style = "shaded",
    source: np.ndarray | None = None,
    seed: int = 0,
) -> ScoredImage:
    scene = scene_at(21, index)
    if picture is None:
        picture = drawn(index, style)
    return ScoredImage(
        trial_id=f"{plugin}-{method}-{index}-{seed}",
        image_sha256=f"{style}-{index}-{hash(picture.tobytes())}",
        plugin=plugin,
        kind=kind,
        method=method,
        t0=None,
        plugin_scale=1.0,
        adapter_scale=None,
        case_id=f"case-{index}",
        seed=seed,
        prompt=caption(scene) if prompt is None else prompt,
        load_picture=lambda: picture,
        load_condition=None if condition is None else lambda: condition,
        detector=detector,
        family="pocket",
        trigger=trigger,
        scene=(21, index),
        load_source=None if source is None else lambda: source,
    )


class NoReferences:
    """A world without other images."""

    def __init__(self) -> None:
        self.features = FeatureCache()

    def base_of(self, image):
        return None

    def floor_of(self, image):
        return None

    def style_bank(self, image):
        return []

    def made_by(self, method, image):
        return []


class GivenReferences(NoReferences):
    """A base image, a bank and floor images for every question."""

    def __init__(self, *, base=None, bank=(), floors=(), others=()) -> None:
        super().__init__()
        self.others = list(others)
        self.base, self.bank = base, list(bank)
        self.floors = {(image.case_id, image.seed): image for image in floors}

    def floor_of(self, image):
        return self.floors.get((image.case_id, image.seed))

    def base_of(self, image):
        return self.base

    def style_bank(self, image):
        return self.bank

    def made_by(self, method, image):
        return [i for i in self.others if (i.method, i.plugin) == (method, image.plugin)]
