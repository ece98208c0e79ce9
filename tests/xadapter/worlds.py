"""Denoisers, noise and diffusers pipelines over the tiny models of conftest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor

from tests.xadapter.conftest import (
    BASE_TEXT_WIDTH,
    N_TOKENS,
    POOLED_WIDTH,
    UPGRADED_TEXT_WIDTH,
)
from xadapter.denoiser import Conditions, Control, Denoiser
from xadapter.guidance import Guidance
from xadapter.noise import Noise, NoiseSource, generators_from
from xadapter.sampling import hand_over, run_stage1, run_stage2
from xadapter.vae import cross_bridge

SCHEDULERS = {
    "dpm++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "ddim": DDIMScheduler,
    "unipc": UniPCMultistepScheduler,
}
N_STEPS = 5
BASE_CHW, UPGRADED_CHW = (4, 8, 6), (4, 16, 12)
SIZE_PX = (32, 24)


def scheduler(kind: str = "dpm++", *, prediction: str = "epsilon") -> Any:
    own = {"clip_sample": False, "set_alpha_to_one": False} if kind == "ddim" else {}
    return SCHEDULERS[kind](
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing="leading",
        steps_offset=1,
        **own,
    )


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def base_text(n_images: int = 1) -> Conditions:
    """Image i has its own text, whatever the batch."""
    texts = torch.cat([drawn(100 + i, 1, N_TOKENS, BASE_TEXT_WIDTH) for i in range(n_images)])
    negative = drawn(99, 1, N_TOKENS, BASE_TEXT_WIDTH).expand(n_images, -1, -1)
    return Conditions(text=texts, negative_text=negative)


def upgraded_text(n_images: int = 1) -> Conditions:
    def stack(seed: int, *shape: int) -> Tensor:
        return torch.cat([drawn(seed + i, 1, *shape) for i in range(n_images)])

    return Conditions(
        text=stack(200, N_TOKENS, UPGRADED_TEXT_WIDTH),
        negative_text=stack(300, N_TOKENS, UPGRADED_TEXT_WIDTH),
        pooled=stack(400, POOLED_WIDTH),
        negative_pooled=stack(500, POOLED_WIDTH),
        time_ids=torch.tensor([[*SIZE_PX, 0.0, 0.0, *SIZE_PX]]).expand(n_images, -1),
    )


@dataclass(frozen=True)
class World:
    """Everything a render needs."""

    base: Denoiser
    upgraded: Denoiser
    base_vae: Any
    upgraded_vae: Any
    noise: Noise

    def render(self, mapper: Any, *, t0: float = 0.6, **kwargs: Any) -> Tensor:
        stage1 = run_stage1(self.base, self.noise.base_start, n_steps=N_STEPS)
        bridge = cross_bridge(
            self.base_vae,
            self.upgraded_vae,
            stage1.latents,
            posterior_noise=self.noise.upgraded_posterior,
        )
        start = hand_over(
            stage1,
            bridge,
            base=self.base,
            upgraded=self.upgraded,
            t0=t0,
            upgraded_noise=self.noise.upgraded_noise,
            base_noise=self.noise.base_noise,
        )
        return run_stage2(self.upgraded, start, base=self.base, mapper=mapper, **kwargs)


def noise_for(seeds: list[int]) -> Noise:
    source = NoiseSource(generators_from(seeds))
    return source.draw(base_chw=BASE_CHW, upgraded_chw=UPGRADED_CHW)


def make_world(
    models: Any,
    *,
    seeds: list[int] | None = None,
    solver: str = "dpm++",
    prediction: str = "epsilon",
    guidance: tuple[Guidance, Guidance] | None = None,
    controls: tuple[Control, ...] = (),
) -> World:
    seeds = [0] if seeds is None else seeds
    base_guidance, upgraded_guidance = guidance or (Guidance(3.0), Guidance(3.0))
    n_images = len(seeds)
    base = Denoiser(
        models.base_unet,
        scheduler(solver, prediction=prediction),
        base_text(n_images),
        base_guidance,
        controls,
    )
    upgraded = Denoiser(
        models.upgraded_unet, scheduler(solver), upgraded_text(n_images), upgraded_guidance
    )
    return World(base, upgraded, models.base_vae, models.upgraded_vae, noise_for(seeds))


def sd_pipeline(unet: Any, vae: Any, solver: Any, *, controlnet: Any = None) -> Any:
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": None,
        "tokenizer": None,
        "unet": unet,
        "scheduler": solver,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    if controlnet is None:
        return quiet(StableDiffusionPipeline(**parts))
    return quiet(StableDiffusionControlNetPipeline(controlnet=controlnet, **parts))


def sdxl_pipeline(unet: Any, vae: Any, solver: Any, *, kind: str = "text") -> Any:
    classes = {"text": StableDiffusionXLPipeline, "image": StableDiffusionXLImg2ImgPipeline}
    pipe = classes[kind](
        vae=vae,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=solver,
    )
    return quiet(pipe)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_arguments(conditions: Conditions) -> dict[str, Tensor]:
    given = {
        "prompt_embeds": conditions.text,
        "negative_prompt_embeds": conditions.negative_text,
        "pooled_prompt_embeds": conditions.pooled,
        "negative_pooled_prompt_embeds": conditions.negative_pooled,
    }
    return {name: value for name, value in given.items() if value is not None}


def deviation(result: Tensor, expected: Tensor) -> float:
    """Largest deviation, relative to the largest value above 1."""
    assert result.shape == expected.shape
    return float((result - expected).abs().max() / expected.abs().max().clamp(min=1))
