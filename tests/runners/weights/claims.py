"""A claim: these parts, on this layer, give this output, which other people's code computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from runners.weights.formulas import change_of

LIMIT = 1e-5  # of the largest output
SIDE = 8  # square weights: transposed parts fit, so a test must see them by their numbers
Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Claim:
    """`expected` is the reference's own forward of `x` through the plugged layer."""

    formula: str
    parts: Mapping[str, Tensor]
    layer: Layer
    x: Tensor
    expected: Tensor

    def deviation(self, change: Tensor | None = None) -> float:
        """Largest |ours - expected| of the outputs, of the largest |expected|."""
        change = self.change() if change is None else change
        ours = forward(self.layer, self.layer.weight.detach() + change, self.x)
        return float((ours - self.expected).abs().max() / self.expected.abs().max())

    def change(self, parts: Mapping[str, Tensor] | None = None) -> Tensor:
        """Our change of the layer's weight."""
        return change_of(self.formula, parts or self.parts, self.layer.weight.detach())


def make_layer(kernel: int | None, *, bias: bool = True) -> Layer:
    """Return a square linear layer (None), or a convolution with this kernel; frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = (
            nn.Linear(SIDE, SIDE, bias=bias)
            if kernel is None
            else nn.Conv2d(SIDE, SIDE, kernel, padding=kernel // 2, bias=bias)
        )
    return layer.requires_grad_(False)


def make_input(layer: Layer) -> Tensor:
    shape = (3, SIDE) if isinstance(layer, nn.Linear) else (2, SIDE, 5, 4)
    return random(*shape, seed=11)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def forward(layer: Layer, weight: Tensor, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight, layer.bias)
    return functional.conv2d(x, weight, layer.bias, padding=layer.padding)


Mutant = Callable[[Claim], Tensor]
"""A change as a wrong implementation would compute it."""


def without_alpha(claim: Claim) -> Tensor:
    return claim.change({name: p for name, p in claim.parts.items() if name != "alpha"})


def transposed(claim: Claim) -> Tensor:
    return claim.change().transpose(0, 1)


def per_output(claim: Claim) -> Tensor:
    """Divides alpha by the number of outputs, not by the rank."""
    return claim.change({**claim.parts, "alpha": claim.parts["alpha"] / 2})


def doubled(claim: Claim) -> Tensor:
    return 2 * claim.change()


def swapped(first: str, second: str) -> Mutant:
    """Two parts play each other's role, transposed where shapes ask for it."""

    def mutant(claim: Claim) -> Tensor:
        one, other = claim.parts[first], claim.parts[second]
        if one.shape != other.shape:
            one, other = (part.transpose(0, 1) for part in (one, other))
        return claim.change({**claim.parts, first: other, second: one})

    return mutant


def turned(name: str) -> Mutant:
    """Return a square part, the other way round."""

    def mutant(claim: Claim) -> Tensor:
        part = claim.parts[name]
        other = part.transpose(0, 1) if part.ndim == 4 and name != "blocks" else part.mT
        return claim.change({**claim.parts, name: other})

    return mutant


def without(name: str) -> Mutant:
    def mutant(claim: Claim) -> Tensor:
        return claim.change({key: part for key, part in claim.parts.items() if key != name})

    return mutant
