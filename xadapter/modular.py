"""A mapper whose sites, fusion and size are a configuration.

Branches as in X-Adapter (arXiv 2312.02238, section 3.3): residual blocks between sites of the base
and of the upgraded model. What is fused with the features h of a site (ours, but for the addition):

    add              h + m                        equation 3
    spade            h + (g h + b)                maps g, b; SPADE, arXiv 1903.07291, equation 1,
                                                  without its normalization
    film             h + (g h + b)                numbers per channel; FiLM, arXiv 1709.07871, eq. 2
    cross-attention  h + W attention(h, m, m)     arXiv 1706.03762, equation 1

m, g, b and W are zero in a new mapper. Legend: b rows, c channels, h height, w width, n tokens,
d width of all heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F

from xadapter.errors import MapperFitError
from xadapter.mapper import Doubling
from xadapter.modular_config import Branch, ModularConfig
from xadapter.signals import Change

HEADS, HEAD_WIDTH = 4, 32
_ATTENTION_WIDTH = HEADS * HEAD_WIDTH
_MOST_TOKENS_SIDE = 32  # larger maps are averaged: costs grow with tokens times places
_TIME_WIDTH, _WAVES_WIDTH = 128, 64


class Block(nn.Module):
    """x + conv(relu(conv(x))); with a time embedding the inner features are modulated by it."""

    def __init__(self, width: int, *, has_time: bool) -> None:
        super().__init__()
        self.block1 = nn.Conv2d(width, width, 3, padding=1)
        self.block2 = nn.Conv2d(width, width, 3, padding=1)
        self.time = _zeroed(nn.Linear(_TIME_WIDTH, 2 * width)) if has_time else None

    def forward(self, x_bchw: Tensor, time_bd: Tensor | None) -> Tensor:
        """Map [b, c, h, w] to the same shape."""
        inner = self.block1(x_bchw)
        if self.time is not None and time_bd is not None:
            gain, shift = self.time(time_bd)[:, :, None, None].chunk(2, dim=1)
            inner = inner * (1 + gain) + shift
        return x_bchw + self.block2(F.relu(inner))


class Halving(nn.Conv2d):
    """A convolution that halves both sides, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class ModularMapper(nn.Module):
    """Branches between sites, each closed by a layer of zeros, as a `ModularConfig` names them."""

    def __init__(self, config: ModularConfig) -> None:
        super().__init__()
        self.config = config
        self.takes_time = config.time
        sites = {site.name: site.channels for branch in config.branches for site in branch.reads}
        self.reads, self.in_channels = tuple(sites), tuple(sites.values())
        self.writes = tuple(branch.write.name for branch in config.branches)
        self.out_channels = tuple(branch.write.channels for branch in config.branches)
        widths = [config.width or channels for channels in self.out_channels]
        self.entries = nn.ModuleList(
            nn.ModuleList(_entry(site.channels, width, branch.doublings) for site in branch.reads)
            for branch, width in zip(config.branches, widths, strict=True)
        )
        self.body = nn.ModuleList(
            Block(width, has_time=config.time) for width in widths for _ in range(config.blocks)
        )
        self.time = _time_layers() if config.time else None
        pairs = list(zip(widths, self.out_channels, strict=True))
        if config.fusion == "cross-attention":
            d = _ATTENTION_WIDTH
            self.to_tokens = nn.ModuleList(nn.Conv2d(width, 2 * d, 1) for width, _ in pairs)
            self.to_queries = nn.ModuleList(nn.Linear(out, d) for _, out in pairs)
            self.zero_out = nn.ModuleList(_zeroed(nn.Linear(d, out)) for _, out in pairs)
        else:
            n = 1 if config.fusion == "add" else 2
            self.zero_out = nn.ModuleList(_zeroed(nn.Conv2d(w, n * out, 1)) for w, out in pairs)

    def forward(
        self, features: Sequence[Tensor], timesteps_b: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Map the features of `reads` to one tensor for each of `writes`."""
        found = dict(zip(self.reads, features, strict=True))
        time_bd = None
        if self.time is not None and timesteps_b is not None:
            waves = get_timestep_embedding(timesteps_b, _WAVES_WIDTH)
            time_bd = self.time(waves.to(features[0].dtype))
        signals = []
        for i, branch in enumerate(self.config.branches):
            x_bchw = self._entered(i, branch, found)
            for j in range(i * self.config.blocks, (i + 1) * self.config.blocks):
                x_bchw = self.body[j](x_bchw, time_bd)
            signals.append(self._closed(i, x_bchw))
        return tuple(signals)

    def _entered(self, i: int, branch: Branch, found: dict[str, Tensor]) -> Tensor:
        entries: Sequence[nn.Module] = list(self.entries[i].children())
        parts = [entry(found[site.name]) for entry, site in zip(entries, branch.reads, strict=True)]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]

    def _closed(self, i: int, x_bchw: Tensor) -> Tensor:
        fusion = self.config.fusion
        if fusion == "film":
            return self.zero_out[i](x_bchw.mean(dim=(2, 3), keepdim=True))
        if fusion != "cross-attention":
            return self.zero_out[i](x_bchw)
        height, width = x_bchw.shape[-2:]
        sides = (min(height, _MOST_TOKENS_SIDE), min(width, _MOST_TOKENS_SIDE))
        pooled = F.adaptive_avg_pool2d(x_bchw, sides)
        keys, values = self.to_tokens[i](pooled).flatten(2).transpose(1, 2).chunk(2, dim=2)
        return torch.cat([keys + _positions(sides, keys), values], dim=2)  # [b, n, 2d]

    @property
    def change(self) -> Change | None:
        """How a signal changes the features of its site; None where it is added."""
        return {
            "add": None,
            "spade": self._modulated,
            "film": self._modulated,
            "cross-attention": self._attended,
        }[self.config.fusion]

    def _modulated(self, i: int, hidden_bchw: Tensor, signals: Sequence[Tensor]) -> Tensor:
        gain, shift = signals[i].chunk(2, dim=1)
        sides = tuple(gain.shape[-2:])
        if sides not in ((1, 1), tuple(hidden_bchw.shape[-2:])):
            raise MapperFitError(
                f"gains of sides {sides} do not fit features of shape {tuple(hidden_bchw.shape)}; "
                "upgraded latents must have twice the base latents' sides"
            )
        return gain * hidden_bchw + shift

    def _attended(self, i: int, hidden_bchw: Tensor, signals: Sequence[Tensor]) -> Tensor:
        b, c, h, w = hidden_bchw.shape
        # queries do not depend on the size of features, which differs between sites
        places = F.layer_norm(hidden_bchw.flatten(2).transpose(1, 2), (c,))
        queries = self.to_queries[i](places)
        queries = queries + _positions((h, w), queries)
        keys, values = signals[i].to(queries).chunk(2, dim=2)
        found = F.scaled_dot_product_attention(_heads(queries), _heads(keys), _heads(values))
        found = found.transpose(1, 2).flatten(2)
        return self.zero_out[i](found).transpose(1, 2).reshape(b, c, h, w)


def _heads(x_bnd: Tensor) -> Tensor:
    return x_bnd.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2)


def _positions(sides: Sequence[int], like: Tensor) -> Tensor:
    """Return [n, d]: sines and cosines of both coordinates, alike for maps of different sizes."""
    # per head, so that each can find the same place of the other map
    n_waves = HEAD_WIDTH // 4
    waves = math.pi * 2.0 ** torch.linspace(0, 5, n_waves, device=like.device)
    y, x = (((torch.arange(s, device=like.device) + 0.5) / s)[:, None] * waves for s in sides)
    parts = [
        wave(axis)
        for axis in (
            y[:, None, :].expand(-1, sides[1], -1),
            x[None, :, :].expand(sides[0], -1, -1),
        )
        for wave in (torch.sin, torch.cos)
    ]
    return torch.cat(parts, dim=2).flatten(0, 1).repeat(1, HEADS).to(like.dtype)


def _entry(in_channels: int, width: int, doublings: int) -> nn.Module:
    """Return layers that change size and width, the size first, as the released mapper does."""
    sizes = [
        Doubling(in_channels) if doublings > 0 else Halving(in_channels)
        for _ in range(abs(doublings))
    ]
    return nn.Sequential(*sizes, nn.Conv2d(in_channels, width, 3, padding=1))


def _time_layers() -> nn.Module:
    return nn.Sequential(
        nn.Linear(_WAVES_WIDTH, _TIME_WIDTH), nn.SiLU(), nn.Linear(_TIME_WIDTH, _TIME_WIDTH)
    )


def _zeroed(layer: nn.Module) -> nn.Module:
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer
