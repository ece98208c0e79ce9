"""A flow model on its own grid, against diffusers' pipelines and the equations, on tiny models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
)
from torch import Tensor

from tests.xadapter.worlds import BASE_CHW, base_text, drawn, scheduler
from xadapter.delta import BasePair, PixelRoute, run_delta
from xadapter.denoiser import Conditions, Denoiser
from xadapter.errors import SettingError
from xadapter.flow import flow_solver
from xadapter.guidance import Guidance
from xadapter.handover import Stage2Start
from xadapter.sampling import run_alone, run_stage2, sdedit_start
from xadapter.sd3 import SD3Network
from xadapter.solvers import clean_at, is_stochastic, noised, shared_schedulers
from xadapter.vae import raw_latents, scaled_latents

N_STEPS, GUIDANCE, SHIFT, T0 = 5, 3.0, 3.0, 0.6
CHW = (4, 8, 8)


@pytest.fixture(scope="module")
def transformer() -> SD3Transformer2DModel:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        pos_embed_max_size=8,
    ).eval()


@pytest.fixture(scope="module")
def text() -> Conditions:
    shapes = ((2, 5, 12), (2, 5, 12), (2, 10), (2, 10))
    one, none, pooled, no_pooled = (drawn(i, *shape) for i, shape in enumerate(shapes))
    return Conditions(one, none, pooled=pooled, negative_pooled=no_pooled)


@pytest.fixture
def flow(transformer: SD3Transformer2DModel, text: Conditions) -> Denoiser:
    own = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    return Denoiser(SD3Network(transformer), flow_solver(own), text, Guidance(GUIDANCE))


def of_diffusers(kind: Any, transformer: Any, vae: Any, text: Conditions, **inputs: Any) -> Tensor:
    """Return the final latents of a stock pipeline, from ready embeddings."""
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    names += ("tokenizer", "tokenizer_2", "tokenizer_3")
    own = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    pipe = kind(transformer, own, vae, **dict.fromkeys(names))
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        prompt_embeds=text.text,
        negative_prompt_embeds=text.negative_text,
        pooled_prompt_embeds=text.pooled,
        negative_pooled_prompt_embeds=text.negative_pooled,
        num_inference_steps=N_STEPS,
        guidance_scale=GUIDANCE,
        output_type="latent",
        **inputs,
    ).images


def test_sampling_from_noise_is_that_of_the_stock_pipeline(
    flow: Denoiser, transformer: Any, base_vae: Any, text: Conditions
) -> None:
    noise = drawn(7, 2, *CHW)
    size_px = CHW[1] * 2 ** (len(base_vae.config.block_out_channels) - 1)
    size = {"height": size_px, "width": size_px}
    theirs = of_diffusers(
        StableDiffusion3Pipeline, transformer, base_vae, text, latents=noise, **size
    )
    ours = run_alone(flow, noise, n_steps=N_STEPS)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_sdedit_starts_where_the_stock_img2img_pipeline_does(
    flow: Denoiser, transformer: Any, base_vae: Any, text: Conditions
) -> None:
    clean = drawn(8, 2, *CHW)
    theirs = of_diffusers(
        StableDiffusion3Img2ImgPipeline,
        transformer,
        base_vae,
        text,
        image=clean,
        strength=T0,
        generator=torch.Generator().manual_seed(3),
    )
    noise = torch.randn(2, *CHW, generator=torch.Generator().manual_seed(3))
    start = sdedit_start(clean, upgraded=flow, n_steps=N_STEPS, t0=T0, noise=noise)
    # shifted: 3 of 5 steps are left
    sigma = flow.scheduler.from_config(flow.scheduler.config)
    sigma.set_timesteps(N_STEPS)
    level = sigma.sigmas[2]
    assert torch.allclose(start.upgraded, (1 - level) * clean + level * noise, atol=1e-6)
    assert torch.allclose(run_stage2(flow, start), theirs, atol=1e-5)


def test_a_velocity_and_its_clean_latents_are_the_same(flow: Denoiser) -> None:
    solver: Any = flow_solver(flow.scheduler)
    solver.set_timesteps(N_STEPS)
    clean, noise = drawn(1, 2, *CHW), drawn(2, 2, *CHW)
    for timestep in solver.timesteps:
        latents = noised(solver, clean, noise, timestep)
        conversion = clean_at(solver, timestep)
        assert torch.allclose(conversion.of(noise - clean, latents), clean, atol=1e-5)
        back = conversion.prediction(clean, latents)
        assert torch.allclose(back, noise - clean, atol=1e-4)
    assert not is_stochastic(solver)


def test_each_side_keeps_its_own_noise_levels() -> None:
    own = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    base, upgraded = shared_schedulers(scheduler("euler"), own)
    assert type(base).__name__ == "EulerDiscreteScheduler"
    assert upgraded.config.shift == SHIFT
    with pytest.raises(SettingError, match="shifts its noise levels by the picture's size"):
        flow_solver(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))


def test_delta_without_strength_is_sdedit_and_with_it_is_not(
    flow: Denoiser, base_unet: Any, base_vae: Any
) -> None:
    texts: Any = flow.conditions
    one = Denoiser(
        flow.network,
        flow.scheduler,
        Conditions(
            texts.text[:1],
            texts.negative_text[:1],
            pooled=texts.pooled[:1],
            negative_pooled=texts.negative_pooled[:1],
        ),
        flow.guidance,
    )
    plain = Denoiser(base_unet, scheduler(), base_text(), Guidance(GUIDANCE))
    plugged = Denoiser(base_unet, scheduler(), base_text(), Guidance(2 * GUIDANCE))
    start = Stage2Start(drawn(4, 1, *CHW), drawn(5, 1, *BASE_CHW), N_STEPS, 3)
    route = PixelRoute(base_vae, base_vae)

    def delta(strength: float) -> Tensor:
        pair = BasePair(plain, plugged)
        return run_delta(one, pair, start, route=route, strength=lambda share: strength)

    assert torch.allclose(delta(0.0), run_stage2(one, start), atol=1e-5)
    assert not torch.allclose(delta(1.0), delta(0.0), atol=1e-3)


def test_delta_needs_as_many_calls_of_both_models(
    flow: Denoiser, base_unet: Any, base_vae: Any
) -> None:
    from diffusers import HeunDiscreteScheduler

    base = Denoiser(base_unet, HeunDiscreteScheduler(), base_text(), Guidance(GUIDANCE))
    start = Stage2Start(drawn(4, 2, *CHW), drawn(5, 2, *BASE_CHW), N_STEPS, 3)
    route = PixelRoute(base_vae, base_vae)
    with pytest.raises(SettingError, match="HeunDiscreteScheduler does not"):
        run_delta(flow, BasePair(base, base), start, route=route, strength=lambda share: 1.0)


def test_latents_are_shifted_and_scaled_as_in_the_pipeline(base_vae: Any) -> None:
    latents, before = drawn(1, 1, *CHW), dict(base_vae.config)
    assert torch.equal(raw_latents(base_vae, latents), latents / before["scaling_factor"])
    try:
        base_vae.register_to_config(shift_factor=0.25)
        raw = raw_latents(base_vae, latents)
        assert torch.equal(raw, latents / before["scaling_factor"] + 0.25)
        assert torch.allclose(scaled_latents(base_vae, raw), latents, atol=1e-6)
    finally:
        base_vae.register_to_config(shift_factor=before["shift_factor"])
