"""Kinds of files that are recognized, and refused with an explanation."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from plugins_manifest.formats.parsed import Header, ModuleTable, ParsedPlugin, Problem
from plugins_manifest.formats.table import UNET


@dataclass(frozen=True)
class _Sign:
    """A key pattern that only one kind of file has."""

    pattern: re.Pattern[str]
    layout: str
    why: str


_FIRST = (
    _Sign(
        re.compile(r"lllite_.+"),
        "controllllite",
        "a ControlLLLite needs its own attention code; use the ControlNet of the same condition",
    ),
    _Sign(
        re.compile(r"lora_controlnet"),
        "control-lora",
        "a Control-LoRA is a low-rank ControlNet; use the full ControlNet of the same condition",
    ),
    _Sign(
        re.compile(r".*[._]custom_diffusion\..+|.*_custom_diffusion\.weight"),
        "custom-diffusion",
        "Custom Diffusion replaces attention processors; it is not supported",
    ),
    _Sign(
        re.compile(r"tensor"),  # a bare tensor, named so when it was converted
        "aesthetic-gradient",
        "an aesthetic gradient steers sampling by a picture's embedding; it is not supported",
    ),
    _Sign(
        re.compile(r".*motion_modules\..+"),
        "motion-module",
        "a motion module makes videos; it changes nothing about one image",
    ),
)
_LAST = (
    _Sign(
        re.compile(r"\d+\.\d+\.linear\..+"),
        "hypernetwork",
        "hypernetworks have no place in diffusers' models; they are not supported",
    ),
    _Sign(
        re.compile(
            r"(?:model\.diffusion_model|first_stage_model|cond_stage_model|model_ema)\..+"
            r"|(?:encoder|decoder)\.(?:conv_in|mid_block|mid)\..+|post_quant_conv\..+"
            r"|text_model\.embeddings\..+"
        ),
        "checkpoint",
        "a whole model, not a plugin; a plugin is made for one",
    ),
)
_UNKNOWN = "no format is recognized in the keys"
_N_SHOWN = 3


def special_kind(keys: Collection[str]) -> ParsedPlugin | None:
    """Kinds whose other keys look like those of a LoRA or ControlNet: ask for them first."""
    return _first_match(keys, _FIRST)


def remaining_kind(header: Header, table: ModuleTable) -> ParsedPlugin:
    """What a file is that no parser has taken."""
    keys = header.tensors.keys()
    found = _first_match(keys, _LAST)
    if found is not None:
        return found
    if any(UNET + key in table for key in keys):
        return _refused(keys, _LAST[-1])
    shown = ", ".join(list(keys)[:_N_SHOWN])
    problem = Problem("unknown-format", f"{_UNKNOWN} ({shown}{', ...' * (len(keys) > _N_SHOWN)})")
    return ParsedPlugin(
        "unknown",
        "unsupported:unknown",
        "unknown",
        unknown_keys=tuple(keys),
        problems=(problem,),
    )


def _first_match(keys: Collection[str], signs: tuple[_Sign, ...]) -> ParsedPlugin | None:
    for sign in signs:
        if any(sign.pattern.fullmatch(key) for key in keys):
            return _refused(keys, sign)
    return None


def _refused(keys: Collection[str], sign: _Sign) -> ParsedPlugin:
    return ParsedPlugin(
        sign.layout,
        f"unsupported:{sign.layout}",
        "unknown",
        unknown_keys=tuple(keys),
        problems=(Problem("unsupported-kind", sign.why),),
    )
