"""Delta Sampling against its equations, written out on tiny models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xadapter.worlds import UPGRADED_CHW, base_text, drawn, scheduler, upgraded_text
from xadapter.delta import BasePair, LatentRoute, PixelRoute, latent_problem, run_delta, within
from xadapter.denoiser import Control, Denoiser, with_plain_rows
from xadapter.guidance import Guidance
from xadapter.sampling import run_alone, start_from_noise
from xadapter.solvers import clean_at

N_STEPS, GUIDANCE, STRENGTH = 4, 3.0, 0.7
C_SOURCE, C_TARGET = 0.18215, 0.13025


@pytest.fixture(scope="module")
def control(controlnets: list[Any]) -> Control:
    return Control(controlnets[0], drawn(8, 1, 3, 32, 24).sigmoid())


def pair_of(base_unet: Any, control: Control, solver: Any, *, joined: bool = True) -> BasePair:
    text = base_text()
    plugged = Denoiser(base_unet, solver, text, Guidance(GUIDANCE), (control,))
    plain = replace(plugged, controls=())
    both = replace(plugged, conditions=text.repeated(2, guided=True), n_plain=1)
    return BasePair(plain, plugged, both if joined else None)


def guided_x0(predict: Any, latents: Tensor, sigma: float) -> Tensor:
    """Return the model's x0 with classifier-free guidance, of latents x0 + sigma e."""
    rows = torch.cat([latents / (sigma**2 + 1) ** 0.5] * 2)
    unconditional, conditional = predict(rows).chunk(2)
    return latents - sigma * (unconditional + GUIDANCE * (conditional - unconditional))


