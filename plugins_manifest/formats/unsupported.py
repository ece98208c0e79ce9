"""Recognize kinds of files that are not supported, and refuse them with an explanation."""

from __future__ import annotations

import re

from plugins_manifest.formats.foreign import WEIGHT_SIGNS, Sign, found_signs
from plugins_manifest.formats.parsed import FileParser, Header, ModuleTable, ParsedPlugin, Problem
from plugins_manifest.formats.table import UNET

_FIRST = (
    Sign(
        re.compile(r"lllite_.+"),
        "controllllite",
        "`lllite_unet_...`",
        "a ControlLLLite needs its own attention code; use the ControlNet of the same condition",
    ),
    Sign(
        re.compile(r"lora_controlnet"),
        "control-lora",
        "`lora_controlnet` and low-rank parts of a ControlNet",
        "a Control-LoRA is a low-rank ControlNet; use the full ControlNet of the same condition",
    ),
    Sign(
        re.compile(r".*[._]custom_diffusion\..+|.*_custom_diffusion\.weight"),
        "custom-diffusion",
        "`...to_k_custom_diffusion.weight`",
        "Custom Diffusion replaces attention processors; it is not supported",
    ),
    Sign(
        re.compile(r"tensor"),  # a bare tensor, named so when it was converted
        "aesthetic-gradient",
        "one bare tensor (AUTOMATIC1111)",
        "an aesthetic gradient steers sampling by a picture's embedding; it is not supported",
    ),
    Sign(
        re.compile(r"transformer_layes\.\d+\..+|style_embedding"),
        "t2i-adapter-style",
        "`style_embedding`, `transformer_layes...` (T2I-Adapter)",
        "a T2I style adapter reads CLIP's image features, not a condition image; use an IP-Adapter",
    ),
    Sign(
        re.compile(r".*motion_modules\..+"),
        "motion-module",
        "`...motion_modules...` (AnimateDiff)",
        "a motion module makes videos; it changes nothing about one image",
    ),
)
_LAST = (
    *WEIGHT_SIGNS,
    Sign(
        re.compile(r"\d+\.\d+\.linear\..+"),
        "hypernetwork",
        "numbered layers per attention width (AUTOMATIC1111)",
        "hypernetworks have no place in diffusers' models; they are not supported",
    ),
    Sign(
        re.compile(
            r"(?:model\.diffusion_model|first_stage_model|cond_stage_model|model_ema)\..+"
            r"|(?:encoder|decoder)\.(?:conv_in|mid_block|mid)\..+|post_quant_conv\..+"
            r"|text_model\.embeddings\..+"
        ),
        "checkpoint",
        "a whole model: UNet, VAE or text encoder",
        "a whole model, not a plugin; a plugin is made for one",
    ),
)
_UNKNOWN = "no format is recognized in the keys"
_N_SHOWN = 3


def _parser(signs: tuple[Sign, ...]) -> FileParser:
    """Return the parser of files with one of these signs."""

    return FileParser(
        layouts={sign.layout: sign.keys for sign in signs},
        recognizes=lambda header, _: any(found_signs(header.tensors, signs)),
        parse=lambda header, _: _refused(header, next(found_signs(header.tensors, signs))),
    )


def _parse_rest(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Refuse a bare UNet as a checkpoint, and everything else as unknown."""
    keys = header.tensors.keys()
    if any(UNET + key in table for key in keys):
        return _refused(header, _LAST[-1])
    shown = ", ".join(list(keys)[:_N_SHOWN])
    problem = Problem("unknown-format", f"{_UNKNOWN} ({shown}{', ...' * (len(keys) > _N_SHOWN)})")
    return ParsedPlugin(
        "unknown",
        "unsupported:unknown",
        "unknown",
        unknown_keys=tuple(keys),
        problems=(problem,),
    )


def _refused(header: Header, sign: Sign) -> ParsedPlugin:
    return ParsedPlugin(
        sign.layout,
        f"unsupported:{sign.layout}",
        "unknown",
        unknown_keys=tuple(header.tensors),
        problems=(Problem("unsupported-kind", sign.why),),
    )


FIRST = _parser(_FIRST)
"""Kinds whose other keys look like those of a LoRA or ControlNet: to be checked first."""

LAST = _parser(_LAST)

REST = FileParser(
    layouts={"unknown": "nothing recognized"},
    recognizes=lambda _, __: True,
    parse=_parse_rest,
)
