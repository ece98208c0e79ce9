"""LoRA and DoRA files as they are in the wild, all of them right."""

from __future__ import annotations

import json

import numpy as np

from plugins_manifest.formats.table import sd15_table
from tests.plugins_manifest.zoo import sd15
from tests.plugins_manifest.zoo.files import Content, bf16, numbers, pack
from tests.plugins_manifest.zoo.naming import (
    EXACT,
    NOOP,
    bare,
    named,
    peft_parts,
    processors,
    right,
    sgm_name,
    with_text_level,
)
from tests.plugins_manifest.zoo.sd15 import ALL, CONVS, LINEAR, TEXT_FC, TEXT_Q, UNET_ONLY, kohya

_WRONG = "drops dora_scale, loads a plain LoRA: wrong"
_DEEP = "unet.down_blocks.3.resnets.0.conv1"


def _every_layer() -> Content:
    table = sd15_table()
    layers = [name[:-7] for name in table if name.endswith(".weight") and len(table[name]) > 1]
    layers = [layer for layer in layers if "embeddings" not in layer]
    return named(layers, lambda m: sd15.lora(m, rank=1), alpha=1.0)


def _mixed_ranks() -> Content:
    content: dict[str, np.ndarray] = {}
    for i, module in enumerate(ALL):
        content |= named([module], lambda m, r=2 ** (i + 1): sd15.lora(m, rank=r))
        content[f"{kohya(module)}.alpha"] = sd15.alpha(2.0, "float16")
    return content


def _partial_alpha() -> Content:
    return named(ALL, sd15.lora) | {f"{kohya(ALL[0])}.alpha": sd15.alpha(2.0)}


def _bf16() -> Content:
    return {key: bf16(*value.shape) for key, value in named(ALL, sd15.lora).items()}


def _te1() -> Content:
    def name(module: str) -> str:
        return kohya(module, text="lora_te1_text_model_")

    return named(ALL, sd15.lora, name=name, alpha=2.0)


def _peft_metadata() -> bytes:
    settings = {
        "unet.r": 4,
        "unet.lora_alpha": 8,
        "unet.alpha_pattern": {"attn1.to_q": 2},
        "text_encoder.lora_alpha": 16,
        "text_encoder.use_rslora": True,
    }
    content = named(ALL, peft_parts, name=with_text_level)
    return pack(content, {"format": "pt", "lora_adapter_metadata": json.dumps(settings)})


def _peft_dora() -> Content:
    content = named(LINEAR, peft_parts, name=lambda m: m)
    for module in LINEAR:
        n_out = sd15.shape_of(module)[0]
        content[f"{module}.lora_magnitude_vector"] = 1 + numbers(n_out)
    return content


def _default_adapter() -> Content:
    content = named(UNET_ONLY, peft_parts, name=lambda m: "base_model.model." + bare(m))
    return {key.replace(".weight", ".default.weight"): value for key, value in content.items()}


def _old_diffusers() -> Content:
    content: dict[str, np.ndarray] = {}
    for module, layer in ((sd15.TO_Q, "lora"), (TEXT_Q, "lora_linear_layer")):
        for part, value in sd15.lora(module).items():
            name = f"{with_text_level(module)}.{layer}.{part.removeprefix('lora_')}"
            content[name] = value
    return content


def _comfyui() -> Content:
    content = named(UNET_ONLY, sd15.lora, name=lambda m: "diffusion_model." + sgm_name(m))
    text = "text_encoders.clip_l.transformer.text_model."
    content |= named([TEXT_Q], sd15.lora, name=lambda m: text + bare(m))
    return content | {f"diffusion_model.{sgm_name(sd15.CONV_IN)}.diff": numbers(320, 4, 3, 3)}


def _bundled() -> Content:
    return named(ALL, sd15.lora, alpha=2.0) | {
        "bundle_emb.zkz_style.string_to_param.*": numbers(2, 768),
        "bundle_emb.zkz_neg.string_to_param.*": numbers(4, 768),
    }


def _sgm() -> Content:
    modules = [*UNET_ONLY, *CONVS, _DEEP]
    parts = {m: sd15.lora(m, rank=1) for m in modules}
    return named(modules, parts.__getitem__, name=_flat_sgm, alpha=1.0)


def _flat_sgm(module: str) -> str:
    return "lora_unet_" + sgm_name(module).replace(".", "_")


def _raw(module: str) -> str:
    return "base_model.model." + bare(module)


def _dora_per_input() -> Content:
    return named(UNET_ONLY, lambda m: sd15.dora(m, per_input=True), alpha=2.0)


