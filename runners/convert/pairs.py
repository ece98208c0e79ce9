"""Modules of two UNets that do the same at the same place of the picture.

Ours. Names alone do not pair models of different depth: a module's partner has the same place in
its block (`attn1.to_q`), is in the same part (down, middle, up) and has feature maps of the same
side, so that both see one grid of places. Where one model has fewer of them, partners are
spread evenly over the other's depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

_BLOCK = re.compile(r"(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.([a-z]+)\.\d+\.(.+)")
_DEPTH = re.compile(r"transformer_blocks\.(\d+)\.")


@dataclass(frozen=True)
class Place:
    """Where a module is: modules of one place are partners, in the order of `depth`."""

    part: str
    side: float
    role: str


def pair_modules(
    source: nn.Module,
    target: nn.Module,
    modules: Iterable[str],
    *,
    source_side: int,
    target_side: int,
) -> dict[str, str]:
    """Return modules of the source UNet -> their partners; those without one are left out.

    `source_side` and `target_side` are the sides of both models' latents. No module is
    the partner of two, and both have kernels of one size.
    """
    wanted = frozenset(modules)
    offered = _by_place(target, target_side)
    found: dict[str, str] = {}
    for place, ours in _by_place(source, source_side).items():
        theirs = offered.get(place, [])
        for i, module in enumerate(ours):
            # the middles of equal parts of both depths
            at = int((i + 0.5) * len(theirs) / len(ours))
            if module in wanted and theirs and theirs[at] not in found.values():
                found[module] = theirs[at]
    return found


def _by_place(unet: Any, latent_side: int) -> Mapping[Place, list[str]]:
    """Group linear layers and convolutions by place, in the order of depth."""
    n_levels = len(unet.config["block_out_channels"])
    found: dict[Place, list[str]] = {}
    for name, module in unet.named_modules():
        match = _BLOCK.fullmatch(name)
        if match is None or not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        part, number, kind, inner = match.groups()
        level = {"down_blocks": int(number or 0), "mid_block": n_levels - 1}.get(
            part, n_levels - 1 - int(number or 0)
        )
        kernel = tuple(getattr(module, "kernel_size", ()))
        role = f"{kind}.{_DEPTH.sub('transformer_blocks.', inner)} {kernel}"
        place = Place(part, latent_side / 2**level, role)
        found.setdefault(place, []).append(name)
    return found
