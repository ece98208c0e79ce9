"""`sound` equals diffusers' own pipelines wherever one of them does the same thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.xadapter.worlds import (
    N_STEPS,
    SIZE_PX,
    deviation,
    drawn,
    make_world,
    scheduler,
    sd_pipeline,
    sdxl_pipeline,
    text_arguments,
)
from xadapter.denoiser import Control
from xadapter.guidance import Guidance
from xadapter.sampling import run_alone, run_stage1, run_stage2, sdedit_start, start_from_noise
from xadapter.vae import encode_image, encode_resized, resize_float

LIMIT = 1e-5
BASE_PX = (SIZE_PX[0] // 2, SIZE_PX[1] // 2)


@pytest.mark.parametrize("solver", ["dpm++", "euler", "ddim", "unipc"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_stage1_equals_stable_diffusion_pipeline(models: Any, solver: str, prediction: str) -> None:
    world = make_world(models, seeds=[3, 4], solver=solver, prediction=prediction)
    pipe = sd_pipeline(models.base_unet, models.base_vae, scheduler(solver, prediction=prediction))
    expected = pipe(
        num_inference_steps=N_STEPS,
        guidance_scale=3.0,
        latents=world.noise.base_start,
        output_type="latent",
        **text_arguments(world.base.conditions),
    ).images
    result = run_stage1(world.base, world.noise.base_start, n_steps=N_STEPS).latents
    assert deviation(result, expected) < LIMIT


def test_stage1_with_rescaled_guidance_equals_stable_diffusion_pipeline(models: Any) -> None:
    guidance = Guidance(6.0, rescale=0.7)
    world = make_world(models, guidance=(guidance, guidance))
    expected = sd_pipeline(models.base_unet, models.base_vae, scheduler())(
        num_inference_steps=N_STEPS,
        guidance_scale=6.0,
        guidance_rescale=0.7,
        latents=world.noise.base_start,
        output_type="latent",
        **text_arguments(world.base.conditions),
    ).images
    result = run_stage1(world.base, world.noise.base_start, n_steps=N_STEPS).latents
    assert deviation(result, expected) < LIMIT


def test_stage1_without_guidance_equals_stable_diffusion_pipeline(models: Any) -> None:
    off = Guidance(1.0)
    world = make_world(models, guidance=(off, off))
    expected = sd_pipeline(models.base_unet, models.base_vae, scheduler())(
        num_inference_steps=N_STEPS,
        guidance_scale=1.0,
        latents=world.noise.base_start,
        output_type="latent",
        prompt_embeds=world.base.conditions.text,
    ).images
    result = run_stage1(world.base, world.noise.base_start, n_steps=N_STEPS).latents
    assert deviation(result, expected) < LIMIT


@pytest.mark.parametrize("guess", [False, True])
@pytest.mark.parametrize("n_nets", [1, 2])
def test_stage1_equals_stable_diffusion_controlnet_pipeline(
    models: Any, controlnets: Any, guess: bool, n_nets: int
) -> None:
    images = [drawn(20 + i, 1, 3, *BASE_PX).sigmoid() for i in range(n_nets)]
    scales, starts, ends = [0.8, 1.3][:n_nets], [0.0, 0.2][:n_nets], [0.7, 1.0][:n_nets]
    controls = tuple(
        Control(net, image, scale, (start, end), guess)
        for net, image, scale, start, end in zip(
            controlnets, images, scales, starts, ends, strict=False
        )
    )
    world = make_world(models, controls=controls)
    net = controlnets[0] if n_nets == 1 else list(controlnets)
    pipe = sd_pipeline(models.base_unet, models.base_vae, scheduler(), controlnet=net)
    single = n_nets == 1
    expected = pipe(
        image=images[0] if single else images,
        num_inference_steps=N_STEPS,
        guidance_scale=3.0,
        latents=world.noise.base_start,
        controlnet_conditioning_scale=scales[0] if single else scales,
        control_guidance_start=starts,
        control_guidance_end=ends,
        guess_mode=guess,
        output_type="latent",
        **text_arguments(world.base.conditions),
    ).images
    result = run_stage1(world.base, world.noise.base_start, n_steps=N_STEPS).latents
    plain = run_stage1(make_world(models).base, world.noise.base_start, n_steps=N_STEPS).latents
    assert deviation(result, expected) < LIMIT
    assert deviation(result, plain) > 1e-3


@pytest.mark.parametrize("solver", ["dpm++", "euler", "ddim", "unipc"])
def test_sdedit_equals_sdxl_image_to_image_pipeline(models: Any, solver: str) -> None:
    world = make_world(models, solver=solver)
    image = drawn(30, 1, 3, *SIZE_PX).sigmoid()
    pipe = sdxl_pipeline(models.upgraded_unet, models.upgraded_vae, scheduler(solver), kind="image")
    pipe.register_to_config(requires_aesthetics_score=False)
    expected = pipe(
        image=image,
        strength=0.6,
        num_inference_steps=N_STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(8),
        output_type="latent",
        **text_arguments(world.upgraded.conditions),
    ).images
    generator = torch.Generator().manual_seed(8)
    posterior, noise = (torch.randn(expected.shape, generator=generator) for _ in range(2))
    clean = encode_resized(models.upgraded_vae, image * 2 - 1, posterior, resize=resize_float)
    assert torch.equal(clean, encode_image(models.upgraded_vae, image * 2 - 1, posterior))
    start = sdedit_start(clean, upgraded=world.upgraded, n_steps=N_STEPS, t0=0.6, noise=noise)
    assert deviation(run_stage2(world.upgraded, start), expected) < LIMIT


@pytest.mark.parametrize("solver", ["dpm++", "euler"])
def test_one_stage_at_scale_zero_equals_sdxl_pipeline(
    models: Any, mapper: Any, solver: str
) -> None:
    world = make_world(models, seeds=[5, 6], solver=solver)
    pipe = sdxl_pipeline(models.upgraded_unet, models.upgraded_vae, scheduler(solver))
    expected = pipe(
        height=SIZE_PX[0],
        width=SIZE_PX[1],
        num_inference_steps=N_STEPS,
        guidance_scale=3.0,
        latents=world.noise.upgraded_noise,
        output_type="latent",
        **text_arguments(world.upgraded.conditions),
    ).images
    start = start_from_noise(
        upgraded=world.upgraded,
        upgraded_noise=world.noise.upgraded_noise,
        n_steps=N_STEPS,
        base=world.base,
        base_noise=world.noise.base_start,
    )
    result = run_stage2(world.upgraded, start, base=world.base, mapper=mapper, adapter_scale=0.0)
    guided = run_stage2(world.upgraded, start, base=world.base, mapper=mapper)
    floor = run_alone(world.upgraded, world.noise.upgraded_noise, n_steps=N_STEPS)
    assert deviation(result, expected) < LIMIT
    assert deviation(floor, expected) < LIMIT
    assert deviation(guided, expected) > 1e-2
