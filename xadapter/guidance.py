"""Classifier-free guidance and its rescaling.

Sources: Ho and Salimans, arXiv 2207.12598, equation 6 (in the form u + g (c - u)); Lin et al.,
arXiv 2305.08891, section 3.4, equations 15 and 16 (rescaling).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """Guidance of one model: `scale` g (off where g <= 1) and `rescale`, a weight in [0, 1]."""

    scale: float = 7.5
    rescale: float = 0.0

    @property
    def is_on(self) -> bool:
        """True if the model runs on an unconditional and a conditional half."""
        return self.scale > 1.0


def guide(unconditional_bchw: Tensor, conditional_bchw: Tensor, guidance: Guidance) -> Tensor:
    """Combine the unconditional and the conditional prediction [b, c, h, w] into the guided one."""
    # u + g (c - u): equation 6 of 2207.12598, whose w is g - 1
    guided = unconditional_bchw + guidance.scale * (conditional_bchw - unconditional_bchw)
    if guidance.rescale == 0.0:
        return guided
    # equation 15: each image's prediction gets the standard deviation of c, over c, h and w
    axes = tuple(range(1, guided.ndim))
    ratio = conditional_bchw.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    # equation 16: a mix, since full rescaling makes images look plain
    return guidance.rescale * (guided * ratio) + (1.0 - guidance.rescale) * guided
