"""The mapper F of X-Adapter: base decoder features in, offsets for the upgraded decoder out.

Source: X-Adapter, arXiv 2312.02238, section 3.3, equation 2 (three residual blocks per mapped
decoder layer). Keys and shapes of the state dict are those of the released checkpoint. Legend:
b rows of the UNet's batch, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from xadapter.errors import MapperFitError
from xadapter.layout import N_BRANCHES


class Doubling(nn.Module):
    """A transposed convolution that doubles both sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # stride 2 with kernel 3 and padding 1 gives 2h - 1 or 2h: `forward` names which
        self.op = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return [b, c, 2h, 2w].

        The reference forces four times the side of feature 0, which is the same number for even
        latent sides; twice the own side (ours) also fits odd ones.
        """
        height, width = x_bchw.shape[-2:]
        return self.op(x_bchw, output_size=[2 * height, 2 * width])


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), after an optional doubling and an optional change of width."""

    def __init__(self, in_channels: int, out_channels: int, *, doubles: bool) -> None:
        super().__init__()
        # the change of width; without one there is no such layer in the released checkpoint
        self.in_conv = (
            nn.Conv2d(in_channels, out_channels, 3, padding=1)
            if in_channels != out_channels
            else None
        )
        self.block1 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.block2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.up_opt = Doubling(in_channels) if doubles else None

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Map [b, in, h, w] to [b, out, h, w]; the sides double where the block doubles."""
        # order of the released code: doubling at the old width, change of width, residual
        if self.up_opt is not None:
            x_bchw = self.up_opt(x_bchw)
        if self.in_conv is not None:
            x_bchw = self.in_conv(x_bchw)
        # the residual starts after the change of width, so there is no projection beside it
        return x_bchw + self.block2(F.relu(self.block1(x_bchw)))


class Mapper(ModelMixin, ConfigMixin):
    """Three independent branches of residual blocks, each closed by a zero 1x1 convolution.

    Branch i turns base feature i (widths `in_channels[i]`) into the offset for injection site i of
    the upgraded model (widths `out_channels[i]`); branch 2 doubles the sides. A new mapper returns
    zeros, so the upgraded model's output stays bit-identical. The defaults are SD 1.5 to SDXL.
    Raises `MapperFitError` for another number of branches.

    >>> import torch
    >>> mapper = Mapper(in_channels=(8, 8, 4), out_channels=(16, 8, 8), n_blocks=1)
    >>> offsets = mapper([torch.ones(1, 8, 4, 4), torch.ones(1, 8, 8, 8), torch.ones(1, 4, 8, 8)])
    >>> [tuple(offset.shape) for offset in offsets]
    [(1, 16, 4, 4), (1, 8, 8, 8), (1, 8, 16, 16)]
    """

    @register_to_config
    def __init__(
        self,
        in_channels: Sequence[int] = (1280, 640, 320),
        out_channels: Sequence[int] = (1280, 1280, 640),
        n_blocks: int = 3,
    ) -> None:
        super().__init__()
        if len(in_channels) != N_BRANCHES or len(out_channels) != N_BRANCHES or n_blocks < 1:
            raise MapperFitError(
                f"a mapper has {N_BRANCHES} branches of at least one block, got in_channels "
                f"{tuple(in_channels)}, out_channels {tuple(out_channels)}, n_blocks {n_blocks}"
            )
        # one flat list, branch after branch, since the checkpoint numbers the blocks so
        self.body = nn.ModuleList(
            ResidualBlock(
                in_channels[i] if j == 0 else out_channels[i],
                out_channels[i],
                doubles=i == N_BRANCHES - 1 and j == 0,
            )
            for i in range(N_BRANCHES)
            for j in range(n_blocks)
        )
        # closing convolutions that start at zero (as in ControlNet, 2302.05543, section 3.1)
        self.zero_out = nn.ModuleList(nn.Conv2d(width, width, 1) for width in out_channels)
        for weight in self.zero_out.parameters():
            nn.init.zeros_(weight)

    @property
    def in_channels(self) -> tuple[int, ...]:
        """Widths of the three base features."""
        return tuple(self.config["in_channels"])

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Widths of the three offsets."""
        return tuple(self.config["out_channels"])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map three [b, in_i, h_i, w_i] features to three [b, out_i, ...] offsets (equation 2).

        Offsets 0 and 1 keep the sides of their features, offset 2 has twice the sides of feature 2.
        Raises `MapperFitError` for features of other widths.
        """
        # a base model of other widths would fail later, in a convolution, without a name
        widths = tuple(feature.shape[1] for feature in features)
        if widths != self.in_channels:
            raise MapperFitError(
                f"the mapper takes features of widths {self.in_channels}, got {widths}"
            )
        blocks, n_blocks = list(self.body), len(self.body) // N_BRANCHES
        offsets = []
        for i, feature in enumerate(features):
            # F_mapper^i = F_i(F_base^i): no branch reads another's feature
            x_bchw = feature
            for block in blocks[i * n_blocks : (i + 1) * n_blocks]:
                x_bchw = block(x_bchw)
            offsets.append(self.zero_out[i](x_bchw))
        return offsets[0], offsets[1], offsets[2]
