"""Solvers: diffusers schedulers built for one pass, and the released code's variant of one.

Sources: DPM-Solver++ (arXiv 2211.01095, algorithm 2) as in diffusers; `ReleasedSolver` adds what
the released X-Adapter code did with diffusers 0.20 (the step index looked up on every call, index 0
wrapping to the last grid timestep, a final step to training step 0).
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers import (
    DDIMParallelScheduler,
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from xadapter.errors import SettingError
from xadapter.flow import flow_solver, is_flow


class Solver(Protocol):
    """The part of a diffusers scheduler that sampling uses, once its timesteps are set."""

    timesteps: Tensor
    order: int

    @property
    def config(self) -> Any: ...

    @property
    def init_noise_sigma(self) -> float | Tensor: ...

    @classmethod
    def from_config(cls, config: Any, **options: Any) -> Any: ...

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor: ...

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *, return_dict: bool
    ) -> Any: ...

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor: ...


Scheduler = Solver | FlowMatchEulerDiscreteScheduler  # as a model's file has it
SolverFactory = Callable[[Solver, int, "torch.device | str"], Solver]


def fresh_solver(scheduler: Solver, n_steps: int, device: torch.device | str) -> Solver:
    """Build a solver of the same class and configuration, without history, on its n-step grid."""
    solver = type(scheduler).from_config(scheduler.config)
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
        """Take one step from `timestep`, at its grid index (the last index if on none).

        At index 0 with history, the "previous" grid point wraps to the last grid timestep.
        """
        # diffusers 0.20 kept no counter; diffusers today would go on counting from stage 1
        index = self.index_for_timestep(timestep)
        self._step_index = index
        # second order reads sigmas[index - 1]: at index 0 that is the final sigma in this version
        # and was the last grid timestep's in 0.20
        final = self.sigmas[-1].clone()
        if index == 0 and self.lower_order_nums > 0:
            self.sigmas[-1] = self.sigmas[-2]
        try:
            return super().step(
                model_output, timestep, sample, generator, variance_noise, return_dict
            )
        finally:
            self.sigmas[-1] = final


def released_solver(scheduler: Solver, n_steps: int, device: torch.device | str) -> Solver:
    """Build the released code's solver from any scheduler's betas and prediction type."""
    solver: Any = ReleasedSolver.from_config(
        dict(scheduler.config),
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="leading",
        final_sigmas_type="sigma_min",  # the last step ends at training step 0, with its noise
        steps_offset=1,
    )
    solver.set_timesteps(n_steps, device=device)
    return solver


def without_history(_solver: Solver) -> None:
    """Hand nothing of stage 1's solver to stage 2, which builds its own."""


def with_history(solver: Solver) -> Solver:
    """Hand a copy of stage 1's solver, history included, to stage 2."""
    return copy.deepcopy(solver)


@dataclass(frozen=True)
class Trajectory:
    """A solver and the timesteps that it visits, placed in a schedule of `n_steps` steps.

    `first_step` counts the steps taken before; ControlNet windows are read at
    (first_step + i) / n_steps. Stochastic solvers draw from `generators`, one per image.
    """

    solver: Solver
    timesteps: Tensor
    n_steps: int
    first_step: int = 0
    generators: Sequence[torch.Generator] | None = None

    def step(self, prediction_bchw: Tensor, timestep: Tensor, latents_bchw: Tensor) -> Tensor:
        """Return the latents [b, c, h, w] float32 after one solver step."""
        extra: dict[str, Any] = {}
        if self.generators is not None:  # many solvers take no such argument
            extra["generator"] = list(self.generators)
        return self.solver.step(
            prediction_bchw, timestep, latents_bchw, return_dict=False, **extra
        )[0]


def trajectory_from(solver: Solver, n_steps: int, *, first_step: int = 0) -> Trajectory:
    """Start a fresh solver at step `first_step` of its grid, to run to the end.

    Raises `SettingError` for a later start of a solver that cannot begin there.
    """
    if first_step and _steps_as(type(solver), _LATE_START_BREAKS):
        raise _unusable(type(solver), _LATE_START)
    # a solver of order k (Heun: 2) lists k model calls per step
    begin = first_step * solver.order
    # without it, diffusers searches the index by the timestep, which some grids hold twice
    if (set_begin_index := getattr(solver, "set_begin_index", None)) is not None:
        set_begin_index(begin)
    return Trajectory(solver, solver.timesteps[begin:], n_steps, first_step)


