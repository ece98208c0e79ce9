"""Load a mapper: diffusers folders, safetensors files, and the released checkpoint.

Only tensors are unpickled (`weights_only=True`). The configuration follows from the shapes.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from plugins_manifest.memory import is_out_of_memory
from plugins_manifest.text import first_line
from xadapter.errors import MapperFileError
from xadapter.layout import mapper_file, mapper_layout
from xadapter.mapper import Mapper
from xadapter.tensor_file import read_tensor_file


def load_mapper(path: Path | str, *, dtype: torch.dtype | None = None) -> Mapper:
    """Load a mapper from a diffusers folder, a .safetensors file or a released .bin / .ckpt.

    Returns it in evaluation mode, frozen, in `dtype` (None: as stored). Raises `MapperFileError`
    for a missing or unreadable file, and with the names and shapes that differ from a mapper's. The
    tensors are in memory of their own: changes of the file do not reach them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Mapper(in_channels=(8, 8, 4), out_channels=(8, 8, 4)).save_pretrained(folder)
    ...     load_mapper(folder).in_channels
    (8, 8, 4)
    """
    file = mapper_file(Path(path))
    state = _tensors(_read(file), file)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    layout = mapper_layout(shapes, source=str(file))
    with torch.device("meta"):
        mapper = Mapper(layout.in_channels, layout.out_channels, layout.n_blocks)
    bare = {name: state[key] for name, key in layout.stored_names.items()}
    mapper.load_state_dict(bare, assign=True)
    mapper.eval().requires_grad_(False)
    if dtype is not None:
        nn.Module.to(mapper, dtype=dtype)
    return mapper


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return read_tensor_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            raise
        raise MapperFileError(
            f"{file} cannot be read as tensors ({first_line(error)}): download it again, or "
            "save its state dict as safetensors"
        ) from error


def _tensors(state: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, unwrapped."""
    if not isinstance(state, Mapping):
        raise MapperFileError(f"{file} holds a {type(state).__name__}, not a dictionary of tensors")
    for wrapper in ("state_dict", "model", "module"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}
