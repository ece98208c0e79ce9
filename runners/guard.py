"""Check that a method leaves the models as they were, and that it returned images.

The state of the models is a sum over all values, and the structure of the modules: their
identities, hooks, modes and processors. It is compared before and after each method of another
package; tests hold it for the project's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from plugins_manifest.errors import PicklableError
from runners.base import Variant
from runners.checksum import checksum
from runners.families import Family
from runners.families.family import DENOISERS, TEXT_PARTS
from runners.protocols import Method

_PARTS = (*DENOISERS, "vae", *TEXT_PARTS)
_TOOLS = ("scheduler", "tokenizer", "tokenizer_2")
_OWN = "runners.methods."
_LIBRARY_HOOKS = "transformers.utils.output_capturing"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
# switches of torch that change numbers, with the functions that read and set them
_SWITCHES = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
)


class ModelsChangedError(PicklableError):
    """A method changed the models or results that others share; `variant` is the one to blame.

    The models have to be loaded again before anything else is rendered.
    """

    def __init__(self, variant: Variant, what: str) -> None:
        super().__init__(f"the method {variant.method!r} changed {what}: its images are not kept")
        self.variant = variant


def is_own(method: Method) -> bool:
    """Return whether a method is one of the project's own, whose restraint tests hold."""
    return type(method).__module__.startswith(_OWN)


@dataclass(frozen=True)
class ModelsState:
    """Part name -> structure and values; equal for models that give the same images."""

    parts: Mapping[str, tuple[object, ...]]
    switches: tuple[Any, ...]

    def changed_since(self, before: ModelsState) -> str | None:
        """Return what differs from an earlier state, in words; None if nothing does."""
        names = [name for name, state in self.parts.items() if before.parts.get(name) != state]
        if self.switches != before.switches:
            names.append("torch's settings")
        return ", ".join(names) if names else None

    def restore_switches(self) -> None:
        """Set torch's switches to what they were."""
        for (_, restore), value in zip(_SWITCHES, self.switches, strict=True):
            restore(value)


def models_state(family: Family, networks: Sequence[nn.Module] = ()) -> ModelsState:
    """Return the state of everything that methods share; `networks` are those of the plugins."""
    if family.offload is not None:
        family.offload.evict()  # a sum depends on the device of its tensors
    parts = {f"network {i} of the plugins": _state_of(net) for i, net in enumerate(networks, 1)}
    for side, pipe in (("base", family.base), ("upgraded", family.upgraded)):
        for name in _PARTS:
            if isinstance(model := getattr(pipe, name, None), nn.Module):
                parts[f"the {side} {name}"] = _state_of(model)
        for name in _TOOLS:
            if (tool := getattr(pipe, name, None)) is not None:
                parts[f"the {side} {name}"] = (id(tool), _config_of(tool))
    for i, mapper in enumerate(family.all_mappers):
        parts["the mapper" if i == 0 else f"mapper {i + 1}"] = _state_of(mapper)
    return ModelsState(parts, tuple(read() for read, _ in _SWITCHES))


def _config_of(tool: Any) -> str:
    config = getattr(tool, "config", None)
    return f"{len(tool)} words" if config is None and hasattr(tool, "__len__") else str(config)


def _state_of(model: nn.Module) -> tuple[object, ...]:
    structure = tuple(
        (
            *(name, id(module), module.training, "forward" in vars(module)),
            *(_n_hooks(vars(module).get(kind)) for kind in _HOOKS),
            id(getattr(module, "processor", None)),
        )
        for name, module in model.named_modules()
    )
    return id(model), structure, checksum((*model.parameters(), *model.buffers()))


def _n_hooks(hooks: Mapping[int, Any] | None) -> int:
    # transformers adds hooks of its own at a model's first call, whoever calls it
    own = (getattr(hook, "__module__", "") for hook in (hooks or {}).values())
    return sum(name != _LIBRARY_HOOKS for name in own)


def checked_images(images: object, *, n_images: int, size_px: tuple[int, int]) -> np.ndarray:
    """Return a copy of what a method rendered: uint8 RGB [n, height, width, 3].

    Raises `TypeError` or `ValueError`, with what was returned, for anything else.
    """
    width_px, height_px = size_px
    expected = (n_images, height_px, width_px, 3)
    if not isinstance(images, np.ndarray):
        raise TypeError(
            f"the method returned {type(images).__name__}, not a uint8 array {expected}"
        )
    if images.dtype != np.uint8 or images.shape != expected:
        raise ValueError(
            f"the method returned {images.dtype} {images.shape}, not uint8 {expected}: the images "
            "of all cases, RGB, at the size of its side"
        )
    return np.array(images)  # the method may use its buffer again
