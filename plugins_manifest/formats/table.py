"""Parameters of the known models, shipped as JSON: name -> shape, of denoiser and text encoders.

Written by scripts/make-model-tables from diffusers' models and transformers' CLIP text encoders in
the published configurations; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

from plugins_manifest.documents import read_json
from plugins_manifest.formats.catalog import CATALOG
from plugins_manifest.formats.parsed import BaseModel, ModuleTable

UNET, TEXT = "unet.", "text_encoder."
TEXT_2 = "text_encoder_2."  # SDXL's second one
TRANSFORMER = "transformer."
ModelName = str  # of the catalog
CROSS_DIMS: Mapping[int, BaseModel] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl"})
BASES: Mapping[BaseModel, ModelName] = MappingProxyType(
    {model.label or model.name: model.name for model in CATALOG}
)
_RANGE = re.compile(r"\{(\d+)-(\d+)\}")


def table_file(name: ModelName) -> Path:
    """Return the path of a model's table."""
    return Path(__file__).parent / "models" / f"{name}.json"


@cache
def model_table(name: ModelName) -> ModuleTable:
    """Return all parameters of a model; those of SD1.5, SD2.1 and SDXL in the model's order."""
    return MappingProxyType(dict(expanded(read_json(table_file(name)))))


def expanded(stored: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every parameter of a stored table, where `{0-18}` stands for each of these numbers."""
    for pattern, shape in stored.items():
        found = _RANGE.search(pattern)
        if found is None:
            yield pattern, tuple(shape)
            continue
        start, end = pattern[: found.start()], pattern[found.end() :]
        for number in range(int(found[1]), int(found[2]) + 1):
            yield f"{start}{number}{end}", tuple(shape)


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
