"""Objectives against their formulas, written out number by number."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.xadapter.conftest import new_mapper
from tests.xadapter.training import ABAR, SETTINGS, null_text, tiny_data, train
from xadapter.loss import (
    FrozenModels,
    add_noise,
    mapper_losses,
    stratified_timesteps,
    target_of,
)
from xadapter.objectives import Uncertainty, objective_for
from xadapter.taps import capture, inject
from xadapter.validation import Validation

MSE = torch.tensor([0.5, 2.0, 0.01])
TIMESTEPS = torch.tensor([0, 400, 999])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_is_the_clamped_ratio_of_signal_to_noise(prediction: Any, gamma: float) -> None:
    settings = replace(SETTINGS, weighting="min-snr", min_snr_gamma=gamma)
    terms = objective_for(settings, ABAR, prediction)(MSE, TIMESTEPS)
    for term, mse, t in zip(terms.tolist(), MSE.tolist(), TIMESTEPS.tolist(), strict=True):
        abar = float(ABAR[t])
        snr = abar / (1 - abar)
        divisor = snr if prediction == "epsilon" else snr + 1
        assert term == pytest.approx(mse * min(snr, gamma) / divisor, rel=1e-4)


def test_min_snr_is_finite_where_no_signal_is_left() -> None:
    settings = replace(SETTINGS, weighting="min-snr")
    abar = torch.tensor([0.9, 0.0])
    for prediction, weight in (("epsilon", 1.0), ("v_prediction", 0.0)):
        terms = objective_for(settings, abar, prediction)(torch.ones(1), torch.tensor([1]))
        assert terms.tolist() == [weight]


def test_the_papers_objective_is_the_plain_error() -> None:
    settings = replace(SETTINGS, weighting="paper")
    assert torch.equal(objective_for(settings, ABAR, "epsilon")(MSE, TIMESTEPS), MSE)


def test_typical_divides_by_the_table() -> None:
    settings = replace(SETTINGS, weighting="typical")
    table = (torch.tensor([0.0, 400.0, 999.0]), torch.tensor([0.25, 4.0, 0.1]))
    terms = objective_for(settings, ABAR, "epsilon", table=table)(MSE, TIMESTEPS)
    assert terms.tolist() == pytest.approx([2.0, 0.5, 0.1], rel=1e-5)


def test_learned_uncertainty_is_the_formula_and_starts_as_the_plain_error() -> None:
    settings = replace(SETTINGS, weighting="edm2")
    objective = objective_for(settings, ABAR, "epsilon")
    assert isinstance(objective, Uncertainty)
    assert torch.equal(objective(MSE, TIMESTEPS), MSE)
    with torch.no_grad():
        objective.amplitudes[:3] = torch.tensor([-1.0, 0.5, 0.25])
    terms = objective(MSE, TIMESTEPS)
    for term, mse, t in zip(terms.tolist(), MSE.tolist(), TIMESTEPS.tolist(), strict=True):
        angle = math.pi * (t + 0.5) / 1000
        u = -1.0 + 0.5 * math.cos(angle) + 0.25 * math.cos(2 * angle)
        assert term == pytest.approx(mse / math.exp(u) + u, rel=1e-4)


def test_learned_uncertainty_becomes_the_loss_at_each_timestep() -> None:
    objective = Uncertainty(1000, n_basis=4)
    t = torch.arange(0, 1000, 50)
    mse = torch.exp(-2 - 2 * torch.cos(math.pi * (t + 0.5) / 1000))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        objective(mse, t).mean().backward()
        optimizer.step()
    assert torch.allclose(objective.log_loss(t), mse.log(), atol=0.05)


def test_favored_timesteps_have_their_share_and_stay_stratified() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = stratified_timesteps(1000, 1000, generator, favored=(0.3, 1.0), share=0.8)
    # 0.8 evenly in 300 to 999, 0.2 evenly anywhere: 0.06 of the images are below 300
    assert int((drawn < 300).sum()) == pytest.approx(60, abs=1)
    assert torch.equal(drawn, drawn.sort().values)
    counts = torch.histc(drawn[drawn >= 300].float(), bins=7, min=300, max=1000)
    assert counts.tolist() == pytest.approx([940 / 7] * 7, abs=2)
    alone = stratified_timesteps(1000, 1000, generator, favored=(0.3, 0.6), share=1.0)
    assert int(alone.min()) >= 300 and int(alone.max()) <= 600


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_errors_are_equation_4_with_each_sides_own_schedule(
    base_unet: Any, upgraded_unet: Any, prediction: Any
) -> None:
    own = ABAR.flip(0).sqrt()  # of a base model that was trained with another schedule
    models = FrozenModels(base_unet, upgraded_unet, null_text(), ABAR, prediction, own)
    batch, mapper = tiny_data().batch(torch.arange(3)), new_mapper()
    noises = [torch.randn_like(z) for z in (batch.base_latents, batch.upgraded_latents)]
    found = mapper_losses(
        mapper,
        models,
        batch,
        timesteps=TIMESTEPS,
        base_noise=noises[0],
        upgraded_noise=noises[1],
    )
    with torch.no_grad(), capture(base_unet) as tap:
        noisy = add_noise(batch.base_latents, noises[0], own[TIMESTEPS])
        base_unet(noisy, TIMESTEPS, encoder_hidden_states=batch.base_text)
    abar = ABAR[TIMESTEPS]
    noisy = add_noise(batch.upgraded_latents, noises[1], abar)
    with torch.no_grad(), inject(upgraded_unet, mapper(tap.features)):
        predicted = models.predict_upgraded(noisy, TIMESTEPS)
    target = target_of(batch.upgraded_latents, noises[1], abar, prediction)
    assert torch.allclose(found, (predicted - target).square().mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("weighting", ["min-snr", "edm2"])
def test_a_training_with_each_objective_improves_the_plain_error(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any, weighting: Any
) -> None:
    errors = []

    def validate(step: int, mapper: Any) -> Validation:
        models = FrozenModels(base_unet, upgraded_unet, null_text(), ABAR)
        batch, generator = tiny_data().batch(torch.arange(10)), torch.Generator().manual_seed(9)
        shapes = (batch.base_latents.shape, batch.upgraded_latents.shape)
        base_noise, noise = (torch.randn(shape, generator=generator) for shape in shapes)
        with torch.no_grad():
            found = mapper_losses(
                mapper,
                models,
                batch,
                timesteps=torch.arange(10) * 99,
                base_noise=base_noise,
                upgraded_noise=noise,
            )
        errors.append(float(found.mean()))
        return Validation({"error": errors[-1]})

    settings = replace(
        SETTINGS,
        steps=30,
        batch_size=8,
        learning_rate=3e-3,
        weighting=weighting,
        validate_every_steps=15,
        timestep_range=(0.3, 1.0),
        range_share=0.5,
    )
    train(tmp_path, base_unet, upgraded_unet, settings, validate=validate)
    assert errors[1] < errors[0]
