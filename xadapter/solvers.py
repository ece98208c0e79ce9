"""Solvers: diffusers schedulers built for one pass, and the released code's variant of one.

Sources: DPM-Solver++ (arXiv 2211.01095) as in diffusers; `ReleasedSolver` adds what the released
X-Adapter code did with diffusers 0.20 (the step index looked up on every call, index 0 wrapping to
the last grid timestep, a final step to training step 0).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_parallel import DDIMParallelScheduler
from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep_inverse import (
    DPMSolverMultistepInverseScheduler,
)
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_discrete import KDPM2DiscreteScheduler
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from xadapter.errors import SettingError


class Solver(Protocol):
    """The part of a diffusers scheduler that sampling uses."""

    timesteps: Tensor
    order: int

    @property
    def config(self) -> Any: ...

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Any: ...

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor: ...

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor: ...


SolverFactory = Callable[[Solver, int, "torch.device | str"], Any]


def fresh_solver(scheduler: Solver, n_steps: int, device: torch.device | str) -> Any:
    """Build a solver of the same class and configuration, without history, on its n-step grid."""
    solver: Any = type(scheduler).from_config(scheduler.config)  # type: ignore[attr-defined]
    solver.set_timesteps(n_steps, device=device)
    return solver


class ReleasedSolver(DPMSolverMultistepScheduler):
    """DPM-Solver++ that finds its index from the timestep on every call and keeps its history."""

    def step(  # noqa: PLR0917  # the signature of diffusers
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """One step from `timestep`, at whatever grid index that is (the last if on none).

        At index 0 with history, the "previous" grid point wraps to the last grid timestep.
        """
        index = self.index_for_timestep(timestep)
        self._step_index = index
        final = self.sigmas[-1].clone()
        if index == 0 and self.lower_order_nums > 0:
            self.sigmas[-1] = self.sigmas[-2]
        try:
            return super().step(
                model_output, timestep, sample, generator, variance_noise, return_dict
            )
        finally:
            self.sigmas[-1] = final


def released_solver(scheduler: Solver, n_steps: int, device: torch.device | str) -> Any:
    """Build the released code's solver from any scheduler's betas and prediction type."""
    solver: Any = ReleasedSolver.from_config(
        dict(scheduler.config),
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="leading",
        final_sigmas_type="sigma_min",
        steps_offset=1,
    )
    solver.set_timesteps(n_steps, device=device)
    return solver


def without_history(_solver: Any) -> Any:
    """Hand nothing of stage 1's solver to stage 2: it builds its own."""
    return None


def with_history(solver: Any) -> Any:
    """Hand a copy of stage 1's solver, history included, to stage 2."""
    return copy.deepcopy(solver)


@dataclass(frozen=True)
class Trajectory:
    """A solver, the timesteps it walks, and where they lie in the schedule of `n_steps` steps.

    `first_step` counts the steps taken before the walk; ControlNet windows are read at
    (first_step + i) / n_steps. Stochastic solvers draw from `generators`, one per image.
    """

    solver: Any
    timesteps: Tensor
    n_steps: int
    first_step: int = 0
    generators: Sequence[torch.Generator] | None = None

    def step(self, prediction_bchw: Tensor, timestep: Tensor, latents_bchw: Tensor) -> Tensor:
        """One solver step, [b, c, h, w] float32."""
        extra: dict[str, Any] = {}
        if self.generators is not None:
            extra["generator"] = list(self.generators)
        return self.solver.step(
            prediction_bchw, timestep, latents_bchw, return_dict=False, **extra
        )[0]


def trajectory_from(solver: Any, n_steps: int, *, first_step: int = 0) -> Trajectory:
    """Walk a fresh solver's grid from step `first_step` to its end.

    Raises `SettingError` for a later start of a solver that cannot begin there.
    """
    if first_step and _steps_as(type(solver), _LATE_START_BREAKS):
        raise _unusable(type(solver), _LATE_START)
    begin = first_step * solver.order
    if hasattr(solver, "set_begin_index"):
        solver.set_begin_index(begin)
    return Trajectory(solver, solver.timesteps[begin:], n_steps, first_step)


def with_generators(walk: Trajectory, generators: Sequence[torch.Generator] | None) -> Trajectory:
    """Give a stochastic solver its generators; raise `SettingError` where it has none."""
    solver_class = type(walk.solver)
    if not is_stochastic(walk.solver):
        return walk
    if not _takes_generator(solver_class):
        raise _unusable(solver_class, _UNSEEDED)
    if generators is None:
        raise SettingError(
            f"{solver_class.__name__} draws noise in every step: pass step_generators, one "
            "per image, or choose a deterministic solver"
        )
    return replace(walk, generators=generators)


_DPM_SOLVERS = (DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, ReleasedSolver)
_LATE_START_BREAKS = (LMSDiscreteScheduler, PNDMScheduler)
_DETERMINISTIC = (
    DDIMScheduler,  # eta is 0 as called here
    DDIMParallelScheduler,
    EulerDiscreteScheduler,  # s_churn is 0 as called here
    DEISMultistepScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    UniPCMultistepScheduler,
    *_LATE_START_BREAKS,
)
_UNSEEDED = "is not known to be deterministic, and its step takes no generator"
_LATE_START = "needs a history from the first timestep on, and stage 2 starts in the middle"


