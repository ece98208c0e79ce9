"""Presets: the choices that differ between a sound X-Adapter and the released code, as values.

`docs/method.md` explains each value and how far it moves a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from xadapter.errors import SettingError
from xadapter.noise import SOUND_ORDER, Draw
from xadapter.solvers import (
    SolverFactory,
    fresh_solver,
    released_solver,
    with_history,
    without_history,
)
from xadapter.vae import Resize, resize_8bit, resize_float


def rounded_steps(n_steps: int, t0: float) -> int:
    """M = max(1, round(N t0)): the steps of stage 2 (ours; the released code truncates)."""
    _check_t0(t0)
    return max(1, round(n_steps * t0))


def truncated_steps(n_steps: int, t0: float) -> int:
    """M = int(N t0), as released; raises `SettingError` where that leaves no step."""
    _check_t0(t0)
    n_last = min(int(n_steps * t0), n_steps)
    if n_last == 0:
        raise SettingError(
            f"t0 = {t0} of {n_steps} steps is less than one step: use t0 >= {1 / n_steps:.3g}, "
            "more steps, or the preset 'sound'"
        )
    return n_last


def _check_t0(t0: float) -> None:
    if not 0.0 < t0 <= 1.0:
        raise SettingError(f"t0 is the share of the schedule in stage 2: 0 < t0 <= 1, got {t0}")


def tail_of(timesteps: Tensor, n_last: int, order: int) -> Tensor:
    """The last steps of a grid: the ones the upgraded model walks."""
    return timesteps[(len_in_steps(timesteps, order) - n_last) * order :]


def head_of(timesteps: Tensor, n_last: int, order: int) -> Tensor:
    """The first steps of a grid: where the released LoRA pipeline restarts its base model."""
    return timesteps[: len(tail_of(timesteps, n_last, order))]


def len_in_steps(timesteps: Tensor, order: int) -> int:
    """Number of steps of a grid whose solver takes `order` evaluations a step."""
    return -(-len(timesteps) // order)


@dataclass(frozen=True)
class Preset:
    """The values that the sampler takes from a preset.

    `solver` builds a solver for a pass; `carry` says what stage 2 gets of stage 1's base solver
    (None: nothing); `base_steps` picks the base timesteps of stage 2; `n_last_steps` turns t0 into
    M; `resize` is the bridge's; `window` tells whether ControlNet windows go on counting in
    stage 2; `draw_order` is the order of random draws per image.
    """

    name: str
    solver: SolverFactory
    carry: Callable[[Any], Any]
    base_steps: Callable[[Tensor, int, int], Tensor]
    n_last_steps: Callable[[int, float], int]
    resize: Resize
    window: Literal["continued", "restarted"]
    draw_order: tuple[Draw, ...]


CORRECTED = Preset(
    name="sound",
    solver=fresh_solver,
    carry=without_history,
    base_steps=tail_of,
    n_last_steps=rounded_steps,
    resize=resize_float,
    window="continued",
    draw_order=SOUND_ORDER,
)
RELEASED_CONTROLNET = Preset(
    name="released-controlnet",
    solver=released_solver,
    carry=with_history,
    base_steps=tail_of,
    n_last_steps=truncated_steps,
    resize=resize_8bit,
    window="restarted",
    draw_order=("discarded", "base_start", "upgraded_posterior", "upgraded_noise", "base_noise"),
)
RELEASED_LORA = replace(RELEASED_CONTROLNET, name="released-lora", base_steps=head_of)
RELEASED_TILE = replace(
    RELEASED_CONTROLNET,
    name="released-tile",
    draw_order=(
        "discarded",
        "source_posterior",
        "base_start",
        "upgraded_posterior",
        "upgraded_noise",
        "base_noise",
    ),
)
PRESETS: Mapping[str, Preset] = {
    preset.name: preset for preset in (CORRECTED, RELEASED_LORA, RELEASED_CONTROLNET, RELEASED_TILE)
}


def find_preset(name: str, *, has_control: bool = False, has_source: bool = False) -> Preset:
    """Look a preset up; "released" picks the released pipeline that fits the inputs."""
    if name == "released":
        kind = "tile" if has_source else "controlnet" if has_control else "lora"
        name = f"released-{kind}"
    if name not in PRESETS:
        known = ", ".join(["released", *PRESETS])
        raise SettingError(f"there is no preset {name!r}; known: {known}")
    return PRESETS[name]