def with_generators(
    trajectory: Trajectory, generators: Sequence[torch.Generator] | None
) -> Trajectory:
    """Give a stochastic solver its generators; raise `SettingError` where they are missing."""
    solver_class = type(trajectory.solver)
    if not is_stochastic(trajectory.solver):
        return trajectory
    if not _takes_generator(solver_class):
        raise _unusable(solver_class, _UNSEEDED)
    if generators is None:
        raise SettingError(
            f"{solver_class.__name__} draws noise in every step: pass step_generators, one "
            "per image, or choose a deterministic solver"
        )
    return replace(trajectory, generators=generators)


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


def is_stochastic(solver: Solver) -> bool:
    """Return whether a step may draw noise: true unless its class and options are known."""
    if _steps_as(type(solver), (FlowMatchEulerDiscreteScheduler,)):
        return bool(solver.config.stochastic_sampling)
    if _steps_as(type(solver), _DPM_SOLVERS):
        return str(solver.config.algorithm_type).startswith("sde")
    return not _steps_as(type(solver), _DETERMINISTIC)


def _steps_as(solver_class: type[Solver], known_classes: Sequence[Any]) -> bool:
    # the very function: a subclass with a step of its own is another solver
    return any(solver_class.step is known.step for known in known_classes)


def _takes_generator(solver_class: type[Solver]) -> bool:
    return "generator" in inspect.signature(solver_class.step).parameters


def _unusable(solver_class: type[Solver], reason: str) -> SettingError:
    return SettingError(
        f"{solver_class.__name__} cannot be used: it {reason}; choose another scheduler, for "
        "example DPMSolverMultistepScheduler"
    )


def _obstacles(solver_class: type[Solver]) -> Iterator[str]:
    """Yield why a class cannot sample both models; later checks rely on the earlier ones."""
    # diffusers replaces classes whose libraries are missing by placeholders
    if (libraries := getattr(solver_class, "_backends", None)) is not None:
        yield f"needs {', '.join(libraries)}, not all of which are installed"
    needed = ("set_timesteps", "scale_model_input", "step", "add_noise", "from_config")
    if lacking := [name for name in needed if name not in dir(solver_class)]:
        yield f"has no {' and no '.join(lacking)}"
    # flow matching, EDM, discrete latents: other noise schedules than the models'
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
    # its noise would come from torch's global generator
    if not (_takes_generator(solver_class) or _steps_as(solver_class, _DETERMINISTIC)):
        yield _UNSEEDED


def noised(solver: Solver, latents_bchw: Tensor, noise_bchw: Tensor, timestep: Tensor) -> Tensor:
    """Add noise to clean latents up to one grid timestep, in the solver's own scaling."""
    timesteps = timestep.reshape(1).repeat(latents_bchw.shape[0])
    return solver.add_noise(latents_bchw, noise_bchw, timesteps)


@dataclass(frozen=True)
class Clean:
    """Converts a model's prediction at one timestep to clean latents (x0), and back.

    A solver's latents are `signal` x0 + `noise` e, in its own scaling; those of diffusion are
    `factor` times as large. Epsilon and v-prediction: arXiv 2202.00512, section 4 and appendix D;
    the velocity of a flow: `xadapter.flow`.
    """

    signal: float
    noise: float
    factor: float
    predicts_v: bool
    predicts_velocity: bool = False

    def of(self, prediction: Tensor, latents: Tensor) -> Tensor:
        """Return the clean latents [b, c, h, w] that a prediction stands for."""
        if self.predicts_velocity:  # x0 = x - s (e - x0)
            return latents - self.noise * prediction
        if self.predicts_v:  # x0 = alpha z - sigma v
            alpha, sigma = self.signal * self.factor, self.noise * self.factor
            return alpha * self.factor * latents - sigma * prediction
        return (latents - self.noise * prediction) / self.signal

    def prediction(self, clean: Tensor, latents: Tensor) -> Tensor:
        """Return the prediction that stands for clean latents: the inverse of `of`."""
        if self.predicts_velocity:
            return (latents - clean) / self.noise
        if self.predicts_v:
            alpha, sigma = self.signal * self.factor, self.noise * self.factor
            return (alpha * self.factor * latents - clean) / sigma
        return (latents - self.signal * clean) / self.noise


def clean_at(solver: Solver, timestep: Tensor) -> Clean:
    """Return the conversion at the timestep that a solver takes next."""
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    # what the solver itself adds to a signal, and to noise: exact for every grid
    signal = float(noised(solver, one, none, timestep.cpu()))
    noise = float(noised(solver, none, one, timestep.cpu()))
    predicts_v = solver.config.get("prediction_type") == "v_prediction"
    return Clean(signal, noise, 1.0 / math.hypot(signal, noise), predicts_v, is_flow(solver))


