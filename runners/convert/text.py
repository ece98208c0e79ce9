"""Captions as a UNet takes them in training, and its prediction for noisy latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from runners.families.family import Pipeline, text_encoders
from runners.prompts import TextReading, encode_prompt, stacked
from xadapter.denoiser import Conditions
from xadapter.guidance import Guidance


@dataclass(frozen=True)
class Captions:
    """The conditions of n captions, on the CPU; their negative rows are those of no caption."""

    conditions: Conditions

    def rows(self, index: slice | Tensor, *, is_empty: Tensor | None = None) -> Conditions:
        """Return the conditions of some captions; where `is_empty` [b], those of none."""
        found = {name: value[index] for name, value in _tensors(self.conditions).items()}
        if is_empty is not None:
            for name in ("text", "pooled"):
                if name in found:
                    where = is_empty.view(-1, *[1] * (found[name].ndim - 1))
                    found[name] = torch.where(where, found[f"negative_{name}"], found[name])
        return Conditions(**found)


def read_captions(pipe: Pipeline, captions: Sequence[str], *, size_px: tuple[int, int]) -> Captions:
    """Encode captions by a pipeline's own encoders; `size_px` is (width, height), for SDXL."""
    guided, (width, height) = Guidance(2.0), size_px
    with text_encoders(pipe):
        found = stacked(
            [
                encode_prompt(
                    pipe, text, "", guidance=guided, size_px=(height, width), reading=TextReading()
                )
                for text in captions
            ]
        )
    return Captions(Conditions(**{name: value.cpu() for name, value in _tensors(found).items()}))


def _tensors(conditions: Conditions) -> dict[str, Any]:
    own = {field.name: getattr(conditions, field.name) for field in fields(Conditions)}
    return {name: value for name, value in own.items() if isinstance(value, Tensor)}


def predict(unet: Any, noisy_bchw: Tensor, timesteps_b: Tensor, text: Conditions) -> Tensor:
    """Return a UNet's prediction [b, c, h, w] float32 on its device, without guidance."""
    hidden, added = text.rows(guided=False)
    device, dtype = unet.device, unet.dtype
    # time ids stay float32: 16 bits cannot hold all sizes
    added = {
        key: value.to(device, value.dtype if key == "time_ids" else dtype)
        for key, value in added.items()
    }
    return unet(
        noisy_bchw.to(device, dtype),
        timesteps_b.to(device),
        encoder_hidden_states=hidden.to(device, dtype),
        added_cond_kwargs=added or None,
        return_dict=False,
    )[0].float()
