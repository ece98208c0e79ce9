"""Merges a plugin's changes into a model's own weights for a while, and puts them back bit for bit.

Nothing slows down and nothing else needs to know: the model stays what it is, with other numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from plugins_manifest.formats.parsed import ModuleChange
from plugins_manifest.schema.words import LoraSemantics
from runners.weights.errors import PluginWeightsError
from runners.weights.formulas import change_of


class MisfitError(PluginWeightsError):
    """Parts that do not fit the parameter `target`."""

    def __init__(self, target: str, message: str) -> None:
        super().__init__(message)
        self.target = target


@dataclass(frozen=True)
class PluginWeights:
    """The changes of a file and its tensors by key.

    Semantics "xadapter-official" is what the released X-Adapter code does: it ignores the alpha of
    a LoRA. It reads no other format, so for all others the semantics are the standard ones.
    """

    changes: tuple[ModuleChange, ...]
    tensors: Mapping[str, Tensor]
    semantics: LoraSemantics = "standard"

    def by_target(self) -> dict[str, tuple[ModuleChange, ...]]:
        """Parameter name -> its changes, in the file's order."""
        groups: dict[str, tuple[ModuleChange, ...]] = {}
        for change in self.changes:
            groups[change.target] = (*groups.get(change.target, ()), change)
        return groups

    def without(self, targets: Collection[str]) -> PluginWeights:
        """The same, without the changes of some parameters."""
        return replace(self, changes=tuple(c for c in self.changes if c.target not in targets))

    def parts(self, change: ModuleChange, like: Tensor) -> dict[str, Tensor]:
        """The tensors of a change, on the device and in the dtype of a tensor."""
        parts = {name: self.tensors[key].to(like) for name, key in change.parts.items()}
        if change.alpha is not None and "alpha" not in parts:
            parts["alpha"] = torch.tensor(change.alpha).to(like)
        if self.semantics == "xadapter-official" and change.formula == "lora":
            parts.pop("alpha", None)
        return parts


def merged_weight(
    weights: PluginWeights, changes: Sequence[ModuleChange], weight: Tensor, *, strength: float
) -> Tensor:
    """The parameter after its changes, each `strength` times as large as the file's.

    Every change sees what those before it left (which matters to (IA)3, OFT, BOFT, GLoRA and DoRA
    alone). Sums are made in float32 at least; the result has the parameter's dtype. Raises
    `PluginWeightsError` for parts that do not fit.
    """
    current = weight.to(torch.promote_types(weight.dtype, torch.float32))
    for change in changes:
        parts = weights.parts(change, current)
        current = torch.add(current, change_of(change.formula, parts, current), alpha=strength)
    return current.to(weight.dtype)


@contextmanager
def merged_into(
    targets: Mapping[str, nn.Parameter], weights: PluginWeights, *, strength: float
) -> Iterator[None]:
    """Merge into the parameters; afterwards each is as before, bit for bit, whatever happens.

    Strength 0 touches nothing. Raises `MisfitError`, with everything put back, for parts that do
    not fit. Memory: one copy of the parameters that change.
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
        yield
    finally:
        with torch.no_grad():
            for name, original in originals.items():
                targets[name].copy_(original)


def parameters_of(models: Iterable[tuple[str, nn.Module | None]]) -> dict[str, nn.Parameter]:
    """Canonical name -> parameter of (prefix, model) pairs, as plugin files' targets name them.

    Text encoders have no `text_model.` level in these names, whether or not the installed
    transformers has it.
    """
    return {
        f"{prefix}.{name.removeprefix('text_model.')}": parameter
        for prefix, model in models
        if model is not None
        for name, parameter in model.named_parameters()
    }