def start_scale(solver: Solver) -> float:
    """Return the standard deviation of the first latents (1 where variance-preserving)."""
    return float(solver.init_noise_sigma)


def input_scale(solver: Solver, timestep: Tensor, *, like: Tensor) -> float:
    """Return the factor from the solver's latents to variance-preserving ones at a timestep.

    It is 1 for most solvers, and sqrt(abar) for those that keep z / sqrt(abar) (Euler, Heun).
    """
    probe = copy.deepcopy(solver)  # `scale_model_input` moves the step index of some solvers
    return float(probe.scale_model_input(torch.ones(1, device=like.device), timestep))


def shared_grid(base: Tensor, upgraded: Tensor) -> None:
    """Raise `SettingError` with both grids unless they hold the same timesteps."""
    if base.shape != upgraded.shape or not torch.equal(base.cpu(), upgraded.cpu()):
        raise SettingError(
            "both models must take the same timesteps: the base scheduler gives "
            f"{base.tolist()[:4]}..., the upgraded one {upgraded.tolist()[:4]}...; build both from "
            "one configuration (xadapter.shared_schedulers)"
        )


def paired_grids(base: Trajectory, upgraded: Trajectory) -> None:
    """Raise `SettingError` unless two models can take their steps in pairs.

    Two models of diffusion must be at the same timesteps. A flow model has noise levels of its own:
    it takes as many steps, each beside the base model's step at the same share of the schedule.
    """
    if not (is_flow(base.solver) or is_flow(upgraded.solver)):
        shared_grid(base.timesteps, upgraded.timesteps)
    elif len(base.timesteps) != len(upgraded.timesteps):
        raise SettingError(
            f"a flow model takes one call a step, {type(base.solver).__name__} does not "
            f"({len(upgraded.timesteps)} and {len(base.timesteps)} calls): choose a sampler of one "
            "call a step, for example DPMSolverMultistepScheduler"
        )


# What a model was trained with: never shared between the two sides.
_MODELS_OWN = frozenset(
    {
        *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
        *("prediction_type", "rescale_betas_zero_snr", "sigma_min", "sigma_max", "timestep_type"),
    }
)


def shared_schedulers(
    base: Scheduler, upgraded: Scheduler, *, solver_class: Solver | type[Solver] | None = None
) -> tuple[Solver, Solver]:
    """Build schedulers of one class on one grid, with each side's betas and prediction type.

    `solver_class` is a class, or a scheduler whose class and options both sides get; by default
    the upgraded model's scheduler. A class takes spacing and offset from the upgraded model
    ("leading" where its file has none) and other options from each side's file. A flow model keeps
    the solver and the noise levels of its own file, and the class is the other side's alone. Raises
    `SettingError`, with the reason, for a class that cannot sample both models.

    >>> from diffusers import EulerDiscreteScheduler, PNDMScheduler
    >>> base = PNDMScheduler(beta_start=0.00085, beta_end=0.012)
    >>> upgraded = EulerDiscreteScheduler(prediction_type="v_prediction")
    >>> first, second = shared_schedulers(base, upgraded)
    >>> type(first).__name__, first.config.beta_end, second.config.prediction_type
    ('EulerDiscreteScheduler', 0.012, 'v_prediction')
    """
    if isinstance(base, FlowMatchEulerDiscreteScheduler) or isinstance(
        upgraded, FlowMatchEulerDiscreteScheduler
    ):
        first, second = (
            flow_solver(side)
            if isinstance(side, FlowMatchEulerDiscreteScheduler)
            else shared_schedulers(side, side, solver_class=solver_class)[0]
            for side in (base, upgraded)
        )
        return first, second
    template = upgraded if solver_class is None else solver_class
    own_class = template if isinstance(template, type) else type(template)
    if (obstacle := next(_obstacles(own_class), None)) is not None:
        raise _unusable(own_class, obstacle)
    shared: dict[str, Any] = {
        "timestep_spacing": upgraded.config.get("timestep_spacing") or "leading",
        "steps_offset": upgraded.config.get("steps_offset", 1),
    }
    if not isinstance(template, type):
        shared = {k: v for k, v in template.config.items() if k not in _MODELS_OWN}
    shared["clip_sample"] = False  # latents are not bounded by 1
    settings = inspect.signature(own_class).parameters.keys()
    shared = {name: value for name, value in shared.items() if name in settings}
    first, second = (own_class.from_config(dict(s.config), **shared) for s in (base, upgraded))
    return first, second
