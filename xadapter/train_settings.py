"""Settings of a training run of the mapper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from xadapter.errors import SettingError

WeightingName = Literal["paper", "typical", "min-snr", "edm2"]
ScheduleName = Literal["cosine", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]
UpgradedTextName = Literal["null", "prompt"]
# what may differ where a run goes on: the steps do not depend on it
_FREE = {"checkpoint_every_steps", "validate_every_steps", "gradient_checkpointing"}
_BATCH = ("batch_size", "accumulation_steps")


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run; `steps` are optimizer steps of batch_size x accumulation_steps images.

    These images are shared by all processes, so no setting depends on the number of processes.
    `weighting` is the objective (`xadapter.objectives`), `timestep_range` with `range_share` the
    part of the schedule, 0 clean to 1 noise, that this share of the images is drawn from. With
    `upgraded_text` "prompt" the upgraded model reads the prompts too. `null_prompt_share` of the
    base prompts become the null text. `ema_decay` 0 is no averaging, `grad_clip` None no clipping.
    `precision` is that of both UNets and the mapper's arithmetic; its weights stay float32. Raises
    `SettingError` for counts below 1, shares outside [0, 1] and unknown names.
    """

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.995
    grad_clip: float | None = 1.0
    accumulation_steps: int = 1
    warmup_share: float = 0.03
    weighting: WeightingName = "typical"
    seed: int = 0
    checkpoint_every_steps: int = 500
    log_every_steps: int = 50
    null_prompt_share: float = 0.0
    schedule: ScheduleName = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    min_snr_gamma: float = 5.0
    timestep_range: tuple[float, float] = (0.0, 1.0)
    range_share: float = 1.0
    upgraded_text: UpgradedTextName = "null"
    precision: Precision = "float32"
    gradient_checkpointing: bool = False
    validate_every_steps: int | None = None

    def __post_init__(self) -> None:
        counts = ("steps", *_BATCH, "checkpoint_every_steps", "log_every_steps")
        for name in (*counts, "validate_every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}")
        for name in ("null_prompt_share", "range_share", "warmup_share", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                known = " or ".join(map(repr, choices))
                raise SettingError(f"{name} is {known}, got {value!r}")
        low, high = self.timestep_range
        if not 0 <= low < high <= 1:
            raise SettingError(
                f"timestep_range must be two shares of the schedule, 0 <= low < high <= 1, got "
                f"{low:g} and {high:g}"
            )
        if self.min_snr_gamma <= 0:
            raise SettingError(f"min_snr_gamma must be above 0, got {self.min_snr_gamma:g}")

    @property
    def images_per_step(self) -> int:
        """Images of an optimizer step, of all processes together."""
        return self.batch_size * self.accumulation_steps

    def validates_after(self, step: int) -> bool:
        """Return whether a step is followed by a validation: every n steps, and after the last."""
        every = self.validate_every_steps
        return every is not None and step > 0 and (step % every == 0 or step == self.steps)

    def differing(self, stored: Mapping[str, Any]) -> list[str]:
        """Return what differs from stored settings and would change the steps, one text each."""
        defaults = {field.name: field.default for field in fields(self)}  # of earlier versions
        there = {name: stored.get(name, default) for name, default in defaults.items()}
        here = asdict(self)
        names = [name for name in here if name not in _FREE and name not in _BATCH]
        found = [
            f"{name} {there[name]} there, {here[name]} here"
            for name in names
            if _plain(there[name]) != _plain(here[name])
        ]
        n_there = there["batch_size"] * there["accumulation_steps"]
        if n_there != self.images_per_step:
            found.append(f"{n_there} images a step there, {self.images_per_step} here")
        return found


_CHOICES: dict[str, tuple[str, ...]] = {
    "weighting": get_args(WeightingName),
    "schedule": get_args(ScheduleName),
    "precision": get_args(Precision),
    "upgraded_text": get_args(UpgradedTextName),
}


def _plain(value: Any) -> Any:
    """Return a value as JSON keeps it."""
    return list(value) if isinstance(value, tuple) else value


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """Return the learning rate of step 0, 1, ...: linear warm-up, then half a cosine to 0.

    The schedule "constant" keeps the rate after the warm-up.
    """
    n_warmup = max(1, round(settings.warmup_share * settings.steps))
    if step < n_warmup:
        return settings.learning_rate * (step + 1) / n_warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    share = (step - n_warmup) / max(1, settings.steps - n_warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))
