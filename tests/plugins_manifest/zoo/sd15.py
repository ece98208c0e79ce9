"""Parts of plugins for a few of SD1.5's modules, in every formula."""

from __future__ import annotations

import math

import numpy as np

from plugins_manifest.formats.table import sd15_table
from tests.plugins_manifest.zoo.files import numbers

_BLOCK = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
TO_Q, TO_K = f"{_BLOCK}.attn1.to_q", f"{_BLOCK}.attn2.to_k"
TO_OUT = f"{_BLOCK}.attn1.to_out.0"
FF, NORM = f"{_BLOCK}.ff.net.2", f"{_BLOCK}.norm1"
PROJ_IN = "unet.down_blocks.0.attentions.0.proj_in"
CONV, CONV_IN = "unet.down_blocks.0.resnets.0.conv1", "unet.conv_in"
TEXT_Q = "text_encoder.encoder.layers.0.self_attn.q_proj"
TEXT_FC = "text_encoder.encoder.layers.3.mlp.fc1"
LINEAR = (TO_Q, TO_K, FF)
UNET_ONLY = (*LINEAR, PROJ_IN)
ALL = (*UNET_ONLY, TEXT_Q, TEXT_FC)
CONVS = (
    CONV_IN,
    CONV,
    "unet.down_blocks.0.resnets.0.time_emb_proj",
    "unet.down_blocks.1.resnets.0.conv_shortcut",
    "unet.down_blocks.0.downsamplers.0.conv",
    "unet.up_blocks.2.upsamplers.0.conv",
    "unet.time_embedding.linear_1",
    "unet.conv_out",
)
Parts = dict[str, np.ndarray]
RANK = 4


def shape_of(module: str, param: str = "weight") -> tuple[int, ...]:
    """Shape of a module's parameter in SD1.5."""
    return sd15_table()[f"{module}.{param}"]


def kohya(module: str, *, text: str = "lora_te_text_model_", unet: str = "lora_unet_") -> str:
    """Return a module's name in kohya's files."""
    side, _, rest = module.partition(".")
    return (unet if side == "unet" else text) + rest.replace(".", "_")


def alpha(value: float, dtype: str = "float32") -> np.ndarray:
    """Return an alpha of no dimensions."""
    return np.array(value, dtype=dtype)


def lora(module: str, rank: int = RANK) -> Parts:
    """down and up; convolutions have a kernel in down."""
    n_out, n_in, *kernel = shape_of(module)
    ones = [1] * len(kernel)
    return {
        "lora_down.weight": numbers(rank, n_in, *kernel, seed=1),
        "lora_up.weight": numbers(n_out, rank, *ones, seed=2),
    }


def tucker(module: str, rank: int = RANK) -> Parts:
    """down and up of 1 x 1, and a core with the kernel."""
    n_out, n_in, *kernel = shape_of(module)
    return {
        "lora_down.weight": numbers(rank, n_in, 1, 1, seed=1),
        "lora_mid.weight": numbers(rank, rank, *kernel, seed=3),
        "lora_up.weight": numbers(n_out, rank, 1, 1, seed=2),
    }


def loha(module: str, rank: int = RANK) -> Parts:
    """Two low-rank products, multiplied element by element."""
    n_out, *inner = shape_of(module)
    n_in = math.prod(inner)
    return {
        f"hada_w{i}_{side}": numbers(*shape, seed=i)
        for i in (1, 2)
        for side, shape in (("a", (n_out, rank)), ("b", (rank, n_in)))
    }


def loha_tucker(module: str, rank: int = RANK) -> Parts:
    """As LyCORIS writes convolutions: rank first, and two cores."""
    n_out, n_in, *kernel = shape_of(module)
    parts: Parts = {}
    for i in (1, 2):
        parts[f"hada_t{i}"] = numbers(rank, rank, *kernel, seed=i)
        parts[f"hada_w{i}_a"] = numbers(rank, n_out, seed=i)
        parts[f"hada_w{i}_b"] = numbers(rank, n_in, seed=i)
    return parts


