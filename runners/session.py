"""A group's session: everything that the methods share, computed once, on first use.

Legend: b images (the group's cases), c channels, h height, w width; latents and images are
float32, images in [-1, 1]. All noise comes from one CPU generator per image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import diffusers
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plugins_manifest.schema.words import Side
from runners.base import (
    SAMPLERS,
    PassName,
    RenderCase,
    RenderSettings,
    Variant,
    generator_seed,
)
from runners.families import Family
from runners.families.family import Pipeline, text_encoders
from runners.passes import PassKey, SharedWork, pass_key
from runners.plugins import Attachment, with_attachment
from runners.prompts import TextReading, encode_prompt, joined_pair, rewritten_prompt, stacked
from runners.stage2 import Members, Stage2Method, run_stage2, stage2_key
from runners.texts import encoded_once
from xadapter.delta import BasePair
from xadapter.denoiser import Conditions, Control, Denoiser
from xadapter.guidance import Guidance
from xadapter.handover import Stage1
from xadapter.noise import (
    Noise,
    NoiseSource,
    generators_from,
    independent_noise,
    named_generators,
)
from xadapter.presets import Preset, find_preset
from xadapter.sampling import run_alone, run_stage1
from xadapter.solvers import Solver, shared_schedulers
from xadapter.vae import Bridge, decode_image, encode_resized, pixels_per_latent, to_uint8

T = TypeVar("T")


def image_seed(case: RenderCase) -> int:
    """Return the seed of an image's generator."""
    return generator_seed(case.seed, case.case_id)


@dataclass(frozen=True)
class Enlarged:
    """The base model with its plugin at the upgraded size.

    `latents` [b, c, h, w] are those of the enlarged image by the base VAE, without noise; `noise`
    has the same shape.
    """

    base: Denoiser
    latents: Tensor
    noise: Tensor


