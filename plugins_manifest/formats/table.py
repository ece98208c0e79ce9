"""SD1.5's parameters, shipped as JSON: canonical name -> shape, of the UNet and the text encoder.

Written by scripts/make-sd15-table from diffusers' UNet2DConditionModel and transformers'
CLIPTextModel in SD1.5's configuration; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from plugins_manifest.documents import read_json
from plugins_manifest.formats.parsed import BaseModel, ModuleTable

TABLE_FILE = Path(__file__).with_name("sd15.json")
UNET, TEXT = "unet.", "text_encoder."
TEXT_2 = "text_encoder_2."  # SDXL's second one

CROSS_DIMS: Mapping[int, BaseModel] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl"})


@cache
def sd15_table() -> ModuleTable:
    """Return all parameters of SD1.5's UNet (686) and text encoder (196), in the model's order."""
    stored = read_json(TABLE_FILE)
    return MappingProxyType({name: tuple(shape) for name, shape in stored.items()})


def cross_dim(table: ModuleTable) -> int | None:
    """Return the width of the text that a UNet attends to, None without cross-attention."""
    for name, shape in table.items():
        if name.endswith("attn2.to_k.weight"):
            return shape[1]
    return None


def modules_of(table: ModuleTable) -> dict[str, None]:
    """Return the modules that have parameters, in the table's order."""
    return dict.fromkeys(name.rpartition(".")[0] for name in table)
