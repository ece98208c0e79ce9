"""Validate a group before anything runs, and report all problems at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.schema.kinds import needs_condition, needs_reference
from plugins_manifest.schema.words import PromptSyntax, Side
from runners.base import (
    SAMPLERS,
    PluginFile,
    RenderCase,
    RenderSettings,
    Stack,
    Variant,
    sampler_problem,
    stack_of,
)
from runners.families import Family
from runners.families.family import Pipeline, denoising_part, size_step_px
from runners.prompts import clip_skip_problem, length_problem
from runners.protocols import Method, knobs_of
from xadapter.vae import pixels_per_latent


def check_group(
    family: Family,
    plugin: PluginFile | Stack | None,
    *,
    cases: Sequence[RenderCase],
    variants: Sequence[Variant],
    settings: RenderSettings,
    methods: Mapping[str, Method],
) -> None:
    """Raise one `UserError` that lists every problem of a group."""
    stack = stack_of(plugin)
    problems = [
        *_of_variants(variants, methods, family),
        *_of_settings(family, settings),
        *_of_adapter(family, variants, settings, methods),
        *_of_conditions(stack, cases, settings),
        *_of_references(stack, cases),
        *overlong_prompts(family, cases, settings.prompt_syntax),
    ]
    if not cases:
        problems.append("the group has no cases: give at least one")
    if problems:
        raise UserError.collect(problems)


def overlong_prompts(
    family: Family, cases: Sequence[RenderCase], syntax: PromptSyntax = "plain"
) -> list[str]:
    """Return a problem for each prompt with more tokens than a text encoder reads."""
    sides: list[tuple[Side, Pipeline]] = [("base", family.base), ("upgraded", family.upgraded)]
    problems: dict[str, None] = {}
    for case in cases:
        texts: dict[Side, tuple[str, str]] = {
            "base": (case.base_prompt, case.base_negative),
            "upgraded": (case.upgraded_prompt, case.negative_prompt),
        }
        for side, pipe in sides:
            for tokenizer, text in itertools.product(_tokenizers(pipe), texts[side]):
                if (why := length_problem(text, tokenizer, side, syntax)) is not None:
                    problems[f"case {case.case_id!r}: {why}"] = None
    return list(problems)


def _tokenizers(pipe: Pipeline) -> list[PreTrainedTokenizerBase]:
    found = (getattr(pipe, name, None) for name in ("tokenizer", "tokenizer_2"))
    return [tokenizer for tokenizer in found if tokenizer is not None]


def _of_variants(
    variants: Sequence[Variant], methods: Mapping[str, Method], family: Family
) -> Iterator[str]:
    for variant in variants:
        method = methods.get(variant.method)
        if method is None:
            yield unknown_name("method", variant.method, methods)
        elif method.uses_t0 and (variant.t0 is None or not 0.0 < variant.t0 <= 1.0):
            yield f"{variant.method}: t0 is {variant.t0}, it must be above 0 and at most 1"
        knobs = None if method is None else knobs_of(method)
        if knobs is not None and (why := knobs.problem(variant, family)) is not None:
            yield f"{variant.method}: {why}"


def _of_settings(family: Family, settings: RenderSettings) -> Iterator[str]:
    if settings.sampler not in SAMPLERS:
        yield unknown_name("sampler", settings.sampler, SAMPLERS)
    if (problem := sampler_problem(settings.sampler, settings.steps)) is not None:
        yield problem
    if settings.preset == "released" and settings.sampler != "dpm++":
        yield f"the preset 'released' samples with 'dpm++', not {settings.sampler!r}"
    if (why := clip_skip_problem(family.base, settings.clip_skip)) is not None:
        yield why
    if denoising_part(family.upgraded)[0] != "unet":
        yield from _of_transformer(settings)
    if settings.steps < 1:
        yield f"steps is {settings.steps}: use at least 1"
    if settings.dtype != family.dtype:
        yield f"the settings ask for {settings.dtype}, the family was loaded in {family.dtype}"
    for side, pipe, size_px in _sizes(family, settings):
        step_px = size_step_px(pipe)
        for name, value in zip(("width", "height"), size_px, strict=True):
            if value < step_px or value % step_px:
                yield f"the {side} {name} is {value} px: use a multiple of {step_px}"


def _of_transformer(settings: RenderSettings) -> Iterator[str]:
    """Yield the settings that an upgraded model with another network than a UNet does not have."""
    if settings.preset != "sound":
        yield f"the preset {settings.preset!r} is that of two models of diffusion: use 'sound'"
    if settings.prompt_syntax != "plain":
        yield f"prompt_syntax is {settings.prompt_syntax!r}: SD3's prompts are read 'plain' here"


def _of_adapter(
    family: Family,
    variants: Sequence[Variant],
    settings: RenderSettings,
    methods: Mapping[str, Method],
) -> Iterator[str]:
    using = [v for v in variants if v.method in methods and methods[v.method].uses_adapter]
    if not using:
        return
    if names := {v.method for v in using if family.mapper_of(v.adapter) is None}:
        yield f"{', '.join(sorted(names))} needs a mapper: pass --adapter PATH"
    sides = [
        tuple(value // pixels_per_latent(pipe.vae) for value in size_px)
        for _, pipe, size_px in _sizes(family, settings)
    ]
    if sides[1] != tuple(2 * value for value in sides[0]):
        yield (
            f"base size {settings.base_size_px} px and upgraded size {settings.upgraded_size_px} "
            f"px give latents {sides[0]} and {sides[1]}: the upgraded latents must have twice the "
            "sides of the base latents"
        )


def _of_conditions(
    stack: Stack, cases: Sequence[RenderCase], settings: RenderSettings
) -> Iterator[str]:
    for plugin in stack:
        if not needs_condition(plugin.kind):
            continue
        upgraded = plugin.side == "upgraded"
        width_px, height_px = settings.upgraded_size_px if upgraded else settings.base_size_px
        for case in cases:
            image = case.condition_for(plugin.plugin_id)
            shape = None if image is None else image.shape
            if shape != (height_px, width_px, 3):
                found = "none" if shape is None else f"one of shape {shape}"
                yield (
                    f"case {case.case_id!r}: {plugin.plugin_id} needs a condition image of shape "
                    f"{(height_px, width_px, 3)}, got {found}"
                )


def _of_references(stack: Stack, cases: Sequence[RenderCase]) -> Iterator[str]:
    for plugin in stack:
        if not needs_reference(plugin.kind):
            continue
        for case in cases:
            if case.reference is None:
                yield f"case {case.case_id!r}: {plugin.plugin_id} needs a reference image, got none"


def _sizes(
    family: Family, settings: RenderSettings
) -> tuple[tuple[str, Pipeline, tuple[int, int]], ...]:
    return (
        ("base", family.base, settings.base_size_px),
        ("upgraded", family.upgraded, settings.upgraded_size_px),
    )
