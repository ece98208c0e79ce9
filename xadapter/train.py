"""The trainer of the mapper: only the mapper learns; a run resumes bit by bit.

Source: X-Adapter, arXiv 2312.02238, section 3.3, training strategy (objectives:
`xadapter.objectives`). Ours: stratified timesteps, weight averaging, warm-up and decay. All
randomness of a step is drawn for its images on all processes together and then divided, so a run
does not depend on the number of processes, but for the order of sums. Legend: b images, c channels,
h height, w width, l tokens, d text width.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plugins_manifest.files import append_line
from plugins_manifest.interrupts import Interrupts, watched_interrupts
from plugins_manifest.progress import Progress
from xadapter.checkpoint import (
    load_checkpoint,
    locked,
    moments_of,
    save_checkpoint,
    trim_log,
    written,
)
from xadapter.data import (
    TABLE_STREAM,
    LatentDataset,
    Shuffled,
    TrainBatch,
    TrainingData,
    UpgradedText,
    generator_for,
)
from xadapter.errors import SettingError
from xadapter.load import save_mapper
from xadapter.loss import FrozenModels, Prediction, mapper_losses, typical_losses
from xadapter.objectives import (
    UNCERTAINTY_LEARNING_RATE,
    Objective,
    Table,
    Uncertainty,
    objective_for,
)
from xadapter.processes import Processes
from xadapter.trackers import TrackerName, Trackers, opened_trackers
from xadapter.train_settings import TrainSettings, learning_rate_at
from xadapter.train_step import (
    DTYPES,
    StepDraws,
    averaged_copy,
    clipped_norm,
    draw_step,
    frozen_on,
    on_device,
    placed,
)
from xadapter.validation import (
    VALIDATION,
    Validation,
    Validator,
    record_validation,
    recorded_validation,
)

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

__all__ = ["TrainResult", "TrainSettings", "UpgradedText", "train_mapper"]

N_TABLE_IMAGES = 16
METRICS = "metrics.jsonl"
_SUMS = ("loss", "mse", "grad_norm", "n")


@dataclass(frozen=True)
class TrainResult:
    """The averaged mapper, its folder, and the mean loss of the last log window."""

    mapper: nn.Module
    mapper_path: Path
    steps: int
    loss: float


def train_mapper(
    mapper: nn.Module,
    *,
    base_unet: UNet2DConditionModel,
    upgraded_unet: UNet2DConditionModel,
    upgraded_null: UpgradedText,
    data: LatentDataset | TrainingData,
    alphas_cumprod: Tensor,
    settings: TrainSettings,
    out_dir: Path | str,
    device: torch.device | str = "cpu",
    progress: bool = True,
    prediction: Prediction = "epsilon",
    base_null: Tensor | None = None,
    base_alphas_cumprod: Tensor | None = None,
    stop_after: int | None = None,
    processes: Processes | None = None,
    validate: Validator | None = None,
    trackers: Sequence[TrackerName] = (),
) -> TrainResult:
    """Train `mapper` in place and return its weight average; resume if `out_dir` has a checkpoint.

    `alphas_cumprod` [T] is the schedule of both models, unless the base model has its own;
    `prediction` is the upgraded model's kind, `base_null` [1, l, d] the base model's null text
    (needed for `null_prompt_share`). Both UNets are frozen, moved to `device` and cast to the
    precision of the settings. Writes `mapper/` (diffusers folder of the average), `metrics.jsonl`
    and the last two checkpoints. `stop_after` ends early at a step, with a checkpoint. `processes`
    are those of `xadapter.processes.joined`, with its device; `validate` runs every
    `validate_every_steps` and after the last step, each time behind a checkpoint. Raises
    `SettingError` if the checkpoint in `out_dir` has other settings, `TrainingFolderError` if
    another process trains there or all checkpoints are damaged.
    """
    if settings.null_prompt_share > 0 and base_null is None:
        raise SettingError("null_prompt_share > 0 needs base_null, the base model's null text")
    processes = processes or Processes(device=torch.device(device))
    if settings.precision == "float16" and processes.device.type != "cuda":
        raise SettingError("the precision float16 needs a CUDA device: use bfloat16 or float32")
    processes.rows_of(range(settings.batch_size))  # a batch that cannot be divided
    given = FrozenModels(
        base_unet, upgraded_unet, upgraded_null, alphas_cumprod, prediction, base_alphas_cumprod
    )
    out_dir = Path(out_dir)
    stream = data if isinstance(data, TrainingData) else Shuffled(data, settings.seed)
    with ExitStack() as stack:
        processes.on_main(lambda: stack.enter_context(locked(out_dir)))
        run = _Run(
            mapper,
            frozen_on(processes.device, given, settings),
            data=stream,
            settings=settings,
            out_dir=out_dir,
            processes=processes,
            base_null=base_null,
            validate=validate,
        )
        run.resume()
        if processes.is_main and trackers:
            names = {"run_name": out_dir.resolve().name, "folder": out_dir / "trackers"}
            opened = opened_trackers(trackers, **names, settings=asdict(settings))
            run.trackers = stack.enter_context(opened)
        run.train(stop_after=stop_after, progress=progress and processes.is_main)
        return run.result()


@dataclass
class _Loop:
    """The mutable state of the loop that a checkpoint holds."""

    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0.0))
    last_loss: float = math.nan
    is_ended: bool = False  # by validation, before the last step


class _Run:
    """State of one training run."""

    def __init__(
        self,
        mapper: nn.Module,
        models: FrozenModels,
        *,
        data: TrainingData,
        settings: TrainSettings,
        out_dir: Path,
        processes: Processes,
        base_null: Tensor | None,
        validate: Validator | None,
    ) -> None:
        layout: Any = torch.channels_last  # faster convolutions, equal numbers to rounding
        self.device = processes.device
        nn.Module.to(mapper, self.device)
        nn.Module.to(mapper, memory_format=layout)
        self.mapper = mapper.train().requires_grad_(True)
        self.models, self.data, self.settings = models, data, settings
        self.out_dir, self.processes = out_dir, processes
        self.base_null, self.validate = base_null, validate
        self.trackers = Trackers(())
        self.validating_seconds = 0.0
        self.parameters: dict[str, nn.Parameter] = dict(mapper.named_parameters())
        self.loop = _Loop()
        self.table: Table | None = None
        self.objective: Objective | Uncertainty | None = None
        # scales a loss whose gradients would vanish in half precision
        self.scaler = torch.amp.GradScaler(  # type: ignore[attr-defined]
            self.device.type, enabled=settings.precision == "float16"
        )

    # --- start

    def resume(self) -> None:
        """Restore the checkpoint of `out_dir`, or measure the typical losses of a new run."""
        if self.settings.weighting == "edm2":  # it learns too: before the optimizer is made
            self._set_objective()
        self._make_optimizer()
        found: list[Any] = [None]

        def load() -> None:
            found[0] = load_checkpoint(
                self.out_dir,
                parameters=self.parameters,
                averages=self.averages,
                optimizer=self.optimizer,
            )
            if found[0] is not None:
                self._check_settings(found[0][0]["settings"])

        self.processes.on_main(load)
        loaded = self.processes.agree(found[0])
        self.processes.copy_from_main(self._state())
        if loaded is not None:
            self._restore(*loaded)
        elif self.settings.weighting == "typical":
            self.table = self.processes.agree(self._measure_table())
        # the table is in the checkpoint, so a resumed run weights as before
        if self.objective is None:
            self._set_objective()
        if self.processes.is_main:
            trim_log(self.out_dir / METRICS, self.loop.step)
            trim_log(self.out_dir / VALIDATION, self.loop.step)

    def _set_objective(self) -> None:
        models = self.models
        self.objective = objective_for(
            self.settings, models.alphas_cumprod, models.prediction, table=self.table
        )

    def _make_optimizer(self) -> None:
        settings = self.settings
        groups: list[dict[str, Any]] = [{"params": list(self.parameters.values())}]
        if isinstance(self.objective, Uncertainty):
            own = dict(self.objective.named_parameters(prefix="objective"))
            self.parameters |= own
            groups.append({"params": list(own.values()), "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        # the average starts at the initial weights
        self.averages = {n: w.detach().clone() for n, w in self.parameters.items()}

    def _state(self) -> list[Tensor]:
        """Return every tensor that all processes must have alike."""
        tensors: list[Tensor] = []
        for name, weight in self.parameters.items():
            moments = moments_of(self.optimizer, weight) if self.processes.count > 1 else {}
            tensors += [weight, self.averages[name], *moments.values()]
        return tensors

    def _restore(self, facts: Mapping[str, Any], extra: Mapping[str, Tensor]) -> None:
        is_ended = facts.get("is_ended", False)
        self.loop = _Loop(facts["step"], facts["sums"], facts["last_loss"], is_ended)
        if "table_losses" in extra:
            self.table = (extra["table_timesteps"], extra["table_losses"])
        if "scaler" in facts:
            self.scaler.load_state_dict(facts["scaler"])

    def _check_settings(self, stored: dict[str, Any]) -> None:
        if differing := self.settings.differing(stored):
            raise SettingError(
                f"{self.out_dir} contains a run with other settings ({', '.join(differing)}): "
                "choose another out_dir or the same settings"
            )

    def _measure_table(self) -> Table | None:
        if not self.processes.is_main:
            return None  # it gets that of rank 0
        generator = generator_for(self.settings.seed, TABLE_STREAM)
        batch = self._placed(self.data.sample(N_TABLE_IMAGES, generator))
        with Progress("measuring the typical losses"):
            return typical_losses(self.models, batch, generator=generator)

    # --- steps

    def train(self, *, stop_after: int | None, progress: bool) -> None:
        """Take the remaining steps, with a row of metrics and a checkpoint now and then.

        A signal to any process ends all after the step, with a checkpoint.
        """
        settings, loop = self.settings, self.loop
        last = settings.steps if stop_after is None else min(stop_after, settings.steps)
        bar = Progress(
            "training the mapper",
            unit="step",
            total=settings.steps,
            done=loop.step,
            has_bar=progress,
        )
        started = time.monotonic()
        # held: a step that stopped halfway could not be resumed
        with watched_interrupts() as interrupts, bar, interrupts.held():
            self._validate_if_due(interrupts)  # a validation that was cut off
            while loop.step < last and not loop.is_ended:
                is_interrupted = self._take_step(lambda: interrupts.received)
                bar.update()
                if loop.step % settings.log_every_steps == 0 or loop.step == settings.steps:
                    self._log(time.monotonic() - started - self.validating_seconds)
                    bar.detail(f"loss {loop.last_loss:.4f}")
                is_due = loop.step % settings.checkpoint_every_steps == 0 or self._is_validated
                if is_due or loop.step == last or is_interrupted:
                    self._save()
                if is_interrupted:
                    raise KeyboardInterrupt
                self._validate_if_due(interrupts)

    def _take_step(self, is_interrupted: Callable[[], bool]) -> bool:
        """Take a step; return whether a signal has reached any of the processes."""
        settings, loop = self.settings, self.loop
        self._set_learning_rates()
        self.optimizer.zero_grad(set_to_none=True)
        n_images, sums = settings.images_per_step, torch.zeros(3, dtype=torch.float64)
        draws: StepDraws | None = None
        n_train = len(self.models.alphas_cumprod)
        for first in range(0, n_images, settings.batch_size):
            rows = self.processes.rows_of(range(first, first + settings.batch_size))
            batch = self.data.batch_at(loop.step, rows, n_images)
            draws = draws or draw_step(settings, loop.step, batch, n_train=n_train)
            terms, errors = self._terms(batch, draws, slice(rows.start, rows.stop))
            # a sum over the images of all batches and processes, divided by their number
            loss = terms.sum() / n_images
            self.scaler.scale(loss).backward()
            part = torch.stack([loss.detach(), errors.sum() / n_images])
            sums[:2] += part.double().cpu()
        sums[2] = float(is_interrupted())
        sums = self._add_up(sums)
        self._update_weights()
        loop.sums["loss"] += float(sums[0])
        loop.sums["mse"] += float(sums[1])
        loop.sums["n"] += 1
        loop.step += 1
        self._average()
        return bool(sums[2] > 0)

    def _set_learning_rates(self) -> None:
        settings, step = self.settings, self.loop.step
        peaks = (settings.learning_rate, UNCERTAINTY_LEARNING_RATE)
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=False):
            group["lr"] = learning_rate_at(step, replace(settings, learning_rate=peak))

    def _terms(self, batch: TrainBatch, draws: StepDraws, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the terms of the objective, and the plain errors, of this process's images."""
        assert self.objective is not None, "set by resume"
        placed = self._placed(batch)
        timesteps = draws.timesteps[rows].to(self.device)
        if self.base_null is not None and self.settings.null_prompt_share > 0:
            null = self.base_null.to(placed.base_text).expand_as(placed.base_text)
            is_dropped = draws.is_dropped[rows].to(self.device).view(-1, 1, 1)
            placed = replace(placed, base_text=torch.where(is_dropped, null, placed.base_text))
        errors = mapper_losses(
            self.mapper,
            self.models,
            placed,
            timesteps=timesteps,
            base_noise=on_device(self.device, draws.base_noise[rows]),
            upgraded_noise=on_device(self.device, draws.upgraded_noise[rows]),
            dtype=DTYPES[self.settings.precision],
            is_checkpointed=self.settings.gradient_checkpointing,
        )
        return self.objective(errors, timesteps), errors.detach()

    def _placed(self, batch: TrainBatch) -> TrainBatch:
        has_text = self.settings.upgraded_text == "prompt"
        return placed(self.device, batch, has_upgraded_text=has_text)

    def _add_up(self, sums: Tensor) -> Tensor:
        """Add gradients and sums over all processes."""
        if self.processes.count == 1:
            return sums
        placed = sums.to(self.device)
        gradients = [w.grad for w in self.parameters.values() if w.grad is not None]
        self.processes.add(gradients)
        self.processes.add([placed])
        return placed.cpu()

    def _update_weights(self) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = clipped_norm(self.mapper, self.settings, self.loop.step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loop.sums["grad_norm"] += norm

    def _average(self) -> None:
        """Update the exponential average of the weights (ours)."""
        step = self.loop.step
        # a short memory first, (1 + n) / (10 + n), so that the start is forgotten early
        decay = min(self.settings.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, weight in self.parameters.items():
                self.averages[name].lerp_(weight, 1 - decay)

    # --- files

    def _log(self, seconds: float) -> None:
        settings, loop = self.settings, self.loop
        count = max(1.0, loop.sums["n"])
        loop.last_loss = loop.sums["loss"] / count
        row = {
            "step": loop.step,
            "images": loop.step * settings.images_per_step,
            "loss": loop.last_loss,
            "mse": loop.sums["mse"] / count,
            "grad_norm": loop.sums["grad_norm"] / count,
            "learning_rate": learning_rate_at(loop.step - 1, settings),
            "seconds": round(seconds, 3),
        }
        loop.sums = dict.fromkeys(loop.sums, 0.0)
        if self.processes.is_main:
            append_line(self.out_dir / METRICS, json.dumps(row))
            self.trackers.log({k: v for k, v in row.items() if k != "step"}, loop.step)

    @property
    def _is_validated(self) -> bool:
        return self.validate is not None and self.settings.validates_after(self.loop.step)

    def _validate_if_due(self, interrupts: Interrupts) -> None:
        """Validate where it is due and not recorded, which may end the training there."""
        if not self._is_validated or self.loop.is_ended:
            return
        started, is_last = time.monotonic(), [False]

        def validate() -> None:
            is_last[0] = self._validated(interrupts).is_last

        self.processes.on_main(validate)
        self.validating_seconds += time.monotonic() - started
        if self.processes.agree(is_last[0]):
            self.loop.is_ended = True
            self._save()

    def _validated(self, interrupts: Interrupts) -> Validation:
        """Return the recorded validation of this step, else make and record it."""
        step = self.loop.step
        if (found := recorded_validation(self.out_dir, step)) is not None:
            return found
        assert self.validate is not None, "checked by the caller"
        with interrupts.released():  # the checkpoint of this step is written
            found = self.validate(step, self._averaged())
        record_validation(self.out_dir, step, found)
        self.trackers.log({f"validation/{k}": v for k, v in found.scores.items()}, step)
        return found

    def _save(self) -> None:
        self.processes.on_main(self._write_checkpoint)

    def _write_checkpoint(self) -> None:
        extra = {}
        if self.table is not None:
            extra = {"table_timesteps": self.table[0], "table_losses": self.table[1]}
        more: dict[str, Any] = {"is_ended": True} if self.loop.is_ended else {}
        if self.scaler.is_enabled():
            more["scaler"] = self.scaler.state_dict()
        save_checkpoint(
            self.out_dir,
            parameters=self.parameters,
            averages=self.averages,
            optimizer=self.optimizer,
            extra=extra,
            facts={
                "step": self.loop.step,
                "sums": self.loop.sums,
                "last_loss": self.loop.last_loss,
                "settings": asdict(self.settings),
                **more,
            },
        )

    def _averaged(self) -> nn.Module:
        """Return a copy of the mapper with the averaged weights."""
        return averaged_copy(self.mapper, self.averages)

    def result(self) -> TrainResult:
        """Write and return the averaged mapper."""
        # the average is the result; the last weights stay in the checkpoint
        averaged, path = self._averaged(), self.out_dir / "mapper"
        self.processes.on_main(partial(_write_mapper, averaged, path))
        return TrainResult(averaged, path, self.loop.step, self.loop.last_loss)


def _write_mapper(mapper: nn.Module, path: Path) -> None:
    with written(path) as draft:
        save_mapper(mapper, draft)