def lokr(module: str, *, factor: int = 4, rank: int | None = None) -> Parts:
    """Return a small factor times a large one, the large one whole or of low rank."""
    n_out, n_in, *kernel = shape_of(module)
    large = (n_out // factor, n_in // factor)
    parts: Parts = {"lokr_w1": numbers(factor, factor, seed=1)}
    if rank is None:
        parts["lokr_w2"] = numbers(*large, *kernel, seed=2)
    else:
        parts["lokr_w2_a"] = numbers(large[0], rank, seed=2)
        parts["lokr_w2_b"] = numbers(rank, large[1] * math.prod(kernel), seed=3)
    return parts


def lokr_low(module: str, *, factor: int = 4, rank: int = 2) -> Parts:
    """Both factors of low rank."""
    parts = lokr(module, factor=factor, rank=rank)
    del parts["lokr_w1"]
    return parts | {
        "lokr_w1_a": numbers(factor, rank, seed=1),
        "lokr_w1_b": numbers(rank, factor, seed=4),
    }


def lokr_tucker(module: str, *, factor: int = 4, rank: int = 2) -> Parts:
    """Return the large factor with a core."""
    n_out, n_in, *kernel = shape_of(module)
    return {
        "lokr_w1": numbers(factor, factor, seed=1),
        "lokr_t2": numbers(rank, rank, *kernel, seed=2),
        "lokr_w2_a": numbers(rank, n_out // factor, seed=3),
        "lokr_w2_b": numbers(rank, n_in // factor, seed=4),
    }


def ia3(module: str, *, on_input: bool = False) -> Parts:
    """One number per output, or per input."""
    n_out, n_in, *kernel = shape_of(module)
    n = n_in if on_input else n_out
    shape = (1, n, *([1] * len(kernel))) if kernel else (n,)
    return {"weight": numbers(*shape), "on_input": np.array(int(on_input))}


def dora(module: str, *, per_input: bool = False) -> Parts:
    """LoRA and a magnitude per output, or per input as old LyCORIS wrote it."""
    n_out, n_in, *rest = shape_of(module)
    ones = [1] * len(rest)
    scale = (1, n_in, *ones) if per_input else (n_out, 1, *ones)
    return lora(module) | {"dora_scale": 1 + numbers(*scale, seed=5)}


def full(module: str, *, bias: bool = True) -> Parts:
    """Return the whole difference."""
    parts: Parts = {"diff": numbers(*shape_of(module))}
    return parts | ({"diff_b": numbers(*shape_of(module, "bias"))} if bias else {})


def norm(module: str) -> Parts:
    """Differences of a normalization's weight and bias."""
    return {
        "w_norm": numbers(*shape_of(module)),
        "b_norm": numbers(*shape_of(module, "bias"), seed=1),
    }


def oft(module: str, *, block: int = 8) -> Parts:
    """Blocks of a block-diagonal rotation of the outputs."""
    n_out = shape_of(module)[0]
    return {"oft_blocks": numbers(n_out // block, block, block)}


def boft(module: str, *, block: int = 8, steps: int = 3) -> Parts:
    """Butterfly steps of such blocks."""
    n_out = shape_of(module)[0]
    return {"oft_blocks": numbers(steps, n_out // block, block, block)}


def glora(module: str, rank: int = RANK) -> Parts:
    """W + W A + B, A and B of low rank."""
    n_out, n_in, *kernel = shape_of(module)
    ones = [1] * len(kernel)
    return {
        "a1.weight": numbers(n_in, rank, *ones, seed=1),
        "a2.weight": numbers(rank, n_in, *ones, seed=2),
        "b1.weight": numbers(n_out, rank, *ones, seed=3),
        "b2.weight": numbers(rank, n_in, *kernel, seed=4),
    }


def glora_old(module: str) -> Parts:
    """Return the same with the pairs named the other way round, as early LyCORIS did."""
    new = glora(module)
    return {
        "a1.weight": new["a2.weight"],
        "a2.weight": new["a1.weight"],
        "b1.weight": new["b2.weight"],
        "b2.weight": new["b1.weight"],
    }
