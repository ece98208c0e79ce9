"""SD3's transformer, called as a denoiser calls diffusers' UNets.

Source: SD3, arXiv 2403.03206, section 4 (MM-DiT), as in diffusers' SD3Transformer2DModel. A module
of its own for each such class: FLUX, Qwen-Image and Z-Image would have theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xadapter.placement import execution_device

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel


class SD3Network(nn.Module):
    """SD3's transformer with the arguments of a UNet: `xadapter.denoiser.Network`."""

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its inputs and outputs."""
        return self.transformer.dtype

    @property
    def device(self) -> torch.device:
        """The device of its inputs and outputs."""
        return execution_device(self.transformer)

    def forward(
        self,
        sample_bchw: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        *,
        added_cond_kwargs: Mapping[str, Any] | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Return the velocity [b, c, h, w]; the pooled text [b, p] is `text_embeds`, as SDXL's."""
        velocity = self.transformer(
            hidden_states=sample_bchw,
            encoder_hidden_states=encoder_hidden_states,
            pooled_projections=(added_cond_kwargs or {})["text_embeds"],
            timestep=timestep.reshape(-1).expand(len(sample_bchw)),
            return_dict=False,
        )[0]
        return (velocity,)
