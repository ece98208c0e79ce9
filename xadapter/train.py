"""The trainer of the mapper: only the mapper learns; a run resumes bit by bit.

Source: X-Adapter, arXiv 2312.02238, section 3.3, training strategy (objective: `xadapter.loss`).
Ours: weighting by the typical loss (option), stratified timesteps, weight averaging, warm-up and
cosine decay. Legend: b images, c channels, h height, w width, l tokens, d text width.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError
from plugins_manifest.files import append_line, atomic_write, replacing
from plugins_manifest.interrupts import watched_interrupts
from plugins_manifest.progress import Progress
from xadapter.checkpoint import load_checkpoint, locked, save_checkpoint
from xadapter.data import (
    STEP_STREAM,
    TABLE_STREAM,
    LatentDataset,
    TrainBatch,
    UpgradedText,
    generator_for,
    index_batches,
)
from xadapter.errors import SettingError
from xadapter.loss import (
    FrozenModels,
    Prediction,
    Weighting,
    mapper_losses,
    paper_weights,
    stratified_timesteps,
    typical_losses,
    typical_weights,
)
from xadapter.mapper import Mapper
from xadapter.train_settings import TrainSettings, learning_rate_at

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

__all__ = ["TrainResult", "TrainSettings", "UpgradedText", "train_mapper"]

N_TABLE_IMAGES = 16


@dataclass(frozen=True)
class TrainResult:
    """The averaged mapper, its folder, and the mean loss of the last log window."""

    mapper: Mapper
    mapper_path: Path
    steps: int
    loss: float


def train_mapper(
    mapper: Mapper,
    *,
    base_unet: UNet2DConditionModel,
    upgraded_unet: UNet2DConditionModel,
    upgraded_null: UpgradedText,
    data: LatentDataset,
    alphas_cumprod: Tensor,
    settings: TrainSettings,
    out_dir: Path | str,
    device: torch.device | str = "cpu",
    progress: bool = True,
    prediction: Prediction = "epsilon",
    base_null: Tensor | None = None,
    stop_after: int | None = None,
) -> TrainResult:
    """Train `mapper` in place and return its weight average; resume if `out_dir` has a checkpoint.

    `alphas_cumprod` [T] is the schedule of both models, `prediction` the upgraded model's kind,
    `base_null` [1, l, d] the base model's null text (needed for `null_prompt_share`). Both UNets
    are frozen and moved to `device`. Writes `mapper/` (diffusers folder of the average),
    `metrics.jsonl` and the last two checkpoints. `stop_after` ends early at a step, with a
    checkpoint. Raises `SettingError` if the checkpoint in `out_dir` has other settings,
    `TrainingFolderError` if another process trains there or all checkpoints are damaged.
    """
    if settings.null_prompt_share > 0 and base_null is None:
        raise SettingError("null_prompt_share > 0 needs base_null, the base model's null text")
    given = FrozenModels(base_unet, upgraded_unet, upgraded_null, alphas_cumprod, prediction)
    with locked(Path(out_dir)):
        run = _Run(
            mapper,
            _frozen_on(device, given),
            data=data,
            settings=settings,
            out_dir=Path(out_dir),
            device=torch.device(device),
            base_null=base_null,
        )
        run.resume()
        run.train(stop_after=stop_after, progress=progress)
        return run.result()


def _frozen_on(device: torch.device | str, models: FrozenModels) -> FrozenModels:
    # gradients pass through the upgraded decoder, but none are kept for its weights
    for unet in (models.base_unet, models.upgraded_unet):
        nn.Module.to(unet.requires_grad_(False).eval(), device)
    null = models.upgraded_null
    moved = UpgradedText(
        null.hidden.to(device),
        None if null.pooled is None else null.pooled.to(device),
        None if null.time_ids is None else null.time_ids.to(device),
    )
    return replace(models, upgraded_null=moved, alphas_cumprod=models.alphas_cumprod.to(device))


class _Run:
    """State of one training run."""

    def __init__(
        self,
        mapper: Mapper,
        models: FrozenModels,
        *,
        data: LatentDataset,
        settings: TrainSettings,
        out_dir: Path,
        device: torch.device,
        base_null: Tensor | None,
    ) -> None:
        layout: Any = torch.channels_last  # faster convolutions, equal numbers to rounding
        nn.Module.to(mapper, device)
        nn.Module.to(mapper, memory_format=layout)
        self.mapper = mapper.train().requires_grad_(True)
        self.models, self.data, self.settings = models, data, settings
        self.out_dir, self.device = out_dir, device
        self.base_null = base_null
        self.optimizer = torch.optim.AdamW(
            mapper.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        # the average starts at the initial weights
        self.averages = {n: w.detach().clone() for n, w in mapper.named_parameters()}
        self.step = 0
        self.sums = {"loss": 0.0, "mse": 0.0, "grad_norm": 0.0, "n": 0.0}
        self.last_loss = math.nan
        self.table: tuple[Tensor, Tensor] | None = None
        self.weighting: Weighting = paper_weights

    def resume(self) -> None:
        """Restore the checkpoint of `out_dir`, or measure the typical losses of a new run."""
        found = load_checkpoint(
            self.out_dir, mapper=self.mapper, averages=self.averages, optimizer=self.optimizer
        )
        if found is not None:
            facts, extra = found
            self._check_settings(facts["settings"])
            self.step, self.sums = facts["step"], facts["sums"]
            self.last_loss = facts["last_loss"]
            if "table_losses" in extra:
                self.table = (extra["table_timesteps"], extra["table_losses"])
        elif self.settings.weighting == "typical":
            self.table = self._measure_table()
        # the table is in the checkpoint, so a resumed run weights as before
        if self.table is not None:
            self.weighting = partial(typical_weights, table=self.table)
        self._trim_metrics()

    def _check_settings(self, stored: dict[str, Any]) -> None:
        given = asdict(self.settings)
        free = {"checkpoint_every_steps"}
        differing = [k for k in given if k not in free and stored.get(k) != given[k]]
        if differing:
            text = ", ".join(f"{k} {stored.get(k)} there, {given[k]} here" for k in differing)
            raise SettingError(
                f"{self.out_dir} contains a run with other settings ({text}): choose another "
                "out_dir or the same settings"
            )

    def _measure_table(self) -> tuple[Tensor, Tensor]:
        generator = generator_for(self.settings.seed, TABLE_STREAM)
        indices = torch.randperm(len(self.data), generator=generator)[:N_TABLE_IMAGES]
        latents = self.data.batch(indices).upgraded_latents.to(self.device)
        return typical_losses(self.models, latents, generator=generator)

    def train(self, *, stop_after: int | None, progress: bool) -> None:
        """Take the remaining steps, with a row of metrics and a checkpoint now and then.

        A signal ends it after the step, with a checkpoint.
        """
        settings = self.settings
        last = settings.steps if stop_after is None else min(stop_after, settings.steps)
        per_step = settings.accumulation_steps
        # the order of the data follows from the seed: skip what earlier steps used
        batches = index_batches(
            len(self.data),
            settings.batch_size,
            seed=settings.seed,
            first=self.step * per_step,
        )
        bar = Progress(
            "training the mapper",
            unit="step",
            total=settings.steps,
            done=self.step,
            has_bar=progress,
        )
        started = time.monotonic()
        with watched_interrupts() as interrupts, bar:
            while self.step < last:
                with interrupts.held():  # a step that stopped halfway could not be resumed
                    self._take_step(batches)
                    bar.update()
                    if self.step % settings.log_every_steps == 0 or self.step == settings.steps:
                        self._log(time.monotonic() - started)
                        bar.detail(f"loss {self.last_loss:.4f}")
                    is_due = self.step % settings.checkpoint_every_steps == 0
                    if is_due or self.step == last or interrupts.received:
                        self._save()
                interrupts.check()

    def _take_step(self, batches: Iterator[Tensor]) -> None:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, settings)
        # all randomness of a step follows from (seed, step): a resumed run repeats it
        generator = generator_for(settings.seed, STEP_STREAM, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        # the mean over accumulated batches equals one batch of that many images
        for _ in range(settings.accumulation_steps):
            loss, mse = self._loss(next(batches), generator)
            (loss / settings.accumulation_steps).backward()
            self.sums["loss"] += loss.item() / settings.accumulation_steps
            self.sums["mse"] += mse.item() / settings.accumulation_steps
        # the norm before clipping is logged
        norm = torch.nn.utils.clip_grad_norm_(self.mapper.parameters(), settings.grad_clip)
        self.optimizer.step()
        self.sums["grad_norm"] += float(norm)
        self.sums["n"] += 1
        self.step += 1
        self._average()

    def _loss(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batch = self.data.batch(indices)
        n_images, n_train = len(indices), len(self.models.alphas_cumprod)
        # one timestep for both sides, two noises (equation 4)
        timesteps = stratified_timesteps(n_images, n_train, generator).to(self.device)
        base_noise = torch.randn(batch.base_latents.shape, generator=generator)
        upgraded_noise = torch.randn(batch.upgraded_latents.shape, generator=generator)
        # drawn even where unused, so the option moves no other draw
        dropped = torch.rand(n_images, generator=generator) < self.settings.null_prompt_share
        text = batch.base_text.to(self.device)
        if self.base_null is not None:
            null = self.base_null.to(text).expand_as(text)
            text = torch.where(dropped.to(self.device).view(-1, 1, 1), null, text)
        losses = mapper_losses(
            self.mapper,
            self.models,
            TrainBatch(
                self._placed(batch.base_latents), self._placed(batch.upgraded_latents), text
            ),
            timesteps=timesteps,
            base_noise=self._placed(base_noise),
            upgraded_noise=self._placed(upgraded_noise),
        )
        return (losses * self.weighting(timesteps)).mean(), losses.detach().mean()

    def _placed(self, latents: Tensor) -> Tensor:
        return latents.to(self.device).float().contiguous(memory_format=torch.channels_last)

    def _average(self) -> None:
        """Update the exponential average of the weights (ours)."""
        # a short memory first, (1 + n) / (10 + n), so that the start is forgotten early
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, weight in self.mapper.named_parameters():
                self.averages[name].lerp_(weight, 1 - decay)

    def _log(self, seconds: float) -> None:
        count = max(1.0, self.sums["n"])
        self.last_loss = self.sums["loss"] / count
        row = {
            "step": self.step,
            "images": self.step * self.settings.batch_size * self.settings.accumulation_steps,
            "loss": self.last_loss,
            "mse": self.sums["mse"] / count,
            "grad_norm": self.sums["grad_norm"] / count,
            "learning_rate": learning_rate_at(self.step - 1, self.settings),
            "seconds": round(seconds, 3),
        }
        self.sums = dict.fromkeys(self.sums, 0.0)
        append_line(self.out_dir / "metrics.jsonl", json.dumps(row))

    def _trim_metrics(self) -> None:
        """Drop the rows of steps after the checkpoint, which are taken again."""
        path = self.out_dir / "metrics.jsonl"
        if not path.exists():
            return
        # a killed run may leave half a row
        rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [row for row in rows if 0 < _step_of(row) <= self.step]
        atomic_write(path, "".join(f"{row}\n" for row in kept))

    def _save(self) -> None:
        extra = {}
        if self.table is not None:
            extra = {"table_timesteps": self.table[0], "table_losses": self.table[1]}
        save_checkpoint(
            self.out_dir,
            mapper=self.mapper,
            averages=self.averages,
            optimizer=self.optimizer,
            extra=extra,
            facts={
                "step": self.step,
                "sums": self.sums,
                "last_loss": self.last_loss,
                "settings": asdict(self.settings),
            },
        )

    def result(self) -> TrainResult:
        """Write and return the averaged mapper."""
        # the average is the result; the last weights stay in the checkpoint
        averaged = copy.deepcopy(self.mapper).eval().requires_grad_(False)
        averaged.load_state_dict(self.averages)
        averaged.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        path = self.out_dir / "mapper"
        with replacing(path) as draft:
            averaged.save_pretrained(draft)
        return TrainResult(averaged, path, self.step, self.last_loss)


def _step_of(row: str) -> int:
    """Return the step of a row of metrics.jsonl, 0 for a row that is damaged."""
    try:
        step = parse_json(row, name="metrics.jsonl")["step"]
    except (UserError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0
