"""Pictures that a conversion learns from: rendered from prompts alone, and kept in files.

The teacher's have the plugin's effect (methods `delta`, `xadapter`); those of method `floor`, by
the upgraded model alone, are what both models are compared on. A batch is a file with its hash, so
that whatever ends a process, what it finished is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plugins_manifest.errors import UserError
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import Side
from pocket.cached import read_arrays, write_arrays
from runners.base import PluginFile, RenderCase, RenderSettings, Variant
from runners.convert.request import Prompt
from runners.families import Family
from runners.group import run_group
from xadapter.vae import encode_mean, resize_float

BATCH = 12


def draw_pictures(
    family: Family,
    plugin: PluginFile | None,
    prompts: Sequence[Prompt],
    variant: Variant,
    settings: RenderSettings,
    *,
    seed: int,
    folder: Path,
    what: str,
    has_bar: bool = False,
) -> np.ndarray:
    """Return one picture of each prompt, uint8 [n, H, W, 3]; those in `folder` are not redrawn.

    `folder` must be of these inputs alone. Raises `UserError` for a picture that fails.
    """
    batches = [range(i, min(i + BATCH, len(prompts))) for i in range(0, len(prompts), BATCH)]
    found: list[np.ndarray] = []
    with Progress(what, unit="picture", total=len(prompts), has_bar=has_bar) as bar:
        for batch in batches:
            path = folder / f"{batch.start:05d}.safetensors"
            if (kept := read_arrays(path)) is not None:
                bar.skip(len(batch))
            else:
                cases = [_case(i, prompts[i], seed) for i in batch]
                drawn = _draw(family, plugin, cases, variant, settings)
                kept = write_arrays(path, {"images": drawn})
                bar.update(len(batch))
            found.append(kept["images"])
    return np.concatenate(found)


def _case(index: int, prompt: Prompt, seed: int) -> RenderCase:
    return RenderCase(
        case_id=f"convert-{index:05d}",
        seed=seed,
        base_prompt=prompt.plugged,
        upgraded_prompt=prompt.content,
    )


def _draw(
    family: Family,
    plugin: PluginFile | None,
    cases: Sequence[RenderCase],
    variant: Variant,
    settings: RenderSettings,
) -> np.ndarray:
    images: dict[int, np.ndarray] = {}
    for done in run_group(family, plugin, cases, [variant], settings):
        if done.image is None:
            raise UserError(f"method {variant.method!r} made no picture: {done.error}")
        images[done.index] = done.image
    return np.stack([images[i] for i in range(len(cases))])


def encoded(family: Family, images: np.ndarray, settings: RenderSettings, *, side: Side) -> Tensor:
    """Return a side's scaled latents [n, c, h, w] of pictures, at its own size, on the CPU."""
    pipe = family.pipe(side)
    width, height = settings.base_size_px if side == "base" else settings.upgraded_size_px
    parts: list[Tensor] = []
    for first in range(0, len(images), BATCH):
        some = torch.from_numpy(images[first : first + BATCH]).permute(0, 3, 1, 2)
        pixels = resize_float(some.float() / 127.5 - 1, height, width)
        parts.append(encode_mean(pipe.vae, pixels).cpu())
    return torch.cat(parts)
