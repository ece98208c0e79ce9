"""The parameters of a model in a pipeline's folder, from the headers of its files alone."""

from __future__ import annotations

from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.parsed import ModuleTable

_MODELS = ("unet", "text_encoder", "text_encoder_2")
_BUFFERS = (".position_ids",)  # in older files, and no parameter


def folder_table(folder: Path) -> ModuleTable | None:
    """Return the parameters of a pipeline's UNet and text encoders; None if they cannot be read."""
    table: dict[str, tuple[int, ...]] = {}
    try:
        for model in _MODELS:
            for weights in sorted((folder / model).glob("*.safetensors")):
                for name, info in read_header(weights).tensors.items():
                    if not name.endswith(_BUFFERS):
                        table[f"{model}.{name.removeprefix('text_model.')}"] = info.shape
    except UserError:
        return None
    return table if any(name.startswith("unet.") for name in table) else None
