"""Clock, memory and counted operations of a device, and the sampling loops that are measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gpu_check.models import random_controlnet, random_family
from gpu_check.stages import Row, Setting
from runners.base import RenderCase, RenderSettings
from runners.families import Family
from xadapter.denoiser import Control, Denoiser
from xadapter.guidance import Guidance
from xadapter.handover import sdedit_start, start_from_noise
from xadapter.inputs import base_conditions, upgraded_conditions
from xadapter.presets import CORRECTED
from xadapter.sampling import run_alone, run_stage1, run_stage2
from xadapter.solvers import shared_schedulers

GIB = float(1 << 30)
DTYPE = "bfloat16"
PROMPT = "a large red circle"
T0S = (0.2, 0.4, 0.6, 0.8, 1.0)
Loop = Callable[[int], Tensor]


@dataclass(frozen=True)
class Size:
    """Sizes of the measurements: pictures in px, batches, steps."""

    base_px: int
    batches: tuple[int, ...]
    compiled_batches: tuple[int, ...]
    n_cases: int
    n_steps: int


def size_of(setting: Setting) -> Size:
    """Return what is measured: the plan of a GPU, or a small one for a CPU."""
    if setting.small:
        return Size(64, (1, 2), (1, 2), n_cases=2, n_steps=3)
    return Size(512, (1, 4, 12, 24), (4, 12), n_cases=12, n_steps=5)


def family_of(setting: Setting, dtype: str = DTYPE) -> Family:
    """Return the models with random weights."""
    return random_family(small=setting.small, device=setting.device, dtype=dtype)


def settings_of(size: Size, *, n_steps: int, dtype: str = DTYPE) -> RenderSettings:
    """Return settings for `run_group`."""
    return RenderSettings(
        base_size_px=(size.base_px, size.base_px),
        upgraded_size_px=(2 * size.base_px, 2 * size.base_px),
        steps=n_steps,
        guidance_scale=7.5,
        dtype=dtype,  # pyright: ignore[reportArgumentType]
    )


def cases_of(size: Size, n_cases: int) -> list[RenderCase]:
    """Return cases with one prompt and a condition image of noise."""
    px = size.base_px
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n_cases, px, px, 3), dtype=torch.uint8, generator=noise)
    return [
        RenderCase(f"case-{i}", 0, PROMPT, PROMPT, condition=image)
        for i, image in enumerate(pixels.numpy())
    ]


def synchronize(device: str) -> None:
    """Wait until the device has done all work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds_of(device: str, work: Callable[[], Any]) -> float:
    """Return the wall time of a piece of work on an idle device, to its end."""
    synchronize(device)
    start_s = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start_s


def reset_memory(device: str) -> None:
    """Free unused memory and forget the peak."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory_row(device: str) -> Row:
    """Return the peaks of allocated and reserved memory; on a CPU the process's resident memory."""
    if device.startswith("cuda"):
        peaks = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        return {"allocated_gib": round(peaks[0] / GIB, 2), "reserved_gib": round(peaks[1] / GIB, 2)}
    return {"resident_gib": round(psutil.Process().memory_info().rss / GIB, 2)}


def tera_operations(work: Callable[[], Any]) -> float:
    """Return the counted operations (a multiplication and an addition are two), in 10^12."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e12


def deviation(found: Tensor, expected: Tensor) -> float:
    """Return the largest deviation, relative to the largest expected value."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def mean_deviation(found: Tensor, expected: Tensor) -> float:
    """Return the root of the mean squared deviation, relative to that of the expected values."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


@dataclass(frozen=True)
class Sides:
    """Both denoisers over a batch, with a ControlNet on the base side, and unit noise."""

    family: Family
    base: Denoiser
    upgraded: Denoiser
    base_noise: Tensor
    noise: Tensor

    def loop(self, method: str, *, adapter_scale: float = 1.0) -> Loop:
        """Return the sampling loop of a method; it takes a number of steps."""
        loops: dict[str, Loop] = {
            "base": lambda n: run_stage1(self.base, self.base_noise, n_steps=n).latents,
            "floor": lambda n: run_alone(self.upgraded, self.noise, n_steps=n),
            "sdedit": self._sdedit,
            "xadapter": lambda n: self._joint(n, adapter_scale),
        }
        return loops[method]

    def _sdedit(self, n_steps: int) -> Tensor:
        start = sdedit_start(
            self.noise, upgraded=self.upgraded, n_steps=n_steps, t0=1.0, noise=self.noise
        )
        return run_stage2(self.upgraded, start)

    def _joint(self, n_steps: int, adapter_scale: float) -> Tensor:
        start = start_from_noise(
            upgraded=self.upgraded,
            upgraded_noise=self.noise,
            base=self.base,
            base_noise=self.base_noise,
            n_steps=n_steps,
            preset=CORRECTED,
        )
        return run_stage2(
            self.upgraded,
            start,
            base=self.base,
            mapper=self.family.mapper,
            adapter_scale=adapter_scale,
        )


def sides_of(setting: Setting, family: Family, *, batch: int, control: Any = None) -> Sides:
    """Encode prompts and draw noise for a batch at the size of the setting."""
    size, device = size_of(setting), setting.device
    net = control or control_of(setting)
    random = torch.Generator().manual_seed(0)
    latent = size.base_px // 8
    base_noise = torch.randn(batch, 4, latent, latent, generator=random)
    noise = torch.randn(batch, 4, 2 * latent, 2 * latent, generator=random)
    hint = torch.rand(batch, 3, size.base_px, size.base_px, generator=random).to(device)
    guidance, prompts = Guidance(7.5), [PROMPT] * batch
    schedulers = shared_schedulers(family.base.scheduler, family.upgraded.scheduler)
    base_text = base_conditions(family.base, prompts, None, guidance)
    upgraded_px = (2 * size.base_px, 2 * size.base_px)
    text = upgraded_conditions(family.upgraded, prompts, None, guidance, upgraded_px)
    base = Denoiser(
        family.base.unet, schedulers[0], base_text, guidance, controls=(Control(net, hint),)
    )
    upgraded = Denoiser(family.upgraded.unet, schedulers[1], text, guidance)
    return Sides(family, base, upgraded, base_noise.to(device), noise.to(device))


def control_of(setting: Setting, dtype: str = DTYPE) -> Any:
    """Return a ControlNet with random weights."""
    return random_controlnet(small=setting.small, device=setting.device, dtype=dtype)
