"""High-level API: build X-Adapter from two loaded diffusers pipelines and a mapper.

Plugins stay where they are: those loaded into the base pipeline (LoRA, textual inversion,
IP-Adapter) or given to the call (ControlNets) guide the upgraded model; LoRAs loaded into the
upgraded pipeline act as well. Source: arXiv 2312.02238, section 3.3; `xadapter.reference` is the
method on one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image
from torch import Generator, Tensor, nn

from xadapter.denoiser import Control, Denoiser
from xadapter.errors import SettingError
from xadapter.guidance import Guidance
from xadapter.handover import Stage2Start, hand_over, hand_over_truncated, start_from_noise
from xadapter.inputs import (
    Picture,
    Sizes,
    base_conditions,
    sizes_for,
    to_unit_tensor,
    upgraded_conditions,
)
from xadapter.load import load_mapper
from xadapter.noise import Noise, NoiseSource, generators_from, named_generators
from xadapter.presets import Preset, find_preset
from xadapter.sampling import run_stage1, run_stage2
from xadapter.sites import check_fit
from xadapter.solvers import ReleasedSolver, Solver, fresh_solver, shared_schedulers
from xadapter.vae import cross_bridge, decode_image, encode_image, to_pil

if TYPE_CHECKING:
    from diffusers import ControlNetModel, DiffusionPipeline

OneOrMany = float | Sequence[float]
SolverChoice = Solver | type[Solver] | None
Stage1Choice = Literal["full", "truncated", "none"]


@dataclass(frozen=True)
class Output:
    """b pictures, the latents [b, c, h, w] they were decoded from, and the effective t0.

    `base_images` are stage 1's pictures (empty without a full stage 1).
    """

    images: list[Picture]
    latents: Tensor
    base_images: list[Picture]
    t0: float


@dataclass(frozen=True)
class XAdapter:
    """Two pipelines joined by a mapper.

    `preset` "sound" is the corrected method, "released" follows the released code. Given two
    loaded pipelines and a mapper or its path:

    >>> joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, mapper)
    >>> out = joined("a fox in the snow", t0=0.8, steps=5, seeds=[0, 1], width=32, height=24)
    >>> [image.size for image in out.images], out.t0
    ([(32, 24), (32, 24)], 0.8)
    """

    base: DiffusionPipeline
    upgraded: DiffusionPipeline
    mapper: nn.Module
    preset: str = "sound"

    @classmethod
    def from_pipelines(
        cls,
        base: DiffusionPipeline,
        upgraded: DiffusionPipeline,
        mapper: nn.Module | Path | str,
        preset: str = "sound",
    ) -> XAdapter:
        """Join a StableDiffusionPipeline (or StableDiffusionControlNetPipeline) and an SDXL one.

        `mapper` is a mapper or its path. Raises `MapperFileError` for a path without a mapper,
        `MapperFitError` with both sets of numbers for a mapper that does not fit, and
        `SettingError` for an unknown preset.
        """
        find_preset(preset)
        if not isinstance(mapper, nn.Module):
            mapper = load_mapper(mapper)
        check_fit(mapper, base.unet, upgraded.unet)
        return cls(base, upgraded, mapper.to(upgraded.unet.device), preset)

    def __call__(
        self,
        prompt: str | Sequence[str],
        base_prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | None = None,
        t0: float = 0.8,
        adapter_scale: float = 1.0,
        fusion: float | None = None,
        steps: int = 50,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        seeds: Sequence[int] = (0,),
        width: int = 1024,
        height: int = 1024,
        controlnets: Sequence[ControlNetModel] | None = None,
        control_images: Picture | Sequence[Picture] | None = None,
        control_scale: OneOrMany = 1.0,
        control_window: tuple[float, float] = (0.0, 1.0),
        guess_mode: bool = False,
        source_image: Picture | None = None,
        ip_adapter_image: Picture | None = None,
        stage1: Stage1Choice = "full",
        scheduler: SolverChoice = None,
    ) -> Output:
        """Render one picture per seed; a list of prompts has one prompt per seed.

        `width` and `height` are of the upgraded picture, in px. `t0` is the share of the schedule
        in stage 2, 0 < t0 <= 1; `stage1` "none" starts both models from noise. `adapter_scale`
        multiplies the mapper's offsets; `fusion` in [0, 1] mixes them in instead of adding them.
        ControlNets default to those of the base pipeline; `control_window` is the share of the
        schedule in which they act. `scheduler` is a diffusers scheduler or its class, for both
        models; by default the upgraded pipeline's. Raises `SettingError` for sizes and settings
        out of range.
        """
        size = sizes_for(self.base.vae, self.upgraded.vae, height_px=height, width_px=width)
        guidance = Guidance(guidance_scale, guidance_rescale)
        controls = self._controls(
            size,
            controlnets,
            images=control_images,
            scale=control_scale,
            window=control_window,
            guess=guess_mode,
            n_images=len(seeds),
        )
        preset = find_preset(
            self.preset, has_control=bool(controls), has_source=source_image is not None
        )
        preset.n_last_steps(steps, t0)  # a wrong t0 fails before anything runs
        base, upgraded = self._sides(
            _per_seed(prompt if base_prompt is None else base_prompt, len(seeds), "base_prompt"),
            _per_seed(prompt, len(seeds), "prompt"),
            schedulers=self._schedulers(preset, scheduler),
            negative_prompt=negative_prompt,
            guidance=guidance,
            size_px=(height, width),
            controls=controls,
            ip_adapter_image=ip_adapter_image,
        )
        noise = self._noise(seeds, size, preset)
        # generators of their own: a stochastic solver moves no other draw
        generators = named_generators(seeds, "solver steps")
        render = _Render(self, base, upgraded, noise, steps, t0, preset, generators)
        start, base_images = render.start(stage1, self._encode_source(source_image, size, noise))
        latents = render.finish(start, adapter_scale=adapter_scale, fusion=fusion)
        images = to_pil(decode_image(self.upgraded.vae, latents))
        return Output(images, latents, base_images, start.t0)

    def _noise(self, seeds: Sequence[int], size: Sizes, preset: Preset) -> Noise:
        return NoiseSource(generators_from(seeds), preset.draw_order).draw(
            base_chw=(self.base.unet.config.in_channels, *size.base_latent),
            upgraded_chw=(self.upgraded.unet.config.in_channels, *size.upgraded_latent),
        )

    def _schedulers(self, preset: Preset, chosen: SolverChoice) -> tuple[Solver, Solver]:
        if preset.solver is not fresh_solver:
            if chosen is not None:
                raise SettingError(
                    f"the preset {self.preset!r} brings its own solver: leave `scheduler` out"
                )
            chosen = ReleasedSolver
        return shared_schedulers(self.base.scheduler, self.upgraded.scheduler, solver_class=chosen)

    def _sides(
        self,
        base_prompts: Sequence[str],
        prompts: Sequence[str],
        *,
        schedulers: tuple[Solver, Solver],
        negative_prompt: str | None,
        guidance: Guidance,
        size_px: tuple[int, int],
        controls: tuple[Control, ...],
        ip_adapter_image: Picture | None,
    ) -> tuple[Denoiser, Denoiser]:
        base_text = base_conditions(
            self.base, base_prompts, negative_prompt, guidance, ip_adapter_image
        )
        text = upgraded_conditions(self.upgraded, prompts, negative_prompt, guidance, size_px)
        return (
            Denoiser(self.base.unet, schedulers[0], base_text, guidance, controls),
            Denoiser(self.upgraded.unet, schedulers[1], text, guidance),
        )

    def _controls(
        self,
        size: Sizes,
        nets: Sequence[ControlNetModel] | None,
        *,
        images: Picture | Sequence[Picture] | None,
        scale: OneOrMany,
        window: tuple[float, float],
        guess: bool,
        n_images: int,
    ) -> tuple[Control, ...]:
        if nets is None:
            own = getattr(self.base, "controlnet", None)
            nets = [] if own is None else list(getattr(own, "nets", [own]))  # MultiControlNetModel
        pictures = [images] if isinstance(images, Image.Image) else list(images or ())
        scales = [float(scale)] * len(nets) if isinstance(scale, (int, float)) else list(scale)
        if not len(nets) == len(pictures) == len(scales):
            raise SettingError(
                f"got {len(nets)} ControlNets, {len(pictures)} control images and {len(scales)} "
                "scales: give one of each per ControlNet"
            )
        tensors = [to_unit_tensor(picture, size.base_px) for picture in pictures]
        return tuple(
            Control(net, image.expand(n_images, -1, -1, -1), scale, window, guess)
            for net, image, scale in zip(nets, tensors, scales, strict=True)
        )

    def _encode_source(self, picture: Picture | None, size: Sizes, noise: Noise) -> Tensor | None:
        if picture is None:
            return None
        if noise.source_posterior is None:
            raise SettingError(f"the preset {self.preset!r} does not accept a source image")
        image = to_unit_tensor(picture, size.base_px) * 2 - 1
        image = image.expand(len(noise.source_posterior), -1, -1, -1)
        return encode_image(self.base.vae, image, noise.source_posterior)


@dataclass(frozen=True)
class _Render:
    joined: XAdapter
    base: Denoiser
    upgraded: Denoiser
    noise: Noise
    n_steps: int
    t0: float
    preset: Preset
    step_generators: Sequence[Generator]

    def start(self, mode: Stage1Choice, source: Tensor | None) -> tuple[Stage2Start, list[Picture]]:
        """Run stage 1 in its mode; return stage 2's start and stage 1's pictures."""
        noise = self.noise
        if mode == "none":
            start = start_from_noise(
                upgraded=self.upgraded,
                upgraded_noise=noise.upgraded_noise,
                n_steps=self.n_steps,
                base=self.base,
                base_noise=noise.base_start,
                preset=self.preset,
            )
            return start, []
        stage1 = run_stage1(
            self.base,
            noise.base_start,
            n_steps=self.n_steps,
            preset=self.preset,
            source=source,
            snapshots_at=(self.t0,) if mode == "truncated" else (),
            step_generators=self.step_generators,
        )
        vaes = (self.joined.base.vae, self.joined.upgraded.vae)
        if mode == "truncated":
            start = hand_over_truncated(
                stage1,
                base=self.base,
                upgraded=self.upgraded,
                base_vae=vaes[0],
                upgraded_vae=vaes[1],
                t0=self.t0,
                posterior_noise=noise.upgraded_posterior,
                preset=self.preset,
            )
            return start, []
        bridge = cross_bridge(
            *vaes,
            stage1.latents,
            posterior_noise=noise.upgraded_posterior,
            resize=self.preset.resize,
        )
        start = hand_over(
            stage1,
            bridge,
            base=self.base,
            upgraded=self.upgraded,
            t0=self.t0,
            upgraded_noise=noise.upgraded_noise,
            base_noise=noise.base_noise,
            preset=self.preset,
        )
        return start, to_pil(bridge.image)

    def finish(self, start: Stage2Start, *, adapter_scale: float, fusion: float | None) -> Tensor:
        """Run stage 2; return the upgraded model's final latents."""
        return run_stage2(
            self.upgraded,
            start,
            base=self.base,
            mapper=self.joined.mapper,
            adapter_scale=adapter_scale,
            fusion=fusion,
            preset=self.preset,
            step_generators=self.step_generators,
        )


def _per_seed(prompt: str | Sequence[str], n_seeds: int, name: str) -> list[str]:
    prompts = [prompt] * n_seeds if isinstance(prompt, str) else list(prompt)
    if len(prompts) != n_seeds or not prompts:
        raise SettingError(f"{len(prompts)} {name}s for {n_seeds} seeds: give one per seed")
    return prompts
