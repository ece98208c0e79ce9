"""Merge a plugin's changes into a model's own weights within a context, restored bit for bit.

The model's code stays unchanged and as fast as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from plugins_manifest.errors import PicklableError
from plugins_manifest.formats import ModuleChange
from plugins_manifest.schema.words import LoraSemantics
from runners.weights.formulas import change_of
from runners.weights.parts import PluginWeightsError


class MisfitError(PicklableError, PluginWeightsError):
    """Parts that do not fit the parameter `target`."""

    def __init__(self, target: str, message: str) -> None:
        super().__init__(message)
        self.target = target


@dataclass(frozen=True)
class PluginWeights:
    """The changes of a file and its tensors by key.

    The semantics "xadapter-official" are those of the released X-Adapter code, which ignores the
    alpha of a LoRA. It reads no other format: all others keep the standard semantics.
    """

    changes: tuple[ModuleChange, ...]
    tensors: Mapping[str, Tensor]
    semantics: LoraSemantics = "standard"

    def by_target(self) -> dict[str, tuple[ModuleChange, ...]]:
        """Group the changes by parameter, in the file's order."""
        groups: dict[str, tuple[ModuleChange, ...]] = {}
        for change in self.changes:
            groups[change.target] = (*groups.get(change.target, ()), change)
        return groups

    def without(self, targets: Collection[str]) -> PluginWeights:
        """Return a copy without the changes of some parameters."""
        return replace(self, changes=tuple(c for c in self.changes if c.target not in targets))

    def parts(self, change: ModuleChange, like: Tensor) -> dict[str, Tensor]:
        """Return the tensors of a change, on the device and in the dtype of `like`."""
        parts = {name: self.tensors[key].to(like) for name, key in change.parts.items()}
        if change.alpha is not None and "alpha" not in parts:
            parts["alpha"] = torch.tensor(change.alpha).to(like)
        if self.semantics == "xadapter-official" and change.formula == "lora":
            parts.pop("alpha", None)
        return parts


def merged_weight(
    weights: PluginWeights, changes: Sequence[ModuleChange], weight: Tensor, *, strength: float
) -> Tensor:
    """Return the parameter after its changes, each `strength` times as large as the file's.

    Every change is computed from the weight that those before it left (which matters only for
    (IA)3, OFT, BOFT, GLoRA and DoRA). Sums are in float32 at least; the result has the
    parameter's dtype. Raises
    `PluginWeightsError` for parts that do not fit.
    """
    # Half-precision weights are summed in float32 and rounded once, at the end.
    current = weight.to(torch.promote_types(weight.dtype, torch.float32))
    for change in changes:
        parts = weights.parts(change, current)
        made = change_of(change.formula, parts, current)
        current = torch.add(current, made, alpha=strength * change.factor)
    return current.to(weight.dtype)


TakenOff = Callable[[], AbstractContextManager[None]]


@contextmanager
def merged_into(
    targets: Mapping[str, nn.Parameter], weights: PluginWeights, *, strength: float
) -> Iterator[TakenOff]:
    """Merge into the parameters; they are restored bit for bit on exit, after errors too.

    Yields a context in which they have their original values for a while. Strength 0 changes
    nothing. Raises `MisfitError`, with everything restored, for parts that do not fit. Memory: one
    copy of the parameters that change.
    """
    groups = weights.by_target() if strength else {}
    originals: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for name, changes in groups.items():
                target = targets[name]
                try:
                    merged = merged_weight(weights, changes, target, strength=strength)
                except PluginWeightsError as error:
                    raise MisfitError(name, str(error)) from error
                originals[name] = target.detach().clone()
                target.copy_(merged)
        yield lambda: _with_values(targets, originals)
    finally:
        with torch.no_grad():
            # The original bits are copied back: subtracting the change would round.
            for name, original in originals.items():
                targets[name].copy_(original)


@contextmanager
def _with_values(
    targets: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]
) -> Iterator[None]:
    """Give parameters other values for a while: storages change places, nothing is computed."""
    own: dict[str, Tensor] = {}
    try:
        for name, value in values.items():
            own[name] = targets[name].data
            _set(targets[name], value)
        yield
    finally:
        for name, value in own.items():
            _set(targets[name], value)


def _set(parameter: nn.Parameter, value: Tensor) -> None:
    with torch.inference_mode(mode=False):  # a parameter cannot hold what is made in that mode
        # an offloaded model may have moved meanwhile
        parameter.data = value.to(parameter.device)


def parameters_of(models: Iterable[tuple[str, nn.Module | None]]) -> dict[str, nn.Parameter]:
    """Map canonical names, as in `ModuleChange.target`, to parameters of (prefix, model) pairs.

    Text encoders have no `text_model.` level in these names, whether or not the installed
    transformers has it.
    """
    return {
        f"{prefix}.{name.removeprefix('text_model.')}": parameter
        for prefix, model in models
        if model is not None
        for name, parameter in model.named_parameters()
    }
