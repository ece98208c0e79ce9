"""ControlNets, adapters and embeddings: right ones, and some that lack something."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from plugins_manifest.formats.sgm import sgm_modules
from plugins_manifest.formats.table import modules_of
from tests.plugins_manifest.zoo import tiny
from tests.plugins_manifest.zoo.animal import Animal
from tests.plugins_manifest.zoo.files import Content, numbers, pack

Shapes = Mapping[str, tuple[int, ...]]


def filled(shapes: Shapes) -> dict[str, np.ndarray]:
    """Small random numbers of these shapes."""
    return {name: numbers(*shape) for name, shape in shapes.items()}


def original_controlnet(prefix: str = "control_model.") -> dict[str, np.ndarray]:
    """Return the tiny ControlNet under the original names."""
    table = tiny.tiny_table()
    originals = {module: name for name, module in sgm_modules(modules_of(table)).items()}
    renamed: dict[str, np.ndarray] = {}
    for name, value in filled(tiny.controlnet_shapes()).items():
        module, _, param = name.rpartition(".")
        renamed[f"{prefix}{_original(module, originals)}.{param}"] = value
    return renamed


def _original(module: str, originals: Mapping[str, str]) -> str:
    if found := originals.get(f"unet.{module}"):
        return found
    if match := re.fullmatch(r"controlnet_down_blocks\.(\d+)", module):
        return f"zero_convs.{match[1]}.0"
    if match := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", module):
        return f"input_hint_block.{2 * int(match[1]) + 2}"
    return {
        "controlnet_mid_block": "middle_block_out.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    }[module]


def original_t2i() -> dict[str, np.ndarray]:
    """Return the small T2I-Adapter under the original names: one running number for all blocks."""
    renamed: dict[str, np.ndarray] = {}
    for name, value in filled(tiny.t2i_shapes()).items():
        rest = name.removeprefix("adapter.")
        match = re.fullmatch(r"body\.(\d+)\.(?:resnets\.(\d)\.)?(.+)", rest)
        n = 0 if match is None else 2 * int(match[1]) + int(match[2] or 0)
        renamed[rest if match is None else f"body.{n}.{match[3]}"] = value
    return renamed


def ip_adapter(*, plus: bool = False, text_width: int = tiny.TEXT_WIDTH) -> dict[str, np.ndarray]:
    """Return an IP-Adapter for the tiny UNet."""
    if plus:
        shapes: dict[str, tuple[int, ...]] = {
            "latents": (1, 4, 16),
            **{f"{m}.weight": (16, 16) for m in ("proj_in", "proj_out")},
            **{f"{m}.bias": (16,) for m in ("proj_in", "proj_out", "norm_out")},
            "norm_out.weight": (16,),
            "layers.0.0.to_q.weight": (16, 16),
        }
    else:
        shapes = {"proj.weight": (4 * text_width, 8), "proj.bias": (4 * text_width,)}
        shapes |= {"norm.weight": (text_width,), "norm.bias": (text_width,)}
    content = filled({f"image_proj.{name}": shape for name, shape in shapes.items()})
    for i, width in enumerate(tiny.cross_attention_widths()):
        for part in "kv":
            key = f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight"
            content[key] = numbers(width, text_width)
    return content


def without(content: Content, *keys: str) -> Content:
    """Return the same without some keys."""
    missing = [key for key in keys if key not in content]
    assert not missing, missing
    return {key: value for key, value in content.items() if key not in keys}


def _net(
    name: str,
    says: str,
    make: Callable[[], Content],
    format: str,
    kind: str,
    *,
    verdict: str = "ok",
    base_model: str = "sd1",
    reasons: frozenset[str] = frozenset(),
    diffusers: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Animal:
    return Animal(
        name=name,
        says=says,
        make=lambda: pack(make(), metadata),
        cage="other-kinds",
        verdict=verdict,
        format=format,
        kind=kind,
        base_model=base_model,
        reasons=reasons,
        diffusers=diffusers,
        table={"textual-inversion": "sd15", "t2i-adapter": "t2i"}.get(kind, "tiny"),
    )


def _embedding(
    name: str, says: str, content: Content, format: str, **more: str | frozenset[str]
) -> Animal:
    return _net(name, says, lambda: content, format, "textual-inversion", **more)


_ZERO = "controlnet_down_blocks.1.weight"
_UNSUPPORTED = frozenset({"unsupported-kind"})
_MISSING, _WRONG_BASE = frozenset({"missing-key"}), frozenset({"wrong-base"})

NETWORKS = (
    _net(
        "controlnet",
        "diffusers' keys",
        lambda: filled(tiny.controlnet_shapes()),
        "controlnet",
        "controlnet",
        diffusers="loads",
    ),
    _net(
        "controlnet-ldm",
        "original keys, `control_model.`",
        original_controlnet,
        "controlnet-ldm",
        "controlnet",
        diffusers="requests a config from the Hub",
    ),
    _net(
        "controlnet-ldm-bare",
        "original keys, no prefix",
        lambda: original_controlnet(""),
        "controlnet-ldm",
        "controlnet",
    ),
    _net(
        "controlnet-ldm-checkpoint",
        "original keys inside a whole checkpoint",
        lambda: (
            original_controlnet()
            | {
                "model.diffusion_model.out.2.bias": numbers(4),
                "first_stage_model.post_quant_conv.bias": numbers(4),
                "alphas_cumprod": numbers(10),
            }
        ),
        "controlnet-ldm",
        "controlnet",
    ),
    _net(
        "controlnet-difference",
        "a difference to the base UNet",
        lambda: original_controlnet() | {"difference": numbers(1)},
        "controlnet-difference",
        "unsupported:controlnet-difference",
        verdict="unsupported",
        reasons=_UNSUPPORTED,
    ),
    _net(
        "controlnet-shuffle",
        "a ControlNet that pools its condition, by its metadata, without its configuration",
        lambda: filled(tiny.controlnet_shapes()),
        "controlnet",
        "controlnet",
        verdict="unsupported",
        reasons=frozenset({"bad-config"}),
        metadata={"modelspec.title": "control_v11e_sd15_shuffle"},
    ),
    _net(
        "controlnet-missing",
        "a zero convolution is missing",
        lambda: without(filled(tiny.controlnet_shapes()), _ZERO),
        "controlnet",
        "controlnet",
        verdict="broken",
        reasons=_MISSING,
        diffusers="fills it at random, warns",
    ),
    _net(
        "controlnet-unknown-key",
        "a layer that no ControlNet has",
        lambda: filled(tiny.controlnet_shapes()) | {"controlnet_extra.weight": numbers(2)},
        "controlnet",
        "controlnet",
        verdict="partial",
        reasons=frozenset({"unknown-key"}),
    ),
    _net(
        "controlnet-sd2",
        "made for SD 2.1",
        lambda: filled(tiny.controlnet_shapes(1024)),
        "controlnet",
        "controlnet",
        verdict="wrong-base",
        base_model="sd2",
        reasons=_WRONG_BASE | {"bad-shape"},
    ),
    _net(
        "t2i-adapter",
        "diffusers' keys",
        lambda: filled(tiny.t2i_shapes()),
        "t2i-adapter",
        "t2i-adapter",
    ),
    _net(
        "t2i-adapter-light",
        "the light kind",
        lambda: filled(tiny.t2i_shapes(light=True)),
        "t2i-adapter",
        "t2i-adapter",
    ),
    _net(
        "t2i-adapter-original",
        "original keys",
        original_t2i,
        "t2i-adapter-original",
        "t2i-adapter",
        diffusers="no loader",
    ),
    _net(
        "t2i-adapter-missing",
        "a bias is missing",
        lambda: without(original_t2i(), "body.1.block1.bias"),
        "t2i-adapter-original",
        "t2i-adapter",
        verdict="broken",
        reasons=_MISSING,
    ),
    _net(
        "ip-adapter",
        "plain image projection",
        ip_adapter,
        "ip-adapter",
        "ip-adapter",
        diffusers="loads",
    ),
    _net(
        "ip-adapter-plus",
        "image projection with latents",
        lambda: ip_adapter(plus=True),
        "ip-adapter-plus",
        "unsupported:ip-adapter-plus",
        verdict="unsupported",
        base_model="sd1",
        reasons=_UNSUPPORTED,
        diffusers="loads",
    ),
    _net(
        "ip-adapter-missing",
        "a layer is missing",
        lambda: without(ip_adapter(), "ip_adapter.3.to_k_ip.weight"),
        "ip-adapter",
        "ip-adapter",
        verdict="broken",
        reasons=_MISSING,
        diffusers="KeyError",
    ),
    _net(
        "ip-adapter-unknown-key",
        "a key that no IP-Adapter has",
        lambda: ip_adapter() | {"image_proj.extra.weight": numbers(2)},
        "ip-adapter",
        "ip-adapter",
        verdict="partial",
        reasons=frozenset({"unknown-key"}),
        diffusers="ignores it, says nothing",
    ),
    _net(
        "ip-adapter-sdxl",
        "made for SDXL",
        lambda: ip_adapter(text_width=2048),
        "ip-adapter",
        "ip-adapter",
        verdict="wrong-base",
        base_model="sdxl",
        reasons=_WRONG_BASE | {"bad-shape"},
    ),
    _embedding(
        "embedding",
        "`{token: vectors}`",
        {"<zkz-cat>": numbers(3, 768)},
        "embedding",
        diffusers="loads",
    ),
    _embedding(
        "embedding-one-vector",
        "one vector without a side for the count",
        {"zkz_cat": numbers(768)},
        "embedding",
    ),
    _embedding(
        "embedding-civitai",
        "`emb_params`",
        {"emb_params": numbers(8, 768)},
        "embedding-civitai",
        diffusers="loads as a token named emb_params",
    ),
    _embedding(
        "embedding-a1111",
        "`string_to_param.*` in safetensors",
        {"string_to_param.*": numbers(2, 768), "string_to_token.*": np.array(265)},
        "embedding-a1111",
    ),
    _embedding(
        "embedding-clip-l",
        "`clip_l` alone (diffusers' scripts for SD1.5)",
        {"clip_l": numbers(2, 768)},
        "embedding-clip-l",
    ),
    _embedding(
        "embedding-two-words",
        "vectors of two words",
        {"<zkz-cat>": numbers(3, 768), "<zkz-dog>": numbers(3, 768)},
        "embedding",
        verdict="partial",
        reasons=frozenset({"bad-token"}),
    ),
    _embedding(
        "embedding-sdxl",
        "`clip_l` and `clip_g`",
        {"clip_l": numbers(2, 768), "clip_g": numbers(2, 1280)},
        "embedding-sdxl",
        verdict="wrong-base",
        base_model="sdxl",
        reasons=_WRONG_BASE,
        diffusers="raises, the tensors in its message",
    ),
    _embedding(
        "embedding-sd2",
        "vectors of 1024",
        {"emb_params": numbers(2, 1024)},
        "embedding-civitai",
        verdict="wrong-base",
        base_model="sd2",
        reasons=_WRONG_BASE,
        diffusers="raises with an unformatted message",
    ),
    _embedding(
        "embedding-too-long",
        "more vectors than a prompt has",
        {"emb_params": numbers(90, 768)},
        "embedding-civitai",
        verdict="partial",
        base_model="unknown",
        reasons=frozenset({"bad-shape"}),
    ),
)
