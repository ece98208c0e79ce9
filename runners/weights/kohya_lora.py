"""LoRA merge: W' = W + multiplier * (alpha / rank) * up @ down.

Sources: LoRA, arXiv 2106.09685, equation 3; kohya's keys `<module>.lora_down.weight`,
`.lora_up.weight`, `.alpha`, with convolutions as in LoCon. "xadapter-official" is what the
released X-Adapter code does: it ignores alpha. Legend: o out, i in, r rank, h and w kernel.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from runners.weights.errors import PluginWeightsError

Semantics = Literal["standard", "xadapter-official"]

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
_N_SHOWN = 5


@dataclass(frozen=True)
class LoraModule:
    """The low-rank factors of one module: `down` [r, i(, h, w)], `up` [o, r(, 1, 1)], alpha."""

    name: str
    down: Tensor
    up: Tensor
    alpha: float | None

    @property
    def rank(self) -> int:
        """Rank r of the delta."""
        return int(self.down.shape[0])

    def check_shape(self, weight_shape: torch.Size) -> None:
        """Raise `PluginWeightsError`, with all shapes, unless the factors fit a weight."""
        n_out, n_in = weight_shape[0], weight_shape[1:].numel()
        fits = self.up.shape[0] == n_out and self.up[0].numel() == self.rank
        if not fits or self.down[0].numel() != n_in:
            raise PluginWeightsError(
                f"{self.name}: down {tuple(self.down.shape)} and up {tuple(self.up.shape)} do not "
                f"fit a weight of shape {tuple(weight_shape)}"
            )

    def delta(self, weight_shape: torch.Size, *, semantics: Semantics) -> Tensor:
        """(alpha / rank) * up @ down in float32, shaped as the weight it is added to.

        Linear factors fit 1x1 convolutions and the other way round. Raises `PluginWeightsError`
        with all shapes where they do not fit.
        """
        self.check_shape(weight_shape)
        down, up = self.down.float().flatten(1), self.up.float().flatten(1)
        scale = 1.0
        if semantics == "standard" and self.alpha is not None:
            scale = self.alpha / self.rank
        return (scale * (up @ down)).reshape(weight_shape)


def read_modules(lora: Mapping[str, Tensor]) -> dict[str, LoraModule]:
    """Group kohya keys by module; a missing alpha means alpha = rank.

    Raises `PluginWeightsError` that lists every key of another format and every incomplete module.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    problems = []
    for key, value in lora.items():
        suffix = next((s for s in (DOWN, UP, ALPHA) if key.endswith(s)), None)
        if suffix is None:
            problems.append(f"unknown key {key}")
        else:
            parts.setdefault(key.removesuffix(suffix), {})[suffix] = value
    for name, found in parts.items():
        missing = [suffix for suffix in (DOWN, UP) if suffix not in found]
        problems.extend(f"missing key {name}{suffix}" for suffix in missing)
    if problems or not parts:
        raise PluginWeightsError(
            f"not a kohya LoRA (<module>{DOWN}, {UP}, {ALPHA}): " + _shown(problems or ["no keys"])
        )
    return {
        name: LoraModule(name, found[DOWN], found[UP], _number(found.get(ALPHA)))
        for name, found in parts.items()
    }


def merged_weights(
    lora: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    semantics: Semantics,
    multiplier: float = 1.0,
) -> dict[str, Tensor]:
    """Merge a LoRA into weights: `targets` maps each `<module>` of the kohya keys to its weight.

    Returns the changed weights alone, in their own dtype and device (the sum is made in float32).
    Raises `PluginWeightsError` for modules without a target, naming the nearest, and for shapes.
    """
    modules = fitting_modules(lora, targets)
    merged = {}
    with torch.no_grad():
        for name, module in modules.items():
            weight = targets[name]
            delta = module.delta(weight.shape, semantics=semantics).to(weight.device)
            merged[name] = (weight.float() + multiplier * delta).to(weight.dtype)
    return merged


def fitting_modules(
    lora: Mapping[str, Tensor], targets: Mapping[str, Tensor]
) -> dict[str, LoraModule]:
    """Read a LoRA and check every module against its target, without any arithmetic."""
    modules = read_modules(lora)
    _check_targets(modules, targets)
    for name, module in modules.items():
        module.check_shape(targets[name].shape)
    return modules


def _check_targets(modules: Iterable[str], targets: Iterable[str]) -> None:
    """Raise `PluginWeightsError` for modules that the model does not have, with the nearest."""
    known = list(targets)
    unmatched = sorted(set(modules) - set(known))
    if not unmatched:
        return
    shown = []
    for name in unmatched[:_N_SHOWN]:
        nearest = difflib.get_close_matches(name, known, n=2, cutoff=0.0)
        shown.append(f"{name} (nearest: {', '.join(nearest) or 'none'})")
    rest = f" and {len(unmatched) - _N_SHOWN} more" if len(unmatched) > _N_SHOWN else ""
    raise PluginWeightsError(
        f"{len(unmatched)} modules of the LoRA are not in the model: {'; '.join(shown)}{rest}"
    )


def _number(alpha: Tensor | None) -> float | None:
    return None if alpha is None else float(alpha)


def _shown(problems: list[str]) -> str:
    rest = f" and {len(problems) - _N_SHOWN} more" if len(problems) > _N_SHOWN else ""
    return "; ".join(problems[:_N_SHOWN]) + rest