_BOTH = ("weight", "bias")
LORAS = (
    right(
        "kohya",
        "kohya LoRA with alpha",
        lambda: named(ALL, sd15.lora, alpha=2.0),
        "kohya",
        {"lora": 6},
        diffusers=EXACT,
    ),
    right(
        "kohya-no-alpha",
        "no alpha: alpha is the rank",
        lambda: named(ALL, sd15.lora),
        "kohya",
        {"lora": 6},
        diffusers=EXACT,
    ),
    right(
        "kohya-partial-alpha",
        "alpha for some modules",
        _partial_alpha,
        "kohya",
        {"lora": 6},
        diffusers=EXACT,
    ),
    right(
        "kohya-mixed-ranks",
        "a rank for each module, alpha in half precision",
        _mixed_ranks,
        "kohya",
        {"lora": 6},
        diffusers=EXACT,
    ),
    right(
        "kohya-bf16",
        "bfloat16",
        _bf16,
        "kohya",
        {"lora": 6},
    ),
    right(
        "kohya-unet-only",
        "UNet alone",
        lambda: named(UNET_ONLY, sd15.lora, alpha=2.0),
        "kohya",
        {"lora": 4},
        diffusers=EXACT,
    ),
    right(
        "kohya-text-only",
        "text encoder alone",
        lambda: named([TEXT_Q, TEXT_FC], sd15.lora, alpha=2.0),
        "kohya",
        {"lora": 2},
        diffusers=EXACT,
    ),
    right(
        "kohya-te1",
        "`lora_te1_` for the text encoder",
        _te1,
        "kohya",
        {"lora": 6},
        diffusers=EXACT,
    ),
    right(
        "kohya-every-layer",
        "every linear layer and convolution",
        _every_layer,
        "kohya",
        {"lora": 354},
        diffusers=EXACT,
    ),
    right(
        "locon",
        "convolutions, resamplers, time embedding",
        lambda: named(CONVS, sd15.lora, alpha=2.0),
        "kohya",
        {"lora": 8},
        diffusers=EXACT,
    ),
    right(
        "dora",
        "DoRA, a magnitude per output",
        lambda: named(ALL, sd15.dora, alpha=2.0),
        "kohya",
        {"dora": 6},
        diffusers=_WRONG,
    ),
    right(
        "dora-per-input",
        "DoRA, a magnitude per input (LyCORIS)",
        _dora_per_input,
        "kohya",
        {"dora": 4},
        diffusers=_WRONG,
    ),
    right(
        "peft",
        "diffusers / PEFT names",
        lambda: named(ALL, peft_parts, name=with_text_level),
        "peft",
        {"lora": 6},
        diffusers=EXACT,
    ),
    right(
        "peft-metadata",
        "alpha and rslora in the metadata",
        _peft_metadata,
        "peft",
        {"lora": 6},
    ),
    right(
        "peft-bare",
        "PEFT without prefix",
        lambda: named(UNET_ONLY, peft_parts, name=bare),
        "peft-bare",
        {"lora": 4},
        diffusers=NOOP,
    ),
    right(
        "peft-raw",
        "`base_model.model.`",
        lambda: named(UNET_ONLY, peft_parts, name=_raw),
        "peft-raw",
        {"lora": 4},
        diffusers=NOOP,
    ),
    right(
        "peft-lora-bias",
        "PEFT's lora_bias beside the factors",
        lambda: (
            named([TEXT_Q], peft_parts, name=_raw) | {f"{_raw(TEXT_Q)}.lora_B.bias": numbers(768)}
        ),
        "peft-raw",
        {"lora": 1, "lora-bias": 1},
    ),
    right(
        "peft-modules-to-save",
        "whole weights of PEFT's modules_to_save",
        lambda: (
            named(UNET_ONLY, peft_parts, name=_raw)
            | {f"{_raw(sd15.CONV_IN)}.{p}": numbers(*sd15.shape_of(sd15.CONV_IN, p)) for p in _BOTH}
        ),
        "peft-raw",
        {"lora": 4, "saved": 2},
    ),
    right(
        "kohya-stated-alpha",
        "alpha in the metadata alone",
        lambda: pack(
            named(ALL, sd15.lora),
            {"ss_network_alpha": "2.0", "ss_network_dim": "4"},
        ),
        "kohya",
        {"lora": 6},
    ),
    right(
        "peft-adapter-name",
        "the adapter's name inside the keys",
        _default_adapter,
        "peft-raw",
        {"lora": 4},
    ),
    right(
        "peft-dora",
        "PEFT's `lora_magnitude_vector`",
        _peft_dora,
        "peft",
        {"dora": 3},
    ),
    right(
        "attn-procs",
        "old attention processors",
        lambda: processors([*LINEAR[:2], sd15.TO_OUT], prefix="unet."),
        "attn-procs",
        {"lora": 3},
    ),
    right(
        "attn-procs-bare",
        "the same without prefix (old pytorch_lora_weights)",
        lambda: processors([*LINEAR[:2], sd15.TO_OUT], prefix=""),
        "attn-procs-bare",
        {"lora": 3},
        diffusers=NOOP,
    ),
    right(
        "diffusers-old",
        "`.lora.down`, `.lora_linear_layer.up`",
        _old_diffusers,
        "diffusers-lora",
        {"lora": 2},
    ),
    right(
        "sgm",
        "original block names, `input_blocks_1` and `_10` apart",
        _sgm,
        "sgm",
        {"lora": 13},
        diffusers="raises KeyError on convolutions",
    ),
    right(
        "comfyui",
        "dotted original names, differences",
        _comfyui,
        "comfyui",
        {"lora": 5, "full": 1},
    ),
    right(
        "bundled-embeddings",
        "a LoRA with its embeddings",
        _bundled,
        "kohya",
        {"lora": 6},
        diffusers="raises: invalid checkpoint",
    ),
)
