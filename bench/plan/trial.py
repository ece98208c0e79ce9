"""A trial: one image to make. Its id is a hash of everything that decides the pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plugins_manifest.cases import Case
from plugins_manifest.schema import Settings
from runners.base import PRESET_SEMANTICS, PluginFile, Variant
from runners.protocols import (
    Method,
    arrangement_of,
    knobs_of,
    stage1_mode_of,
    uses_base,
    uses_upgraded,
)

ID_DIGITS = 20


@dataclass(frozen=True)
class Trial:
    """One row of trials.parquet; None is a setting that the method does not have.

    `stack` is a JSON list of plugin ids, `conditions` a JSON mapping from plugin id to the path of
    its condition image; `condition_path` is the first of them. `settings` is a JSON mapping of the
    steps, guidance and sampler that are not the manifest's, None without any: floor images are
    references of the plugins with the same. `clip_skip` None is the last layer. `adapter` is the id
    of one of several mappers, on whose content alone the id of the trial depends, or the settings
    that the method alone has.
    """

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
    conditions: str
    seed: int
    settings: str | None = None
    clip_skip: int | None = None
    adapter: str | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the trial as a row of trials.parquet."""
        return asdict(self)


@dataclass(frozen=True)
class Part:
    """A plugin as one case uses it; hashes are of the pixels of its inputs."""

    file: PluginFile
    condition_sha256: str | None = None
    reference_sha256: str | None = None


@dataclass(frozen=True)
class TrialInputs:
    """Everything that decides a trial, besides the method's own settings.

    `weights` are the family's parts by sha256: base, upgraded, mapper. `stack` holds all plugins,
    of both sides, in the order in which they are attached. `one_layout` as
    `runners.families.traits.FamilyTraits` has it.
    """

    case: Case
    seed: int
    base_prompt: str
    upgraded_prompt: str
    weights: Mapping[str, str]
    settings: Settings
    stack: tuple[Part, ...] = ()
    base_negative_prompt: str | None = None
    upgraded_negative_prompt: str | None = None
    stage2_prompt: str | None = None
    one_layout: bool = False


def trial_id(method: Method, variant: Variant, inputs: TrialInputs) -> str:
    """Return the first 20 hexadecimal digits of the sha256 of all that decides the pixels.

    Weights enter by sha256, never by path or name; what the method does not use stays out.
    """
    text = json.dumps(_identity(method, variant, inputs), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def _identity(method: Method, variant: Variant, inputs: TrialInputs) -> dict[str, Any]:
    settings, case = inputs.settings, inputs.case
    facts: dict[str, Any] = {
        "method": method.name,
        "case_id": case.case_id,
        "seed": inputs.seed,
        "negative_prompt": case.negative_prompt,
        "steps": settings.steps,
        "guidance_scale": float(settings.guidance_scale),
        "sampler": settings.sampler,
        "dtype": settings.dtype,
        "preset": settings.preset,
    }
    if uses_base(method):
        facts |= {
            "base": inputs.weights["base"],
            "base_prompt": inputs.base_prompt,
            "base_size": list(settings.base_size),
        }
        if inputs.base_negative_prompt not in (None, case.negative_prompt):
            facts["base_negative_prompt"] = inputs.base_negative_prompt
    if uses_base(method) or (inputs.one_layout and uses_upgraded(method)):
        facts |= {} if (settings.clip_skip or 1) == 1 else {"clip_skip": settings.clip_skip}
    if settings.prompt_syntax != "plain":
        facts["prompt_syntax"] = settings.prompt_syntax
    if method.side == "upgraded":
        facts["upgraded_size"] = list(settings.upgraded_size)
    if uses_upgraded(method):
        facts |= _upgraded_facts(method, inputs)
    if len(inputs.stack) == 1 and method.uses_plugin:
        facts |= _single_plugin(inputs.stack[0], variant, settings)
    elif len(inputs.stack) > 1 or arrangement_of(method) != "own":
        facts["stack"] = [_of_member(part, variant, settings) for part in inputs.stack]
    if inputs.stage2_prompt is not None:
        facts["stage2_prompt"] = inputs.stage2_prompt
    if method.uses_t0:
        facts["t0"] = variant.t0
    if method.uses_adapter:
        facts |= {
            "mapper": inputs.weights["mapper"],
            "adapter_scale": variant.adapter_scale,
            "stage1_mode": stage1_mode_of(method, settings),
        }
    if (knobs := knobs_of(method)) is not None:
        facts |= knobs.facts(variant, case)
    return facts


def _upgraded_facts(method: Method, inputs: TrialInputs) -> dict[str, Any]:
    settings, negative = inputs.settings, inputs.upgraded_negative_prompt
    facts = {
        "upgraded": inputs.weights["upgraded"],
        "upgraded_prompt": inputs.upgraded_prompt,
    }
    if negative not in (None, inputs.case.negative_prompt):
        facts["upgraded_negative_prompt"] = negative
    is_paired = inputs.one_layout and settings.base_size == settings.upgraded_size
    if is_paired and not method.uses_t0:
        facts["noise"] = "base"
    return facts


def _single_plugin(part: Part, variant: Variant, settings: Settings) -> dict[str, Any]:
    """Return the facts of a plugin that is alone; optional ones enter only where they are used."""
    return {
        "plugin_kind": part.file.kind,
        "plugin": part.file.sha256,
        "plugin_strength": float(part.file.weight * variant.plugin_scale),
        "condition": part.condition_sha256,
        **_optional_facts(part, settings),
    }


def _of_member(part: Part, variant: Variant, settings: Settings) -> dict[str, Any]:
    """Return the facts of a plugin in a stack; the plugin scale is that of the base's plugins."""
    scale = variant.plugin_scale if part.file.is_scaled else 1.0
    return {
        "kind": part.file.kind,
        "sha256": part.file.sha256,
        "side": part.file.side,
        "strength": float(part.file.weight * scale),
        "condition": part.condition_sha256,
        **_optional_facts(part, settings),
    }


def _optional_facts(part: Part, settings: Settings) -> dict[str, Any]:
    semantics = part.file.lora_semantics
    facts = {
        "lora_semantics": None if semantics == PRESET_SEMANTICS[settings.preset] else semantics,
        "stages": None if part.file.stages == "both" else part.file.stages,
        "token": part.file.token,
        "reference": part.reference_sha256,
        "side_files": [sha256 for _, sha256 in part.file.side_files] or None,
    }
    return {key: value for key, value in facts.items() if value is not None}
