"""Parameters of the known models, shipped as JSON: canonical name -> shape, UNet and text encoders.

Written by scripts/make-model-tables from diffusers' UNet2DConditionModel and transformers' CLIP
text encoders in the published configurations; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from plugins_manifest.documents import read_json
from plugins_manifest.formats.parsed import BaseModel, ModuleTable

UNET, TEXT = "unet.", "text_encoder."
TEXT_2 = "text_encoder_2."  # SDXL's second one
ModelName = Literal["sd15", "sd21", "sdxl"]

CROSS_DIMS: Mapping[int, BaseModel] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl"})
BASES: Mapping[BaseModel, ModelName] = MappingProxyType(
    {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}
)


def table_file(name: ModelName) -> Path:
    """Return the path of a model's table."""
    return Path(__file__).with_name(f"{name}.json")


@cache
def model_table(name: ModelName) -> ModuleTable:
    """Return all parameters of a model, in the model's order."""
    stored = read_json(table_file(name))
    return MappingProxyType({key: tuple(shape) for key, shape in stored.items()})


def sd15_table() -> ModuleTable:
    """Return all parameters of SD1.5's UNet (686) and text encoder (196)."""
    return model_table("sd15")


def cross_dim(table: ModuleTable) -> int | None:
    """Return the width of the text that a UNet attends to, None without cross-attention."""
    for name, shape in table.items():
        if name.endswith("attn2.to_k.weight"):
            return shape[1]
    return None


def modules_of(table: ModuleTable) -> dict[str, None]:
    """Return the modules that have parameters, in the table's order."""
    return dict.fromkeys(name.rpartition(".")[0] for name in table)
