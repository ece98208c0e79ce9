"""The trainer: exact resume, the mapper alone learns, the loss falls."""

from __future__ import annotations

import os
import resource
import signal
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open

from tests.xadapter.conftest import (
    BASE_TEXT_WIDTH,
    N_TOKENS,
    POOLED_WIDTH,
    UPGRADED_TEXT_WIDTH,
    new_mapper,
    tiny_base_unet,
    tiny_upgraded_unet,
)
from tests.xadapter.training import (
    ABAR,
    SETTINGS,
    TensorDataset,
    metrics,
    null_text,
    tiny_data,
    train,
    train_together,
)
from xadapter.data import Shuffled, UpgradedText, indices_at
from xadapter.errors import SettingError, TrainingFolderError
from xadapter.loss import FrozenModels, mapper_losses, stratified_timesteps
from xadapter.mapper import Mapper
from xadapter.objectives import typical_weights
from xadapter.processes import Processes
from xadapter.trackers import opened_trackers
from xadapter.train_settings import TrainSettings, learning_rate_at
from xadapter.train_step import averaged_copy
from xadapter.validation import Validation


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training by `SETTINGS`, which tests only read."""
    folder = tmp_path_factory.mktemp("training") / "whole"
    train(folder, tiny_base_unet(), tiny_upgraded_unet(), SETTINGS)
    return folder


@pytest.mark.parametrize("weighting", ["paper", "typical", "edm2"])
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


def test_run_killed_after_a_checkpoint_repeats_the_lost_steps(
    whole: Path, tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS, stop_after=3)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 99}\n{"st')
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS)
    assert metrics(whole) == metrics(tmp_path / "cut")


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


def test_accumulated_batches_equal_one_batch(
    whole: Path, tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    parts = replace(SETTINGS, batch_size=2, accumulation_steps=2)
    train(tmp_path / "parts", base_unet, upgraded_unet, parts)
    assert metrics(tmp_path / "parts")[-1]["images"] == 6 * 4
    assert_alike(tmp_path / "parts", whole)


def assert_alike(folder: Path, other: Path) -> None:
    """Assert equal loss curves and mappers, to the rounding of sums in another order."""
    for row, expected in zip(metrics(folder), metrics(other), strict=True):
        assert row == pytest.approx(expected, rel=1e-6), row["step"]
    left, right = (Mapper.from_pretrained(path / "mapper").state_dict() for path in (folder, other))
    for name, weight in left.items():
        # AdamW's first steps divide by gradients near 0, so rounding is a share of the rate there
        assert torch.allclose(weight, right[name], atol=1e-4), name


@pytest.mark.system
def test_two_processes_equal_one_also_where_they_take_over(
    whole: Path, tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    learned = replace(SETTINGS, weighting="edm2", steps=2)
    typical = replace(SETTINGS, weighting="typical", steps=2)
    train(tmp_path / "learned", base_unet, upgraded_unet, learned)
    train(tmp_path / "typical", base_unet, upgraded_unet, typical)
    train(tmp_path / "mixed", base_unet, upgraded_unet, SETTINGS, stop_after=2)
    half, parts = SETTINGS.batch_size // 2, 2 * SETTINGS.accumulation_steps
    in_halves = replace(SETTINGS, batch_size=half, accumulation_steps=parts)
    train(tmp_path / "halves", base_unet, upgraded_unet, in_halves)
    train_together(
        [
            (tmp_path / "two", SETTINGS, None),
            (tmp_path / "cut", SETTINGS, 3),
            (tmp_path / "cut", SETTINGS, None),
            (tmp_path / "mixed", replace(SETTINGS, validate_every_steps=4), 4),
            (tmp_path / "learned-two", learned, None),
            (tmp_path / "typical-two", typical, None),
        ]
    )
    train(tmp_path / "mixed", base_unet, upgraded_unet, SETTINGS)
    assert metrics(tmp_path / "two") == metrics(tmp_path / "halves")  # the same sums: the same bits
    assert_alike(tmp_path / "two", whole)
    assert_alike(tmp_path / "mixed", whole)  # 1, 2, 1 processes
    assert_alike(tmp_path / "learned-two", tmp_path / "learned")
    assert_alike(tmp_path / "typical-two", tmp_path / "typical")
    # one process validates, and the others wait for it
    assert (tmp_path / "mixed" / "validation.jsonl").read_text() == '{"step": 4, "rank": 0}\n'
    checkpoints = [tmp_path / name / "checkpoint.safetensors" for name in ("two", "cut")]
    assert checkpoints[0].read_bytes() == checkpoints[1].read_bytes()


def test_a_batch_that_cannot_be_divided_is_refused(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    three = Processes(rank=0, count=3)
    with pytest.raises(SettingError, match="4 images cannot be divided among 3 processes"):
        train(tmp_path, base_unet, upgraded_unet, SETTINGS, processes=three)


def test_gradient_checkpointing_changes_no_number(
    whole: Path, tmp_path: Path, base_unet: Any
) -> None:
    again = replace(SETTINGS, gradient_checkpointing=True)
    train(tmp_path / "again", base_unet, tiny_upgraded_unet(), again)
    assert_alike(tmp_path / "again", whole)


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    settings = replace(SETTINGS, precision="bfloat16", steps=2)
    result = train(tmp_path, tiny_base_unet(), tiny_upgraded_unet(), settings)
    assert result.mapper.dtype == torch.float32 and result.loss == pytest.approx(1.0, abs=0.5)


def test_prompts_for_the_upgraded_model_come_with_the_data(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    settings = replace(SETTINGS, upgraded_text="prompt", steps=2)
    with pytest.raises(SettingError, match="these have none"):
        train(tmp_path / "none", base_unet, upgraded_unet, settings)

    class Prompted(TensorDataset):
        def batch(self, indices: torch.Tensor) -> Any:
            text = UpgradedText(
                torch.ones(len(indices), N_TOKENS, UPGRADED_TEXT_WIDTH),
                torch.ones(len(indices), POOLED_WIDTH),
                torch.full((len(indices), 6), 32.0),
            )
            return replace(super().batch(indices), upgraded_text=text)

    tensors = tiny_data()
    data = Prompted(tensors.base_latents, tensors.upgraded_latents, tensors.base_text)
    train(tmp_path / "prompt", base_unet, upgraded_unet, settings, data=data)
    null = replace(settings, upgraded_text="null")
    train(tmp_path / "null", base_unet, upgraded_unet, null, data=data)
    assert metrics(tmp_path / "prompt")[0]["mse"] != metrics(tmp_path / "null")[0]["mse"]


def test_validation_is_logged_beside_the_loss_and_may_end_the_training(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    seen = []

    def validate(step: int, mapper: Mapper) -> Validation:
        seen.append((step, float(mapper.zero_out[0].weight.abs().max())))
        return Validation({"accuracy": step / 10}, is_last=step == 4)

    def interrupted(step: int, mapper: Mapper) -> Validation:
        raise KeyboardInterrupt

    settings = replace(SETTINGS, validate_every_steps=2)
    result = train(tmp_path, base_unet, upgraded_unet, settings, validate=validate)
    assert result.steps == 4 and [step for step, _ in seen] == [2, 4] and seen[1][1] > 0
    rows = (tmp_path / "validation.jsonl").read_text().splitlines()
    assert rows[-1] == '{"step": 4, "accuracy": 0.4, "is_last": true}'
    again = train(tmp_path, base_unet, upgraded_unet, settings, validate=validate)
    assert again.steps == 4 and len(seen) == 2  # it stays ended
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", base_unet, upgraded_unet, settings, validate=interrupted)
    train(tmp_path / "cut", base_unet, upgraded_unet, settings, validate=validate)
    # the validation that was cut off comes first
    assert [step for step, _ in seen[2:]] == [2, 4]
    assert (tmp_path / "cut" / "validation.jsonl").read_text().splitlines() == rows
    plain = train(tmp_path / "plain", base_unet, upgraded_unet, SETTINGS, stop_after=4)
    for name, weight in plain.mapper.state_dict().items():  # validation moves no number
        assert torch.equal(weight, result.mapper.state_dict()[name]), name


def test_a_full_disk_is_one_message_and_the_run_goes_on_later(
    whole: Path, tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS, stop_after=3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(TrainingFolderError, match="free some space"):
            train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS)
    assert metrics(whole) == metrics(tmp_path / "cut")


def test_a_tracker_without_its_package_is_named(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    with pytest.raises(SettingError, match="pip install wandb"):
        train(tmp_path, base_unet, upgraded_unet, SETTINGS, trackers=("wandb",))


def test_a_tracker_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package in the place of W&B's refuses as W&B does without a key."""
    package = "def init(**settings):\n    raise RuntimeError(f'No key for {sorted(settings)}.')\n"
    (tmp_path / "wandb.py").write_text(package, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = r"'wandb' does not start: No key for .*'name'.*WANDB_MODE=offline"
    try:
        with (
            pytest.raises(SettingError, match=message),
            opened_trackers(["wandb"], run_name="mine", folder=tmp_path / "logs", settings={}),
        ):
            pass
    finally:
        sys.modules.pop("wandb", None)  # monkeypatch would put it back


def test_a_checkpoint_without_the_newer_settings_goes_on(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    older = {k: v for k, v in asdict(SETTINGS).items() if k not in ("betas", "schedule")}
    assert SETTINGS.differing(older) == []
    assert SETTINGS.differing({**older, "batch_size": 2, "accumulation_steps": 2}) == []
    assert SETTINGS.differing({**older, "batch_size": 2}) == ["2 images a step there, 4 here"]


def test_other_settings_in_the_same_folder_are_refused(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    train(tmp_path, base_unet, upgraded_unet, replace(SETTINGS, steps=1))
    with pytest.raises(SettingError, match=r"learning_rate 0.001 there, 0.5 here"):
        train(tmp_path, base_unet, upgraded_unet, replace(SETTINGS, steps=1, learning_rate=0.5))


def test_a_diverged_training_ends_before_it_spoils_the_weights(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    settings = replace(SETTINGS, steps=9, learning_rate=1e30, grad_clip=None, weighting="paper")
    settings = replace(settings, checkpoint_every_steps=1, warmup_share=0.0)
    with pytest.raises(SettingError, match=r"diverged: the gradient of step \d is not finite"):
        train(tmp_path, base_unet, upgraded_unet, settings)
    with safe_open(tmp_path / "checkpoint.safetensors", framework="pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118


def test_an_average_has_the_mappers_buffers_and_tied_weights() -> None:
    mapper: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    mapper.tied = mapper[0]
    mapper(torch.randn(4, 2))
    averages = {name: torch.ones_like(weight) for name, weight in mapper.named_parameters()}
    copied: Any = averaged_copy(mapper, averages)
    assert copied.tied is copied[0] and copied[0].weight.eq(1).all()
    assert torch.equal(copied[1].running_mean, mapper[1].running_mean)


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
    whole: Path,
    tmp_path: Path,
    base_unet: Any,
    upgraded_unet: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS, stop_after=5)
    last = tmp_path / "cut" / "checkpoint.safetensors"
    content = bytearray(last.read_bytes())
    content[-3] ^= 1
    last.write_bytes(content)
    cut = train(tmp_path / "cut", base_unet, upgraded_unet, SETTINGS)
    assert "checkpoint.safetensors is damaged: training goes on from" in caplog.text
    assert metrics(whole) == metrics(tmp_path / "cut")
    for name, weight in Mapper.from_pretrained(whole / "mapper").state_dict().items():
        assert torch.equal(weight, cut.mapper.state_dict()[name]), name


def test_a_second_training_into_a_folder_is_refused(
    tmp_path: Path, base_unet: Any, upgraded_unet: Any
) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingFolderError, match="another training"):
        train(tmp_path, base_unet, upgraded_unet, SETTINGS)