def is_stochastic(solver: Any) -> bool:
    """Return whether a step may draw noise: true unless its class and options are known."""
    if _steps_as(type(solver), _DPM_SOLVERS):
        return str(solver.config.algorithm_type).startswith("sde")
    return not _steps_as(type(solver), _DETERMINISTIC)


def _steps_as(solver_class: Any, known_classes: Sequence[Any]) -> bool:
    return any(solver_class.step is known.step for known in known_classes)


def _takes_generator(solver_class: Any) -> bool:
    return "generator" in inspect.signature(solver_class.step).parameters


def _unusable(solver_class: Any, reason: str) -> SettingError:
    return SettingError(
        f"{solver_class.__name__} cannot be used: it {reason}; choose another scheduler, for "
        "example DPMSolverMultistepScheduler"
    )


def _obstacles(solver_class: Any) -> Iterator[str]:
    """Yield why a class cannot sample both models; what is checked later relies on the former."""
    if (libraries := getattr(solver_class, "_backends", None)) is not None:
        yield f"needs {', '.join(libraries)}, not all of which are installed"
    needed = ("set_timesteps", "scale_model_input", "step", "add_noise", "from_config")
    if lacking := [name for name in needed if name not in dir(solver_class)]:
        yield f"has no {' and no '.join(lacking)}"
    settings = inspect.signature(solver_class).parameters
    if lacking := [name for name in ("beta_start", "prediction_type") if name not in settings]:
        yield f"does not read the models' noise schedule and prediction ({', '.join(lacking)})"
    if "snr_shift_scale" in settings:
        yield "shifts the noise schedule that the models were trained with"
    step = list(inspect.signature(solver_class.step).parameters)[1:4]
    if step != ["model_output", "timestep", "sample"]:
        yield f"steps from ({', '.join(step)}), not from (model_output, timestep, sample)"
    if issubclass(solver_class, DPMSolverMultistepInverseScheduler):
        yield "adds noise from step to step instead of removing it"
    if _steps_as(solver_class, _LATE_START_BREAKS):
        yield _LATE_START
    if not (_takes_generator(solver_class) or _steps_as(solver_class, _DETERMINISTIC)):
        yield _UNSEEDED


def noised(solver: Any, latents_bchw: Tensor, noise_bchw: Tensor, timestep: Tensor) -> Tensor:
    """Noise clean latents to one grid timestep, in the solver's own scaling."""
    timesteps = timestep.reshape(1).repeat(latents_bchw.shape[0])
    return solver.add_noise(latents_bchw, noise_bchw, timesteps)


def start_scale(solver: Any) -> float:
    """Standard deviation of the latents that the solver starts from (1 in variance-preserving)."""
    return float(solver.init_noise_sigma)


def input_scale(solver: Any, timestep: Tensor, *, like: Tensor) -> float:
    """Factor from the solver's latents to variance-preserving ones, at a grid timestep."""
    probe = copy.deepcopy(solver)
    return float(probe.scale_model_input(torch.ones(1, device=like.device), timestep))


def shared_grid(base: Tensor, upgraded: Tensor) -> None:
    """Raise `SettingError`, showing both, unless the two grids are one."""
    if base.shape != upgraded.shape or not torch.equal(base.cpu(), upgraded.cpu()):
        raise SettingError(
            "both models must walk the same timesteps: the base scheduler gives "
            f"{base.tolist()[:4]}..., the upgraded one {upgraded.tolist()[:4]}...; build both from "
            "one configuration (xadapter.shared_schedulers)"
        )


# What a model was trained with: never shared between the two sides.
_MODELS_OWN = frozenset(
    {
        *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
        *("prediction_type", "rescale_betas_zero_snr", "sigma_min", "sigma_max", "timestep_type"),
    }
)


def shared_schedulers(
    base: Solver, upgraded: Solver, *, solver_class: Any = None
) -> tuple[Any, Any]:
    """Build schedulers of one class on one grid: each side's betas and prediction type.

    `solver_class` is a class, or a scheduler whose class and options both sides get; by default
    the upgraded model's scheduler. A class takes spacing and offset from the upgraded model
    ("leading" where its file has none) and other options from each side's file. Raises
    `SettingError`, with the reason, for a class that cannot sample both models.
    """
    template: Any = upgraded if solver_class is None else solver_class
    own_class: Any = template if isinstance(template, type) else type(template)
    if (obstacle := next(_obstacles(own_class), None)) is not None:
        raise _unusable(own_class, obstacle)
    settings = inspect.signature(own_class).parameters.keys()
    shared: dict[str, Any] = {
        "timestep_spacing": upgraded.config.get("timestep_spacing") or "leading",
        "steps_offset": upgraded.config.get("steps_offset", 1),
        "clip_sample": False,  # latents are not bounded by 1
    }
    if not isinstance(template, type):
        options = template.config
        shared = {k: options[k] for k in options if k not in _MODELS_OWN} | {"clip_sample": False}
    shared = {name: value for name, value in shared.items() if name in settings}
    first, second = (own_class.from_config(dict(s.config), **shared) for s in (base, upgraded))
    return first, second
