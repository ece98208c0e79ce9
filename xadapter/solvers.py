"""Solvers: diffusers schedulers built for one pass, and the released code's variant of one.

Sources: DPM-Solver++ (arXiv 2211.01095) as in diffusers; `ReleasedSolver` adds what the released
X-Adapter code did with diffusers 0.20 (the step index looked up on every call, index 0 wrapping to
the last grid timestep, a final step to training step 0).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
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
class Walk:
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


def walk_from(solver: Any, n_steps: int, *, first_step: int = 0) -> Walk:
    """Walk a fresh solver's grid from step `first_step` to its end."""
    begin = first_step * solver.order
    if hasattr(solver, "set_begin_index"):
        solver.set_begin_index(begin)
    return Walk(solver, solver.timesteps[begin:], n_steps, first_step)


def seeded(walk: Walk, generators: Sequence[torch.Generator] | None) -> Walk:
    """Give a stochastic solver its generators; raise `SettingError` where it has none."""
    if not is_stochastic(walk.solver):
        return walk
    if generators is None:
        raise SettingError(
            f"{type(walk.solver).__name__} draws noise in every step: pass step_generators, one "
            "per image, or choose a deterministic solver"
        )
    return replace(walk, generators=generators)


def is_stochastic(solver: Any) -> bool:
    """Whether the solver draws noise in its steps."""
    if "generator" not in inspect.signature(solver.step).parameters:
        return False
    name = type(solver).__name__
    algorithm = str(solver.config.get("algorithm_type", ""))
    return algorithm.startswith("sde") or any(
        word in name for word in ("Ancestral", "DDPM", "LCM", "TCD", "SDE")
    )


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


def shared_schedulers(
    base: Solver, upgraded: Solver, *, solver_class: Any = None
) -> tuple[Any, Any]:
    """Schedulers of one class on one grid: each side's betas and prediction type, one spacing.

    The class defaults to DPM-Solver++ (multistep), the spacing and offset to the upgraded
    model's, with "leading" where its file says nothing.
    """
    solver_class = DPMSolverMultistepScheduler if solver_class is None else solver_class
    spacing = upgraded.config.get("timestep_spacing") or "leading"
    shared = {"timestep_spacing": spacing, "steps_offset": upgraded.config.get("steps_offset", 1)}
    if "clip_sample" in inspect.signature(solver_class).parameters:
        shared["clip_sample"] = False  # latents are not bounded by 1
    return tuple(solver_class.from_config(dict(s.config), **shared) for s in (base, upgraded))  # type: ignore[return-value]  # a generator of two is a pair