def delta_sampling(
    source: Any, adapted: Any, target: Any, noise_x: Tensor, noise_z: Tensor
) -> Tensor:
    """Equations of arXiv 2512.03056 as released: a joint state, Euler's method, one sigma grid."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    signal = (1 - betas).cumprod(0)
    times = [1 + i * (1000 // N_STEPS) for i in reversed(range(N_STEPS))]
    sigmas = [float(((1 - signal[t]) / signal[t]) ** 0.5) for t in times] + [0.0]
    first = (sigmas[0] ** 2 + 1) ** 0.5
    x, z = noise_x * first, noise_z * first
    for i, t in enumerate(times):
        s = guided_x0(partial(source, t), x, sigmas[i]) / C_SOURCE
        a = guided_x0(partial(adapted, t), x, sigmas[i]) / C_SOURCE
        u = guided_x0(partial(target, t), z, sigmas[i]) / C_TARGET
        y = u + STRENGTH * (a - s)
        step = sigmas[i + 1] - sigmas[i]
        x = x + (x - y * C_SOURCE) / sigmas[i] * step
        z = z + (z - y * C_TARGET) / sigmas[i] * step
    return z


@pytest.mark.parametrize("joined", [True, False])
def test_latent_route_is_the_published_rule(
    base_unet: Any, upgraded_unet: Any, base_vae: Any, control: Control, *, joined: bool
) -> None:
    noise_x, noise_z = drawn(21, 1, *UPGRADED_CHW), drawn(22, 1, *UPGRADED_CHW)
    text, target_text = base_text(), upgraded_text()
    rows, added = target_text.rows(guided=True)

    def source(t: int, sample: Tensor, **residuals: Any) -> Tensor:
        states = torch.cat([text.negative_text, text.text])  # type: ignore[list-item]
        return base_unet(sample, t, encoder_hidden_states=states, **residuals).sample

    def adapted(t: int, sample: Tensor) -> Tensor:
        states = torch.cat([text.negative_text, text.text])  # type: ignore[list-item]
        image = torch.cat([control.image] * 2)
        down, middle = control.net(
            sample, t, encoder_hidden_states=states, controlnet_cond=image, return_dict=False
        )
        return source(
            t,
            sample,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        )

    def target(t: int, sample: Tensor) -> Tensor:
        return upgraded_unet(sample, t, encoder_hidden_states=rows, added_cond_kwargs=added).sample

    expected = delta_sampling(source, adapted, target, noise_x, noise_z)
    upgraded = Denoiser(upgraded_unet, scheduler("euler"), target_text, Guidance(GUIDANCE))
    pair = pair_of(base_unet, control, scheduler("euler"), joined=joined)
    start = start_from_noise(
        upgraded=upgraded,
        upgraded_noise=noise_z,
        n_steps=N_STEPS,
        base=pair.plugged,
        base_noise=noise_x,
    )
    # one VAE's latents, scaled as SD 1.5 and as SDXL scale theirs
    vaes = [_scaled(base_vae, factor) for factor in (C_SOURCE, C_TARGET)]
    found = run_delta(
        upgraded, pair, start, route=LatentRoute(*vaes), strength=lambda _share: STRENGTH
    )
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def _scaled(vae: Any, factor: float) -> Any:
    return SimpleNamespace(config={**vae.config, "scaling_factor": factor})


@pytest.mark.parametrize("kind", ["dpm++", "euler", "ddim", "unipc"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_prediction_and_clean_latents_are_one(kind: str, prediction: str) -> None:
    solver = scheduler(kind, prediction=prediction)
    solver.set_timesteps(N_STEPS)
    at = clean_at(solver, solver.timesteps[1])
    clean, noise = drawn(1, 1, 4, 2, 2), drawn(2, 1, 4, 2, 2)
    latents = solver.add_noise(clean, noise, solver.timesteps[1:2])
    alpha, sigma = at.signal * at.factor, at.noise * at.factor
    predicted = noise if prediction == "epsilon" else alpha * noise - sigma * clean
    torch.testing.assert_close(at.of(predicted, latents), clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(at.prediction(clean, latents), predicted, atol=1e-5, rtol=1e-5)


def small_run(world: dict[str, Any], strength: Any, *, n_last: int | None = None) -> Tensor:
    pair, upgraded, start = world["pair"], world["upgraded"], world["start"]
    start = start if n_last is None else replace(start, n_last_steps=n_last)
    return run_delta(upgraded, pair, start, route=world["route"], strength=strength)


@pytest.fixture(scope="module")
def world(
    base_unet: Any, upgraded_unet: Any, base_vae: Any, upgraded_vae: Any, control: Control
) -> dict[str, Any]:
    upgraded = Denoiser(upgraded_unet, scheduler(), upgraded_text(), Guidance(GUIDANCE))
    small = replace(control, image=control.image[..., :16, :12])
    pair = pair_of(base_unet, small, scheduler())
    noise, base_noise = drawn(3, 1, *UPGRADED_CHW), drawn(4, 1, 4, 8, 6)
    start = start_from_noise(
        upgraded=upgraded,
        upgraded_noise=noise,
        n_steps=N_STEPS,
        base=pair.plugged,
        base_noise=base_noise,
    )
    route = PixelRoute(base_vae, upgraded_vae)
    found = {"upgraded": upgraded, "pair": pair, "start": start, "route": route}
    return {**found, "noise": noise}


def test_strength_0_is_the_upgraded_model_alone_bit_for_bit(world: dict[str, Any]) -> None:
    alone = run_alone(world["upgraded"], world["noise"], n_steps=N_STEPS)
    assert torch.equal(small_run(world, lambda _share: 0.0), alone)
    assert not torch.equal(small_run(world, lambda _share: 1.0), alone)


def test_a_plugin_that_changes_nothing_is_the_upgraded_model_alone(world: dict[str, Any]) -> None:
    plain = world["pair"].plain
    same = {**world, "pair": BasePair(plain, plain)}
    alone = run_alone(world["upgraded"], world["noise"], n_steps=N_STEPS)
    found = small_run(same, lambda _share: 1.0)
    torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)


def test_the_strength_follows_the_share_that_is_left(world: dict[str, Any]) -> None:
    shares: list[float] = []
    small_run(world, lambda share: float(not shares.append(share)), n_last=2)
    assert shares == [0.5, 0.25]


def test_a_bound_shortens_only_longer_changes() -> None:
    target = torch.tensor([[[[1.0, -1.0]]], [[[1.0, -1.0]]]])
    change = torch.tensor([[[[3.0, 4.0]]], [[[0.03, 0.04]]]])
    found = within(0.5)(change, target)
    assert float(found[0].norm()) == pytest.approx(0.5 * 2**0.5)
    torch.testing.assert_close(found[1], change[1])
    assert within(None)(change, target) is change


def test_plain_rows_come_first_in_each_half() -> None:
    rows = {"residuals": [torch.tensor([[1.0], [2.0]])]}
    found = with_plain_rows(rows, 1, guided=True)["residuals"][0]
    assert found.flatten().tolist() == [0.0, 1.0, 0.0, 2.0]


def test_latents_of_other_shapes_have_a_problem(base_vae: Any) -> None:
    other = _scaled(base_vae, 1.0)
    assert latent_problem(base_vae, other) is None
    other.config["latent_channels"] = 16
    problem = latent_problem(base_vae, other)
    assert problem is not None
    assert "16 channels" in problem
    assert "route 'pixel'" in problem
