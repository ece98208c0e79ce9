"""Component offload (`--low-memory`): models wait in the CPU's memory until they are called.

Models of one use may be on the device together; a call of one evicts those of all other uses. Both
UNets, the mapper and the ControlNets run in every step of stage 2, so they have one use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import nn

from runners.device import empty_cache
from runners.options import TILE_PX
from xadapter.placement import set_execution_device

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

Use = Literal["conditions", "denoising", "pictures"]


class Offload:
    """Moves models to the device when they are called, and back to make room for others."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._uses: WeakKeyDictionary[nn.Module, Use] = WeakKeyDictionary()
        self._here: WeakSet[nn.Module] = WeakSet()
        self._start_bytes = self._most_bytes = 0

    def add(self, model: nn.Module, use: Use, *, calls: Iterable[nn.Module] = ()) -> None:
        """Let the model wait, and move it when it, or one of `calls` inside of it, is called."""
        self._uses[model] = use
        set_execution_device(model, str(self._device))
        self._move(model, torch.device("cpu"))
        found = ref(model)  # a hook that holds its model would keep it in memory

        def bring(_module: nn.Module, _inputs: Any) -> None:
            if (own := found()) is not None:
                self.bring(own)

        for module in (model, *calls):
            module.register_forward_pre_hook(bring)

    def add_vae(self, vae: AutoencoderKL) -> None:
        """Add a VAE, whose `encode` and `decode` call its parts, and cut large images in tiles."""
        parts = (vae.encoder, vae.decoder, vae.quant_conv, vae.post_quant_conv)
        self.add(vae, "pictures", calls=[part for part in parts if isinstance(part, nn.Module)])
        config: Any = vae.config
        vae.enable_tiling()
        vae.tile_sample_min_size = TILE_PX
        vae.tile_latent_min_size = TILE_PX // 2 ** (len(config.block_out_channels) - 1)

    def bring(self, model: nn.Module) -> None:
        """Move a model to the device, after those of other uses are moved away."""
        use = self._uses[model]
        if others := [other for other in self._here if self._uses[other] != use]:
            for other in others:
                self._send_away(other)
            empty_cache(str(self._device))
        # a plugin may have put modules of its own into a model that is on the device
        kind = self._device.type
        if model not in self._here or any(p.device.type != kind for p in model.parameters()):
            self._move(model, self._device)
            self._here.add(model)
            self._most_bytes = max(self._most_bytes, self._bytes_here())

    def evict(self) -> None:
        """Move all models away from the device."""
        for model in list(self._here):
            self._send_away(model)
        empty_cache(str(self._device))

    def restart(self) -> None:
        """Let `grown_bytes` begin at the weights that are on the device now."""
        self._start_bytes = self._most_bytes = self._bytes_here()

    @property
    def grown_bytes(self) -> int:
        """How much more bytes of weights were on the device at once than at the last restart."""
        return self._most_bytes - self._start_bytes

    @property
    def missing_bytes(self) -> int:
        """How much more bytes the weights of the largest use have than those on the device."""
        sizes: dict[Use, int] = {}
        for model, use in self._uses.items():
            sizes[use] = sizes.get(use, 0) + _n_bytes(model)
        return max(sizes.values(), default=0) - self._bytes_here()

    def _bytes_here(self) -> int:
        return sum(_n_bytes(model) for model in self._here)

    def _send_away(self, model: nn.Module) -> None:
        self._move(model, torch.device("cpu"))
        self._here.discard(model)

    def _move(self, model: nn.Module, device: torch.device) -> None:
        model.to(device)


def _n_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
