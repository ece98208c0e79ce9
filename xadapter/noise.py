"""All random numbers of a render, one CPU generator per image, drawn in a fixed named order.

An image's noise depends on its own generator alone: not on the batch, its size or its order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xadapter.errors import SettingError

Draw = Literal[
    "discarded",  # a full upgraded latent that is never used (released code only)
    "base_start",  # start of stage 1; with a source image, the noise put on it
    "source_posterior",  # sample of the base VAE's posterior of the source image
    "upgraded_posterior",  # sample of the upgraded VAE's posterior of the handed-over image
    "upgraded_noise",  # noise of the upgraded latent at the hand-over; start of a run from noise
    "base_noise",  # noise of the base latent at the hand-over
]
SOUND_ORDER: tuple[Draw, ...] = (
    "base_start",
    "upgraded_posterior",
    "upgraded_noise",
    "base_noise",
    "source_posterior",
)
_UPGRADED_DRAWS = frozenset({"discarded", "upgraded_posterior", "upgraded_noise"})


@dataclass(frozen=True)
class Noise:
    """Unit Gaussian noise of a batch: float32 [b, c, h, w]; None for what was not drawn."""

    base_start: Tensor
    upgraded_posterior: Tensor
    upgraded_noise: Tensor
    base_noise: Tensor
    source_posterior: Tensor | None = None

    def to(self, device: torch.device | str) -> Noise:
        """The same noise on another device."""
        source = self.source_posterior
        return Noise(
            base_start=self.base_start.to(device),
            upgraded_posterior=self.upgraded_posterior.to(device),
            upgraded_noise=self.upgraded_noise.to(device),
            base_noise=self.base_noise.to(device),
            source_posterior=None if source is None else source.to(device),
        )


def generators_from(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per seed."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def named_generators(seeds: Sequence[int], name: str) -> list[torch.Generator]:
    """One CPU generator per seed, independent of those of every other name."""
    own = [hashlib.sha256(f"{name}\0{seed}".encode()).digest() for seed in seeds]
    return generators_from([int.from_bytes(digest[:8], "big") >> 1 for digest in own])


def independent_noise(
    seeds: Sequence[int], name: str, shapes_chw: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, ...]:
    """Unit noise [b, c, h, w] of each shape, from generators of its own, named for its use.

    For passes beside the two stages: what they draw moves none of the stages' numbers.
    """
    images = [
        [torch.randn(shape, generator=generator, dtype=torch.float32) for shape in shapes_chw]
        for generator in named_generators(seeds, name)
    ]
    return tuple(torch.stack(parts) for parts in zip(*images, strict=True))


@dataclass(frozen=True)
class NoiseSource:
    """Draws the noise of a batch from one CPU generator per image, image by image."""

    generators: Sequence[torch.Generator]
    order: tuple[Draw, ...] = SOUND_ORDER

    def __post_init__(self) -> None:
        if not self.generators:
            raise SettingError("a noise source needs one generator per image, got none")

    def draw(self, *, base_chw: tuple[int, int, int], upgraded_chw: tuple[int, int, int]) -> Noise:
        """Draw everything once: float32 on the CPU, batch size = number of generators."""
        images = [
            _draw_image(generator, self.order, base_chw, upgraded_chw)
            for generator in self.generators
        ]
        stacked = {name: torch.stack([image[name] for image in images]) for name in images[0]}
        return Noise(**stacked)


def _draw_image(
    generator: torch.Generator,
    order: tuple[Draw, ...],
    base_chw: tuple[int, int, int],
    upgraded_chw: tuple[int, int, int],
) -> Mapping[str, Tensor]:
    drawn = {}
    for name in order:
        shape = upgraded_chw if name in _UPGRADED_DRAWS else base_chw
        value = torch.randn(shape, generator=generator, dtype=torch.float32)
        if name != "discarded":
            drawn[name] = value
    return drawn
