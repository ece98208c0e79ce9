"""Read the alpha that diffusers and PEFT store in the metadata instead of in a key.

Source: diffusers' `save_lora_weights(..., unet_lora_adapter_metadata=...)`: the metadata
`lora_adapter_metadata` is the JSON of a peft LoraConfig, its names behind `unet.` or
`text_encoder.`; bare for `unet.save_lora_adapter`. PEFT scales by alpha / r, with use_rslora by
alpha / sqrt(r).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError
from plugins_manifest.formats.parsed import Problem
from plugins_manifest.formats.table import TEXT, UNET

KEY = "lora_adapter_metadata"
_MAX_CHARACTERS = 2**18
_MAX_ALPHA = 1e6


def read_settings(metadata: Mapping[str, str]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Return the settings as one flat object, empty if there are none or they are malformed."""
    text = metadata.get(KEY)
    if text is None:
        return {}, ()
    try:
        settings = parse_json(text, name=KEY, most_bytes=_MAX_CHARACTERS)
    except UserError:
        settings = None
    if isinstance(settings, dict):
        return settings, ()
    return {}, (Problem("bad-config", f"the metadata {KEY!r} is not a JSON object of settings"),)


def alpha_of(settings: Mapping[str, Any], module: str, rank: int) -> float | None:
    """Return the alpha to divide by the rank for a canonical module; None if it is not set."""
    side = UNET if module.startswith(UNET) else TEXT
    name = module.removeprefix(side)
    alpha = _pattern(settings, side, name)
    if alpha is None:
        alpha = _number(_setting(settings, side, "lora_alpha"))
    if alpha is None:
        return None
    is_rank_stabilized = _setting(settings, side, "use_rslora") is True
    return alpha * math.sqrt(rank) if is_rank_stabilized else alpha


def _setting(settings: Mapping[str, Any], side: str, name: str) -> Any:
    found = settings.get(side + name)
    return settings.get(name) if found is None else found


def _pattern(settings: Mapping[str, Any], side: str, name: str) -> float | None:
    patterns = _setting(settings, side, "alpha_pattern")
    if not isinstance(patterns, dict):
        return None
    # PEFT takes these names as regular expressions; names from an untrusted file are compared.
    for pattern, alpha in patterns.items():
        if name == pattern or name.endswith("." + pattern):
            return _number(alpha)
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < _MAX_ALPHA else None
