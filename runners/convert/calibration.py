"""Maps between the features of paired modules, on the same pictures, noise levels and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plugins_manifest.progress import Progress
from runners.convert.text import Captions, predict
from runners.convert.transport import Moments, aligning_map
from runners.families.family import Pipeline
from xadapter.loss import add_noise

NOISE_LEVELS = 5
BATCH = 8
MOST_PLACES = 256  # of a picture's features, evenly spread
MOST_BYTES = 4 << 30  # of the sums and features that are held at once
Ends = tuple[Moments, Moments]  # of a module's inputs and of its outputs
Maps = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Side:
    """One model's view of the calibration pictures: scaled latents [n, c, h, w] and captions."""

    pipe: Pipeline
    latents: Tensor
    captions: Captions


def feature_maps(
    pairs: Mapping[str, str], source: Side, target: Side, *, seed: int
) -> dict[str, Maps]:
    """Return the maps of every pair's inputs and outputs, by the source's module.

    Every picture is noised to evenly spaced timesteps, alike in both models; pairs with more
    numbers than memory should hold at once take further passes.
    """
    unets = source.pipe.unet, target.pipe.unet
    found: dict[str, Maps] = {}
    parts = list(_parts(pairs, *unets))
    n_batches = -(-len(source.latents) // BATCH)
    total = len(parts) * n_batches * NOISE_LEVELS
    with Progress("comparing both models' features", unit="batch", total=total) as bar:
        for part in parts:
            ends = {name: _empty(name, part[name], *unets) for name in part}
            generator = torch.Generator().manual_seed(seed)
            for step in _steps(source):
                old = _features(source, list(part), step, generator)
                new = _features(target, list(part.values()), step, generator)
                for name, partner in part.items():
                    for moments, a, b in zip(ends[name], old[name], new[partner], strict=True):
                        moments.add(a, b)
                bar.update()
            for name, (inputs, outputs) in ends.items():
                found[name] = aligning_map(inputs), aligning_map(outputs)
    return found


def _parts(
    pairs: Mapping[str, str], source: nn.Module, target: nn.Module
) -> Iterator[dict[str, str]]:
    part: dict[str, str] = {}
    held = 0
    for name, partner in pairs.items():
        ends = zip(_widths(source, name), _widths(target, partner), strict=True)
        n_rows = BATCH * MOST_PLACES
        n_bytes = sum(8 * (s * s + t * t + s * t) + 4 * n_rows * (s + t) for s, t in ends)
        if part and held + n_bytes > MOST_BYTES:
            yield part
            part, held = {}, 0
        part[name] = partner
        held += n_bytes
    if part:
        yield part


def _widths(unet: nn.Module, name: str) -> tuple[int, int]:
    weight: Any = unet.get_submodule(name).weight
    return weight.shape[1], weight.shape[0]


def _empty(name: str, partner: str, source: nn.Module, target: nn.Module) -> Ends:
    inputs, outputs = zip(_widths(source, name), _widths(target, partner), strict=True)
    return Moments.empty(*inputs), Moments.empty(*outputs)


@dataclass(frozen=True)
class _Step:
    """Some pictures at a timestep."""

    rows: slice
    timestep: int


def _steps(source: Side) -> Iterator[_Step]:
    n_timesteps = source.pipe.scheduler.config["num_train_timesteps"]
    for level in range(NOISE_LEVELS):
        timestep = int((level + 0.5) / NOISE_LEVELS * n_timesteps)
        for first in range(0, len(source.latents), BATCH):
            yield _Step(slice(first, first + BATCH), timestep)


@torch.no_grad()
def _features(
    side: Side, names: Sequence[str], step: _Step, generator: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return inputs and outputs of modules as rows [n, features]."""
    unet = side.pipe.unet
    clean = side.latents[step.rows]
    noise = torch.randn(clean.shape, generator=generator)
    abar: Tensor = side.pipe.scheduler.alphas_cumprod
    noisy = add_noise(clean, noise, abar[step.timestep].repeat(len(clean)))
    timesteps = torch.full((len(clean),), step.timestep)
    with _recorded(unet, names) as found:
        predict(unet, noisy, timesteps, side.captions.rows(step.rows))
    return found


@contextmanager
def _recorded(unet: nn.Module, names: Sequence[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Record inputs and outputs of modules as rows [n, features]; hooks are removed on exit."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def recorder(name: str) -> Any:
        def record(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[name] = _rows(inputs[0]), _rows(output)

        return record

    hooks = [unet.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _rows(features: Tensor) -> Tensor:
    """Return [b, c, h, w] or [b, l, d] as rows [n, features], one a place."""
    if features.ndim == 4:
        features = features.permute(0, 2, 3, 1).flatten(1, 2)
    n_places = features.shape[1]
    if features.ndim == 3 and n_places > MOST_PLACES:  # partners have one grid: the same places
        features = features[:, torch.linspace(0, n_places - 1, MOST_PLACES).long()]
    return features.flatten(0, -2)
