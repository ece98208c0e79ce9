"""Reading a plugin's tensors: safetensors alone, nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.base import PluginFile


def read_tensors(file: PluginFile, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file of a plugin; `UserError` if it is missing or another."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"plugin {file.plugin_id!r}: there is no file {str(path)!r}") from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"plugin {file.plugin_id!r}: {path.name} is not a safetensors file ({error}); pickled "
            "weights are never opened, convert the file to safetensors"
        ) from error
