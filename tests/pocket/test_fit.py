"""Claims about the pocket training loop."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pocket.fit import FitSettings, fit, learning_rate_at

SETTINGS = FitSettings(40, 8, 1e-2, seed=3, checkpoint_every_steps=10, log_every_steps=10)


def _problem() -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(4, 1), torch.tensor([1.0, -2.0, 0.5, 3.0])


def _train(folder: Path, settings: FitSettings) -> tuple[nn.Linear, float]:
    model, target = _problem()

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(batch_size, 4, generator=generator)
        return (model(x)[:, 0] - x @ target).square().mean()

    return model, fit(model, loss_at, settings=settings, out_dir=folder)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, whole_loss = _train(tmp_path / "whole", SETTINGS)
    _stop_at(tmp_path / "cut", 20)
    resumed, resumed_loss = _train(tmp_path / "cut", SETTINGS)
    assert torch.equal(whole.weight, resumed.weight)
    assert whole_loss == resumed_loss


def _stop_at(folder: Path, step: int) -> None:
    """Train, and interrupt by an exception after some steps."""
    model, target = _problem()
    calls = 0

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > step + 3:
            raise KeyboardInterrupt
        x = torch.randn(batch_size, 4, generator=generator)
        return (model(x)[:, 0] - x @ target).square().mean()

    try:
        fit(model, loss_at, settings=SETTINGS, out_dir=folder)
    except KeyboardInterrupt:
        return
    raise AssertionError("the training was not interrupted")


def test_the_loss_falls(tmp_path: Path) -> None:
    _, early = _train(tmp_path / "early", replace(SETTINGS, steps=10))
    _, late = _train(tmp_path / "late", replace(SETTINGS, steps=400))
    assert late < 0.2 * early


def test_the_learning_rate_warms_up_and_ends_near_three_percent() -> None:
    settings = replace(SETTINGS, steps=1000)
    rates = [learning_rate_at(step, settings) for step in range(1000)]
    assert rates[0] < 0.1 * settings.learning_rate
    assert max(rates) <= settings.learning_rate
    assert abs(rates[-1] / settings.learning_rate - 0.03) < 0.001
