"""The trainer: exact resume, the mapper alone learns, the loss falls."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from filelock import FileLock
from safetensors import safe_open

from tests.xadapter.conftest import (
    BASE_TEXT_WIDTH,
    N_TOKENS,
    POOLED_WIDTH,
    UPGRADED_TEXT_WIDTH,
    new_mapper,
)
from xadapter.data import Shuffled, TensorDataset, UpgradedText, indices_at
from xadapter.errors import SettingError, TrainingFolderError
from xadapter.loss import FrozenModels, mapper_losses, stratified_timesteps
from xadapter.mapper import Mapper
from xadapter.objectives import typical_weights
from xadapter.train import TrainSettings, learning_rate_at, train_mapper

ABAR = DDPMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
).alphas_cumprod
SETTINGS = TrainSettings(steps=6, batch_size=4, checkpoint_every_steps=3, log_every_steps=2)


def tiny_data(n_images: int = 10) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n_images, 4, 8, 8, generator=generator)
    return TensorDataset(
        base_latents=base,
        upgraded_latents=base.repeat_interleave(2, 2).repeat_interleave(2, 3),
        base_text=torch.randn(n_images, N_TOKENS, BASE_TEXT_WIDTH, generator=generator),
    )


def null_text() -> UpgradedText:
    return UpgradedText(
        torch.zeros(1, N_TOKENS, UPGRADED_TEXT_WIDTH),
        torch.zeros(1, POOLED_WIDTH),
        torch.tensor([[32.0, 32, 0, 0, 32, 32]]),
    )


def train(
    out_dir: Path,
    base_unet: Any,
    upgraded_unet: Any,
    settings: TrainSettings,
    data: TensorDataset | None = None,
    **kwargs: Any,
) -> Any:
    return train_mapper(
        new_mapper(zero=True),
        base_unet=base_unet,
        upgraded_unet=upgraded_unet,
        upgraded_null=null_text(),
        data=data or tiny_data(),
        alphas_cumprod=ABAR,
        settings=settings,
        out_dir=out_dir,
        progress=False,
        **kwargs,
    )


@pytest.mark.parametrize("weighting", ["paper", "typical"])
def test_resumed_run_equals_uninterrupted_run(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any, weighting: Any
) -> None:
    settings = replace(SETTINGS, weighting=weighting)
    whole = train(tmp_path / "whole", base_unet, upgraded_unet, settings)
    train(tmp_path / "cut", base_unet, upgraded_unet, settings, stop_after=5)
    cut = train(tmp_path / "cut", base_unet, upgraded_unet, settings)
    for name, weight in whole.mapper.state_dict().items():
        assert torch.equal(weight, cut.mapper.state_dict()[name]), name
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    first = (tmp_path / "whole" / "checkpoint.safetensors").read_bytes()
    assert first == (tmp_path / "cut" / "checkpoint.safetensors").read_bytes()


class SignalingDataset(TensorDataset):
    """Sends a signal to this process in the middle of a step."""

    def batch(self, indices: torch.Tensor) -> Any:
        """Return a batch; the fifth one comes with the signal."""
        self.n_batches = getattr(self, "n_batches", 0) + 1
        if self.n_batches == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(indices)


def test_a_signal_ends_training_with_a_checkpoint_that_resumes_exactly(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    settings = replace(SETTINGS, weighting="paper")
    train(tmp_path / "whole", base_unet, upgraded_unet, settings)
    data = tiny_data()
    data = SignalingDataset(data.base_latents, data.upgraded_latents, data.base_text)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", base_unet, upgraded_unet, settings, data=data)
    with safe_open(tmp_path / "cut" / "checkpoint.safetensors", "pt") as file:
        facts = " ".join(file.metadata().values())
    assert '"step": 5' in facts or '"step":5' in facts
    train(tmp_path / "cut", base_unet, upgraded_unet, settings)
    first = (tmp_path / "whole" / "checkpoint.safetensors").read_bytes()
    assert first == (tmp_path / "cut" / "checkpoint.safetensors").read_bytes()


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_run_killed_after_a_checkpoint_repeats_the_lost_steps(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    whole = train(tmp_path / "whole", base_unet, upgraded_unet, SETTINGS)
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS, stop_after=3)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 99}\n{"st')
    cut = train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    assert cut.loss == whole.loss


def test_only_the_mapper_learns(tmp_path: Path, base_unet: Any, upgraded_unet: Any) -> None:
    before = {k: v.clone() for k, v in upgraded_unet.state_dict().items()}
    result = train(tmp_path, base_unet, upgraded_unet, replace(SETTINGS, steps=2))
    for unet in (base_unet, upgraded_unet):
        assert all(p.grad is None and not p.requires_grad for p in unet.parameters())
    assert all(torch.equal(v, before[k]) for k, v in upgraded_unet.state_dict().items())
    assert float(result.mapper.zero_out[0].weight.abs().max()) > 0


def test_training_writes_a_mapper_that_diffusers_loads(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    result = train(tmp_path, base_unet, upgraded_unet, replace(SETTINGS, steps=1))
    loaded = Mapper.from_pretrained(result.mapper_path)
    assert loaded.config["n_blocks"] == 2
    for name, weight in result.mapper.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name])


def test_loss_goes_down_on_a_tiny_problem(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    settings = TrainSettings(steps=30, batch_size=8, learning_rate=3e-3, weighting="paper")
    result = train(tmp_path, base_unet, upgraded_unet, settings)
    models = FrozenModels(base_unet, upgraded_unet, null_text(), ABAR)
    before = fixed_loss(new_mapper(zero=True), models)
    assert fixed_loss(result.mapper, models) < 0.99 * before


def fixed_loss(mapper: Mapper, models: FrozenModels) -> float:
    """Mean loss on noises and timesteps that training did not see."""
    generator = torch.Generator().manual_seed(99)
    batch = tiny_data().batch(torch.arange(10))
    losses = mapper_losses(
        mapper,
        models,
        batch,
        timesteps=torch.arange(10) * 99,
        base_noise=torch.randn(batch.base_latents.shape, generator=generator),
        upgraded_noise=torch.randn(batch.upgraded_latents.shape, generator=generator),
    )
    return float(losses.mean())


def test_accumulated_batches_count_as_images(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    settings = replace(SETTINGS, steps=2, accumulation_steps=3)
    train(tmp_path, base_unet, upgraded_unet, settings)
    assert metrics(tmp_path)[-1]["images"] == 2 * 3 * 4


def test_other_settings_in_the_same_folder_are_refused(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    train(tmp_path, base_unet, upgraded_unet, replace(SETTINGS, steps=1))
    with pytest.raises(SettingError, match=r"learning_rate 0.001 there, 0.5 here"):
        train(tmp_path, base_unet, upgraded_unet, replace(SETTINGS, steps=1, learning_rate=0.5))


def test_null_prompts_need_the_null_text(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    settings = replace(SETTINGS, steps=1, null_prompt_share=0.5)
    with pytest.raises(SettingError, match="base_null"):
        train(tmp_path, base_unet, upgraded_unet, settings)
    null = torch.zeros(1, N_TOKENS, BASE_TEXT_WIDTH)
    assert train(tmp_path, base_unet, upgraded_unet, settings, base_null=null).steps == 1


def test_v_prediction_models_train(tmp_path: Path, base_unet: Any, upgraded_unet: Any) -> None:
    settings = replace(SETTINGS, steps=1)
    result = train(tmp_path, base_unet, upgraded_unet, settings, prediction="v_prediction")
    assert result.steps == 1


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="batch_size must be at least 1, got 0"):
        TrainSettings(steps=1, batch_size=0)


def test_positions_of_the_shuffled_epochs_visit_every_image() -> None:
    whole = indices_at(range(20), 10, seed=3)
    assert torch.equal(indices_at(range(7, 13), 10, seed=3), whole[7:13])
    assert sorted(whole[:10].tolist()) == sorted(whole[10:].tolist()) == list(range(10))


def test_parts_of_a_step_are_rows_of_the_whole_step() -> None:
    data = Shuffled(tiny_data(), seed=3)
    whole = data.batch_at(2, range(8), 8)
    part = data.batch_at(2, range(4, 8), 8)
    assert torch.equal(part.base_latents, whole.base_latents[4:])


def test_stratified_timesteps_fall_into_each_part_of_the_schedule() -> None:
    timesteps = stratified_timesteps(8, 1000, torch.Generator().manual_seed(0))
    assert (timesteps // 125).tolist() == list(range(8))


def test_typical_weights_are_the_inverse_of_the_table() -> None:
    table = (torch.tensor([0.0, 10.0, 20.0]), torch.tensor([1.0, 0.5, 0.25]))
    weights = typical_weights(torch.tensor([0, 10, 15, 20]), table)
    assert torch.allclose(weights, torch.tensor([1.0, 2.0, 8**0.5, 4.0]))


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = TrainSettings(steps=100, learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate_at(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] < 1e-3


def test_training_goes_on_from_the_last_checkpoint_that_is_not_damaged(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(tmp_path / "whole", base_unet, upgraded_unet, SETTINGS)
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS, stop_after=5)
    last = tmp_path / "cut" / "checkpoint.safetensors"
    content = bytearray(last.read_bytes())
    content[-3] ^= 1
    last.write_bytes(content)
    cut = train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS)
    assert "checkpoint.safetensors is damaged: training goes on from" in caplog.text
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    for name, weight in whole.mapper.state_dict().items():
        assert torch.equal(weight, cut.mapper.state_dict()[name]), name


def test_a_second_training_into_a_folder_is_refused(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingFolderError, match="another training"):
        train(tmp_path, base_unet, upgraded_unet, SETTINGS)
