"""A trial: one image to make. Its id is a hash of everything that decides the pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plugins_manifest.cases import Case
from plugins_manifest.schema import Settings
from runners.base import Method, PluginFile, Variant

ID_DIGITS = 20


@dataclass(frozen=True)
class Trial:
    """One row of trials.parquet; None is a knob that the method does not have."""

    trial_id: str
    plugin: str
    kind: str
    stack: str
    method: str
    t0: float | None
    plugin_scale: float | None
    adapter_scale: float | None
    preset: str
    stage1_mode: str
    case_id: str
    base_prompt: str
    upgraded_prompt: str
    negative_prompt: str
    condition_path: str | None
    seed: int

    def as_row(self) -> dict[str, Any]:
        """The trial as a row of trials.parquet."""
        return asdict(self)


@dataclass(frozen=True)
class Ingredients:
    """What a trial is made of, besides the method's own knobs.

    `weights` are the family's parts by sha256: base, upgraded, mapper.
    """

    case: Case
    seed: int
    base_prompt: str
    upgraded_prompt: str
    weights: Mapping[str, str]
    settings: Settings
    plugin: PluginFile | None = None
    condition_sha256: str | None = None


def trial_id(method: Method, variant: Variant, ingredients: Ingredients) -> str:
    """The first 20 hexadecimal digits of the sha256 of all that decides the pixels.

    Weights enter by sha256, never by path or name; what the method does not use stays out.
    """
    text = json.dumps(_deciding(method, variant, ingredients), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def _deciding(method: Method, variant: Variant, made_of: Ingredients) -> dict[str, Any]:
    settings, case = made_of.settings, made_of.case
    facts: dict[str, Any] = {
        "method": method.name,
        "case_id": case.case_id,
        "seed": made_of.seed,
        "negative_prompt": case.negative_prompt,
        "steps": settings.steps,
        "guidance_scale": float(settings.guidance_scale),
        "sampler": settings.sampler,
        "dtype": settings.dtype,
        "preset": settings.preset,
    }
    if method.uses_plugin or method.side == "base":
        facts |= {
            "base": made_of.weights["base"],
            "base_prompt": made_of.base_prompt,
            "base_size": list(settings.base_size),
        }
    if method.side == "upgraded":
        facts |= {
            "upgraded": made_of.weights["upgraded"],
            "upgraded_prompt": made_of.upgraded_prompt,
            "upgraded_size": list(settings.upgraded_size),
        }
    if method.uses_plugin and made_of.plugin is not None:
        facts |= {
            "plugin_kind": made_of.plugin.kind,
            "plugin": made_of.plugin.sha256,
            "plugin_strength": float(made_of.plugin.weight * variant.plugin_scale),
            "condition": made_of.condition_sha256,
        }
    if method.uses_t0:
        facts["t0"] = variant.t0
    if method.uses_adapter:
        facts |= {
            "mapper": made_of.weights["mapper"],
            "adapter_scale": variant.adapter_scale,
            "stage1_mode": settings.stage1_mode,
        }
    return facts