class GroupSession:
    """A plugin or a stack at one scale, attached, over a batch of cases.

    `attachment` holds what plugins of the base side add to the denoiser, `remix` those of the
    upgraded side; with `is_moved` it changes with the plugin scale. With `stage2` the passes of
    stage 1 are already in `work`, from a session with other plugins. `snapshot_t0s` are the t0
    values for stage-1 mode "truncated", `members` the variants of each pass of stage 2, of which at
    most `together` are in a call of the models.
    """

    def __init__(
        self,
        family: Family,
        cases: Sequence[RenderCase],
        settings: RenderSettings,
        *,
        attachment: Attachment,
        remix: Attachment,
        plugin_scale: float | None,
        work: SharedWork,
        snapshot_t0s: Sequence[float] = (),
        stage2: bool = False,
        is_moved: bool = False,
        members: Mapping[PassKey, Members] | None = None,
        together: int = 1,
    ) -> None:
        self.family = family
        self.cases = tuple(cases)
        self.settings = settings
        controls = (*attachment.controls, *(remix.controls if is_moved else ()))
        self.preset: Preset = find_preset(settings.preset, has_control=bool(controls))
        self.non_finite: set[int] = set()
        self._attachment = attachment
        self._remix = remix
        self._plugin_scale = plugin_scale
        self._work = work
        self._snapshot_t0s = tuple(snapshot_t0s)
        self._text_pass: PassName = "stage2_text" if stage2 else "base_text"
        self._upgraded_text: PassName = "plugged_text" if is_moved else "upgraded_text"
        self._members = members or {}
        self._together = together
        self._guidance = Guidance(settings.guidance_scale)
        self._original = self

    def separate(self, variant: Variant) -> GroupSession:
        """Return a variant's session with the same shared passes and nothing else in common.

        What a method changes in it, or in its noise, does not reach other methods: the passes are
        run by this session. Its family has the variant's mapper alone.
        """
        other, family = copy.copy(self), self.family
        other.family = replace(family, mapper=family.mapper_of(variant.adapter), mappers={})
        for name in ("noise", "base", "upgraded", "_schedulers"):
            vars(other).pop(name, None)
        other.non_finite = set()
        return other

    @property
    def networks(self) -> list[nn.Module]:
        """Return the plugins' networks that run beside the models."""
        both = (self._attachment, self._remix)
        return [part.net for one in both for part in (*one.controls, *one.adapters)]

    @cached_property
    def noise(self) -> Noise:
        """Draw all noise of the batch, [b, c, h, w] per purpose, each image by its generator."""
        base, upgraded = self.family.base, self.family.upgraded
        source = NoiseSource(
            generators_from([image_seed(case) for case in self.cases]), self.preset.draw_order
        )
        return source.draw(
            base_chw=_latent_chw(base, self.settings.base_size_px),
            upgraded_chw=_latent_chw(upgraded, self.settings.upgraded_size_px),
        )

    @cached_property
    def base(self) -> Denoiser:
        """Return the base model with the plugin, on the base prompts."""
        return Denoiser(
            self.family.network("base"),
            self._schedulers[0],
            self._shared(self._text_pass, GroupSession._encode_base_text),
            self._guidance,
            self._controls(self._attachment),
        )

    @cached_property
    def upgraded(self) -> Denoiser:
        """Return the upgraded model on the upgraded prompts."""
        return Denoiser(
            self.family.network("upgraded"),
            self._schedulers[1],
            self._shared(self._upgraded_text, GroupSession._encode_upgraded_text),
            self._guidance,
            self._controls(self._remix),
        )

    def stage1(self) -> Stage1:
        """Run stage 1: the base model with its plugin, over the whole schedule."""
        return self._shared("stage1", GroupSession._run_stage1)

    def stage1_picture(self) -> Tensor:
        """Decode the image of stage 1, [b, 3, H, W] at the base size, not clamped."""
        return self._shared("stage1_picture", GroupSession._decode_stage1)

    def bridge(self) -> Bridge:
        """Return the image of stage 1 and its latents by the upgraded VAE, for every t0."""
        return self._shared("bridge", GroupSession._cross_bridge)

    def enlarged(self) -> Enlarged:
        """Return the base model and the image of stage 1, at the upgraded size, for every t0."""
        return self._shared("enlarged", GroupSession._enlarge)

    def base_pair(self, plugged: Denoiser) -> BasePair:
        """Return the base model without its plugin, on the content prompts, and with it.

        `plugged` is the one with it: `base`, or that of the upgraded size, guided or not.
        """
        off = self._attachment.taken_off
        text = self._shared("plain_text", GroupSession._encode_plain_text)
        if off is None:
            return joined_pair(text, plugged)
        # a UNet with an IP-Adapter takes its image also where it leaves it out
        text = replace(text, added=plugged.conditions.added)
        return BasePair(replace(plugged, conditions=text, controls=()), plugged, taken_off=off)

    def one_stage(self) -> Tensor:
        """Run the upgraded model over the whole schedule; final latents [b, c, h, w].

        Of two models of one layout and size, both start from the base model's noise: their images
        differ by the weights alone.
        """
        latents = _latent_chw(self.family.upgraded, self.settings.upgraded_size_px)
        is_paired = self.family.one_layout and self.noise.base_start.shape[1:] == latents
        return run_alone(
            self.upgraded,
            self.noise.base_start if is_paired else self.noise.upgraded_noise,
            n_steps=self.settings.steps,
            preset=self.preset,
            step_generators=self.step_generators("stage 1" if is_paired else "one stage"),
        )

    def stage2(self, method: Stage2Method, variant: Variant) -> Tensor:
        """Return the final latents [b, c, h, w] of a variant's stage 2, from its method's start.

        It runs for all variants of its pass at once.
        """
        key = stage2_key(method, variant, most=self._together)
        if (method, variant) in (members := self._members.get(key, ())):
            make = lambda: run_stage2(self._original, members, most=self._together)  # noqa: E731
            if variant in (found := self._work.get(key, make)):
                return found[variant]
        return run_stage2(self, [(method, variant)])[variant]

    def picture(self, side: Side, latents_bchw: Tensor) -> np.ndarray:
        """Decode final latents with a side's VAE: uint8 [b, H, W, 3]; see `pixels`."""
        return self.pixels(decode_image(self._pipe(side).vae, latents_bchw))

    def pixels(self, picture_bchw: Tensor) -> np.ndarray:
        """Convert images in [-1, 1] to uint8 [b, H, W, 3]; record images with non-finite values."""
        finite = torch.isfinite(picture_bchw).flatten(1).all(dim=1)
        self.non_finite.update(index for index, good in enumerate(finite.tolist()) if not good)
        return to_uint8(torch.nan_to_num(picture_bchw))

    @cached_property
    def _schedulers(self) -> tuple[Solver, Solver]:
        sampler = SAMPLERS[self.settings.sampler]
        solver: Any = getattr(diffusers, sampler.scheduler)
        if sampler.spacing is not None:
            solver = solver(timestep_spacing=sampler.spacing)
        return shared_schedulers(
            self.family.base.scheduler, self.family.upgraded.scheduler, solver_class=solver
        )

    def step_generators(self, stage: str) -> list[torch.Generator]:
        """Return fresh generators for the steps of a stochastic sampler, one per image.

        They depend on the image and on the stage alone: no draw moves one of another pass.
        """
        return named_generators([image_seed(case) for case in self.cases], f"steps of {stage}")

    def _shared(self, name: PassName, compute: Callable[[GroupSession], T]) -> T:
        key = pass_key(name, self._plugin_scale)
        return self._work.get(key, lambda: compute(self._original))

    def _decode_stage1(self) -> Tensor:
        return decode_image(self.family.base.vae, self.stage1().latents)

    def _run_stage1(self) -> Stage1:
        return run_stage1(
            self.base,
            self.noise.base_start,
            n_steps=self.settings.steps,
            preset=self.preset,
            snapshots_at=self._snapshot_t0s,
            step_generators=self.step_generators("stage 1"),
        )

    def _cross_bridge(self) -> Bridge:
        picture = self.stage1_picture().clamp(-1, 1)
        latents = encode_resized(
            self.family.upgraded.vae,
            picture,
            self.noise.upgraded_posterior,
            resize=self.preset.resize,
        )
        return Bridge(picture, latents)

    def _enlarge(self) -> Enlarged:
        pipe = self.family.base
        chw = _latent_chw(pipe, self.settings.upgraded_size_px)
        posterior, noise = independent_noise(
            [image_seed(case) for case in self.cases], "hires", [chw, chw]
        )
        latents = encode_resized(
            pipe.vae,
            self.stage1_picture().clamp(-1, 1),
            posterior,
            resize=self.preset.resize,
        )
        base = replace(
            self.base,
            conditions=self._plugged(
                "base", self._encoded("base", is_enlarged=True), self._enlarged_condition
            ),
            controls=self._controls(self._attachment, self._enlarged_condition),
        )
        return Enlarged(base, latents, noise)

    def _encode_base_text(self) -> Conditions:
        return self._plugged("base", self._encoded("base"), self._condition)

    def _encode_upgraded_text(self) -> Conditions:
        return self._plugged("upgraded", self._encoded("upgraded"), self._condition)

    def _plugged(self, side: Side, text: Conditions, images: Callable[[str], Tensor]) -> Conditions:
        """Return a side's conditions with what its plugins add to them."""
        return with_attachment(
            text,
            self._attached(side),
            images=images,
            references=[case.reference for case in self.cases if case.reference is not None],
            guided=self._guidance.is_on,
        )

    def _encode_plain_text(self) -> Conditions:
        """Encode the content prompts by the base model's own text encoder."""
        cases = [
            replace(c, base_prompt=c.content, base_negative_prompt=None, stage2_prompt=None)
            for c in self.cases
        ]
        with (self._attachment.taken_off or nullcontext)():
            return self._encoded("base", cases=cases, attachment=Attachment())

    def _encoded(
        self,
        side: Side,
        *,
        is_enlarged: bool = False,
        cases: Sequence[RenderCase] | None = None,
        attachment: Attachment | None = None,
    ) -> Conditions:
        """Encode a side's prompts, image by image, for its size or for the upgraded one.

        By default those of the session's cases, with what is attached to the side.
        """
        settings = self.settings
        is_base_size = side == "base" and not is_enlarged
        width_px, height_px = settings.base_size_px if is_base_size else settings.upgraded_size_px
        read = partial(
            self._encoded_case,
            side=side,
            attachment=self._attached(side) if attachment is None else attachment,
            size_px=(height_px, width_px),
        )
        with ExitStack() as encoders:
            return stacked([read(c, encoders) for c in (self.cases if cases is None else cases)])

    def _encoded_case(
        self,
        case: RenderCase,
        encoders: ExitStack,
        *,
        side: Side,
        attachment: Attachment,
        size_px: tuple[int, int],
    ) -> Conditions:
        """Encode a case's prompts, unless they are known; the encoders are moved for the first."""
        pipe, syntax = self._pipe(side), self.settings.prompt_syntax
        texts = (case.upgraded_prompt, case.negative_prompt)
        if side == "base":
            texts = (self._base_prompt(case), case.base_negative)
        prompt, negative = (
            rewritten_prompt(text, attachment.rewrite_prompt, pipe.tokenizer, side, syntax)
            for text in texts
        )
        skips = side == "base" or self.family.one_layout
        reading = TextReading(syntax, self.settings.clip_skip if skips else 1)

        def encode() -> Conditions:
            encoders.enter_context(text_encoders(pipe))
            return encode_prompt(
                pipe,
                prompt,
                negative,
                guidance=self._guidance,
                size_px=size_px,
                reading=reading,
            )

        if not attachment.keeps_texts:
            return encode()
        key = (side, prompt, negative, self._guidance.is_on, size_px, reading)
        return encoded_once(pipe, key, encode)

    def _pipe(self, side: Side) -> Pipeline:
        return self.family.pipe(side)

    def _attached(self, side: Side) -> Attachment:
        return self._attachment if side == "base" else self._remix

    def _base_prompt(self, case: RenderCase) -> str:
        own = case.stage2_prompt if self._text_pass == "stage2_text" else None
        return case.base_prompt if own is None else own

    def _controls(
        self, attachment: Attachment, images: Callable[[str], Tensor] | None = None
    ) -> tuple[Control, ...]:
        read = images or self._condition
        return tuple(
            Control(
                control.net,
                read(control.plugin_id),
                control.scale,
                window=control.window,
                guess=control.guess,
            )
            for control in attachment.controls
        )

    def _condition(self, plugin_id: str) -> Tensor:
        """Return a plugin's condition images [b, 3, height_px, width_px] in [0, 1]."""
        found = [case.condition_for(plugin_id) for case in self.cases]
        images = [image for image in found if image is not None]
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0
        return stacked.to(self.family.device)

    def _enlarged_condition(self, plugin_id: str) -> Tensor:
        """Return them at the upgraded size, by nearest neighbor, which keeps lines sharp."""
        width_px, height_px = self.settings.upgraded_size_px
        return F.interpolate(
            self._condition(plugin_id), size=(height_px, width_px), mode="nearest-exact"
        )


def _latent_chw(pipe: Pipeline, size_px: tuple[int, int]) -> tuple[int, int, int]:
    factor = pixels_per_latent(pipe.vae)
    return pipe.vae.config.latent_channels, size_px[1] // factor, size_px[0] // factor
