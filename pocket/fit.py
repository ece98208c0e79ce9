"""One training loop for every pocket network: AdamW, cosine schedule, EMA, exact resume."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from plugins_manifest.files import append_line, replacing
from plugins_manifest.progress import Progress


@dataclass(frozen=True)
class FitSettings:
    """Settings of one training; the loss function receives `batch_size` and a generator.

    The cosine of the learning rate ends after `schedule_steps`, by default with the training.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    weight_decay: float = 1e-2
    ema_decay: float = 0.995
    grad_clip: float = 1.0
    warmup_share: float = 0.03
    log_every_steps: int = 50
    checkpoint_every_steps: int = 250
    schedule_steps: int | None = None


LossFunction = Callable[[int, torch.Generator], Tensor]


class Ema:
    """Exponential moving average of the trainable parameters, with a short memory at the start."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters = parameters
        self.decay = decay
        self.values = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the parameters after optimizer step number `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Load the averages into the network within the context."""
        saved = [p.detach().clone() for p in self.parameters]
        self.copy_to()
        try:
            yield
        finally:
            for p, value in zip(self.parameters, saved, strict=True):
                p.data.copy_(value)

    def copy_to(self) -> None:
        """Load the averages into the network permanently."""
        for p, value in zip(self.parameters, self.values, strict=True):
            p.data.copy_(value)


def learning_rate_at(step: int, settings: FitSettings) -> float:
    """Return the learning rate: linear warm-up, then a cosine down to 3 % of the peak."""
    n_steps = settings.schedule_steps or settings.steps
    share = step / n_steps
    warmup = min(1.0, (step + 1) / max(1.0, n_steps * settings.warmup_share))
    return settings.learning_rate * warmup * (0.515 + 0.485 * math.cos(math.pi * share))


def fit(
    module: nn.Module,
    loss_at: LossFunction,
    *,
    settings: FitSettings,
    out_dir: Path,
    what: str | None = None,
    has_bar: bool = True,
) -> float:
    """Train the module's trainable parameters in place; return the mean loss of the last tenth.

    `what` is the line of progress, by default with the folder's name.

    Resumes from `out_dir/checkpoint.pt`; every batch depends on (seed, step) alone, so a resumed
    training equals an uninterrupted one. Leaves the EMA weights in the module.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    ema = Ema(parameters, settings.ema_decay)
    step, losses = _resume(out_dir / "checkpoint.pt", parameters, optimizer, ema)
    started = time.monotonic()
    what = what or f"training {out_dir.name}"
    bar = Progress(what, unit="step", total=settings.steps, done=step, has_bar=has_bar)
    with bar:
        while step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, settings)
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
            loss = loss_at(settings.batch_size, generator)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, settings.grad_clip)
            optimizer.step()
            step += 1
            ema.update(step)
            losses.append(loss.item())
            bar.update()
            if step % settings.log_every_steps == 0:
                _log(out_dir, step, losses[-settings.log_every_steps :], time.monotonic() - started)
            if step % settings.checkpoint_every_steps == 0 or step == settings.steps:
                _checkpoint(
                    out_dir / "checkpoint.pt",
                    step,
                    losses=losses,
                    parameters=parameters,
                    optimizer=optimizer,
                    ema=ema,
                )
    ema.copy_to()
    tail = losses[-max(1, settings.steps // 10) :]
    return sum(tail) / len(tail)


def _log(out_dir: Path, step: int, losses: list[float], seconds: float) -> None:
    row = {"step": step, "loss": round(sum(losses) / len(losses), 6), "seconds": round(seconds, 1)}
    append_line(out_dir / "metrics.jsonl", json.dumps(row))


def _checkpoint(
    path: Path,
    step: int,
    *,
    losses: list[float],
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    ema: Ema,
) -> None:
    state = {
        "step": step,
        "losses": losses,
        "parameters": [p.detach() for p in parameters],
        "optimizer": optimizer.state_dict(),
        "ema": ema.values,
    }
    with replacing(path) as draft:
        torch.save(state, draft)


def _resume(
    path: Path, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, ema: Ema
) -> tuple[int, list[float]]:
    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True)
    for p, value, average, saved in zip(
        parameters, state["parameters"], ema.values, state["ema"], strict=True
    ):
        p.data.copy_(value)
        average.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["losses"]
