"""Settings of a training run of the mapper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from xadapter.errors import SettingError


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run; `steps` are optimizer steps of batch_size x accumulation_steps images.

    `weighting` "paper" is the plain loss, "typical" divides by the upgraded model's own loss at
    each timestep. `null_prompt_share` of the base prompts become the null text. Raises
    `SettingError` for counts below 1 and unknown weightings.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.995
    grad_clip: float = 1.0
    accumulation_steps: int = 1
    warmup_share: float = 0.03
    weighting: Literal["paper", "typical"] = "typical"
    seed: int = 0
    checkpoint_every_steps: int = 500
    log_every_steps: int = 50
    null_prompt_share: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "accumulation_steps",
            "checkpoint_every_steps",
            "log_every_steps",
        ):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.weighting not in ("paper", "typical"):
            raise SettingError(f"weighting is 'paper' or 'typical', got {self.weighting!r}")


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Return the learning rate of step 0, 1, ...: linear warm-up, then half a cosine to 0."""
    n_warmup = max(1, round(settings.warmup_share * settings.steps))
    if step < n_warmup:
        return settings.learning_rate * (step + 1) / n_warmup
    share = (step - n_warmup) / max(1, settings.steps - n_warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))
