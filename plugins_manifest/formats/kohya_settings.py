"""Read the scale that kohya's trainers state in the metadata, for files whose tensors lack it.

sd-scripts and LyCORIS write an `.alpha` beside the factors of each module; where a tool dropped
all of them, `ss_network_alpha` and `ss_network_dim` still state what the file was trained with,
`ss_network_args` the same for convolutions (conv_alpha, conv_dim), and rs_lora.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError

_ARGS = "ss_network_args"
_MAX_CHARACTERS = 2**16


@dataclass(frozen=True)
class KohyaSettings:
    """(alpha, rank) of linear layers and 1 x 1 convolutions, and of wider convolutions."""

    linear: tuple[float, float] | None = None
    convolution: tuple[float, float] | None = None
    is_rank_stabilized: bool = False

    def scale(self, *, is_wide: bool, rank: int) -> float | None:
        """Return the scale of a module of this rank; None where the metadata state another one."""
        stated = self.convolution if is_wide else self.linear
        if stated is None or stated[1] != rank:
            return None
        return stated[0] / (math.sqrt(rank) if self.is_rank_stabilized else rank)


def read_kohya_settings(metadata: Mapping[str, str]) -> KohyaSettings:
    """Return what the metadata state; empty for files of other trainers."""
    linear = _pair(metadata.get("ss_network_alpha"), metadata.get("ss_network_dim"))
    args = _args(metadata.get(_ARGS, ""))
    if linear is None or any("block" in name for name in args):  # block_dims: one rank a block
        return KohyaSettings()
    is_lycoris = "lycoris" in metadata.get("ss_network_module", "")
    # sd-scripts trains no wide convolution without conv_dim, and takes 1 for a missing conv_alpha.
    default = metadata.get("ss_network_alpha") if is_lycoris else "1"
    convolution = _pair(args.get("conv_alpha", default), args.get("conv_dim"))
    if convolution is None and is_lycoris:
        convolution = linear
    is_rank_stabilized = args.get("rs_lora", "").lower() in ("true", "1")
    return KohyaSettings(linear, convolution, is_rank_stabilized)


def _args(text: str) -> dict[str, str]:
    try:
        found = parse_json(text, name=_ARGS, most_bytes=_MAX_CHARACTERS)
    except UserError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _pair(alpha: str | None, rank: str | None) -> tuple[float, float] | None:
    try:
        pair = float(alpha or ""), float(rank or "")
    except ValueError:
        return None
    return pair if math.isfinite(pair[0]) and 0 < pair[1] < math.inf else None
