"""The parameters of a model in a pipeline's folder, from the headers of its files alone."""

from __future__ import annotations

from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.parsed import ModuleTable

_DENOISERS = ("unet", "transformer")
_MODELS = (*_DENOISERS, "text_encoder", "text_encoder_2")
_BUFFERS = (".position_ids",)  # in older files, and no parameter


def folder_table(folder: Path) -> ModuleTable | None:
    """Return the parameters of a pipeline's UNet or transformer and of its CLIP text encoders; None
    if they cannot be read.
    """
    table: dict[str, tuple[int, ...]] = {}
    try:
        for model in _MODELS:
            for weights in sorted((folder / model).glob("*.safetensors")):
                for name, info in read_header(weights).tensors.items():
                    if not name.endswith(_BUFFERS):
                        table[f"{model}.{name.removeprefix('text_model.')}"] = info.shape
    except UserError:
        return None
    has_denoiser = any(name.partition(".")[0] in _DENOISERS for name in table)
    return table if has_denoiser else None
