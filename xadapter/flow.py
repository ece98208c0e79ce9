"""Flow matching: noise levels and steps of models that predict a velocity.

Sources: rectified flow, arXiv 2209.03003; SD3, arXiv 2403.03206, sections 2 and 5.3.2 (the shift of
noise levels). Latents at noise level s are (1 - s) x0 + s e, and the velocity is e - x0.
"""

from __future__ import annotations

from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from xadapter.errors import SettingError


class FlowSolver(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler steps, with what sampling calls of the solvers of diffusion."""

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of the first latents, which are pure noise."""
        return 1.0

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        """Return the latents: the model takes them as they are."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """Return (1 - s) x0 + s e [b, c, h, w] at timesteps [b] of the grid."""
        found = [self.index_for_timestep(timestep) for timestep in timesteps.cpu()]
        levels: Any = self.sigmas
        sigma = levels[found].to(original_samples).view(-1, 1, 1, 1)
        return (1.0 - sigma) * original_samples + sigma * noise


def is_flow(scheduler: Any) -> bool:
    """Return whether a scheduler is diffusers' Euler scheduler of flow matching."""
    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler)


def flow_solver(scheduler: Any) -> Any:
    """Return a flow model's own `FlowSolver`; `SettingError` for a shift that is not in its file.

    The noise levels are those of the model's file: a sampler of diffusion is none of theirs.
    """
    config = dict(scheduler.config)
    if config.get("use_dynamic_shifting"):
        raise SettingError(
            "the scheduler shifts its noise levels by the picture's size (use_dynamic_shifting), "
            "which is not supported: set `shift` in its scheduler_config.json"
        )
    return FlowSolver.from_config(config)
