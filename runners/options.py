"""Options of a device that may change pixels by rounding, as `xbench run` takes them.

Imports no torch: the command line makes them, and processes that render receive them.
"""

from __future__ import annotations

from dataclasses import dataclass

TILE_PX = 1024  # a VAE needs less for such a tile than a step of both UNets, with its weights


@dataclass(frozen=True)
class DeviceOptions:
    """How the models use a device; pixels may differ by rounding.

    `compile` compiles the repeated blocks of both UNets and the mapper's; with `low_memory` only
    the models in use are on the device, and VAEs cut large images in tiles.
    """

    compile: bool = False
    low_memory: bool = False

    def marks(self, device: str, largest_px: int) -> tuple[str, ...]:
        """Return the words of a render context for what changes pixels at sides up to this."""
        is_tiled = self.low_memory and device != "cpu" and largest_px > TILE_PX
        return (*(["compiled"] if self.compile else []), *(["tiled"] if is_tiled else []))

    @classmethod
    def of_context(cls, context: str) -> DeviceOptions:
        """Return the options with which a run of this render context gives the same pixels."""
        words = context.split("-")
        return cls(compile="compiled" in words, low_memory="tiled" in words)
