"""A tiny UNet with SD1.5's text width, and the real networks that go with it.

The libraries are imported where they are used: most of the zoo does not need them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from plugins_manifest.formats.parsed import ModuleTable

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TEXT_WIDTH = 768
N_CROSS_ATTENTIONS = 5
T2I_LEVELS = (16, 16, 32, 32)


@cache
def tiny_unet(text_width: int = TEXT_WIDTH) -> UNet2DConditionModel:
    """Two blocks a side, attention in the first, without memory."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=text_width,
            attention_head_dim=8,
            norm_num_groups=8,
        )


@cache
def tiny_table() -> ModuleTable:
    """Return the tiny UNet's parameters, and the text encoder's width."""
    found = {f"unet.{name}": tuple(p.shape) for name, p in tiny_unet().named_parameters()}
    return found | {"text_encoder.embeddings.token_embedding.weight": (64, TEXT_WIDTH)}


@cache
def t2i_table() -> ModuleTable:
    """Return the widths of a UNet of four levels, as T2I-Adapters are compared with."""
    widths = {
        f"unet.down_blocks.{i}.resnets.0.conv1.weight": (width, 4, 3, 3)
        for i, width in enumerate(T2I_LEVELS)
    }
    return widths | {"unet.mid_block.attn2.to_k.weight": (32, TEXT_WIDTH)}


def table_of(name: str) -> ModuleTable | None:
    """Return the parameters of the model that an animal is inspected against."""
    return {"tiny": tiny_table, "t2i": t2i_table}[name]() if name != "sd15" else None


def controlnet_shapes(text_width: int = TEXT_WIDTH) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the tiny UNet's ControlNet in diffusers."""
    import torch
    from diffusers import ControlNetModel

    with torch.device("meta"):
        net = ControlNetModel.from_unet(
            tiny_unet(text_width),
            conditioning_embedding_out_channels=(4, 4, 4, 8),
            load_weights_from_unet=False,
        )
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def t2i_shapes(*, light: bool = False) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a small T2I-Adapter in diffusers."""
    import torch
    from diffusers import T2IAdapter

    with torch.device("meta"):
        net = T2IAdapter(
            in_channels=3,
            channels=list(T2I_LEVELS[:-1] if light else T2I_LEVELS),
            num_res_blocks=2,
            downscale_factor=8,
            adapter_type="light_adapter" if light else "full_adapter",
        )
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def cross_attention_widths() -> list[int]:
    """Output widths of the tiny UNet's cross-attentions, in diffusers' order."""
    parameters = tiny_unet().named_parameters()
    return [p.shape[0] for name, p in parameters if name.endswith("attn2.to_k.weight")]
