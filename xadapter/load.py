"""Load and save mappers: diffusers folders, safetensors files, and the released checkpoint.

Only tensors are unpickled (`weights_only=True`). The configuration of the released layout follows
from the shapes, any other is in the file (`xadapter.kinds`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from plugins_manifest.files import replacing
from plugins_manifest.memory import is_out_of_memory
from plugins_manifest.text import first_line, shortened
from xadapter.errors import MapperFileError
from xadapter.kinds import METADATA_KEY, Architecture, architecture_of, build, read_architecture
from xadapter.layout import FOLDER_WEIGHTS, check_shapes, mapper_file, mapper_layout
from xadapter.mapper import Mapper
from xadapter.tensor_file import read_tensor_file


def load_mapper(path: Path | str, *, dtype: torch.dtype | None = None) -> nn.Module:
    """Load a mapper from a diffusers folder, a .safetensors file or a released .bin / .ckpt.

    Returns it in evaluation mode, frozen, in `dtype` (None: as stored). Raises `MapperFileError`
    for a missing or unreadable file, and with the names and shapes that differ from a mapper's;
    `UserError` where its architecture is not installed. The tensors are in memory of their own:
    changes of the file do not reach them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Mapper(in_channels=(8, 8, 4), out_channels=(8, 8, 4)).save_pretrained(folder)
    ...     load_mapper(folder).in_channels
    (8, 8, 4)
    """
    file = mapper_file(Path(path))
    state = _tensors(_read(file), file)
    architecture = _architecture(file)
    mapper = _released(state, file) if architecture is None else _built(architecture, state, file)
    mapper.eval().requires_grad_(False)
    if dtype is not None:
        nn.Module.to(mapper, dtype=dtype)
    return mapper


def save_mapper(mapper: nn.Module, folder: Path) -> None:
    """Write a mapper's folder, from which `load_mapper` loads it.

    Raises `MapperFileError` for a mapper of another class that no installed kind has built.
    """
    if isinstance(mapper, Mapper):
        with replacing(folder) as draft:
            mapper.save_pretrained(draft)
        return
    architecture = architecture_of(mapper)
    if architecture is None:
        raise MapperFileError(
            f"a {type(mapper).__name__} cannot be saved, since nothing names its architecture: "
            "build it with xadapter.kinds.build, or save its state dict"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # copies: safetensors refuses tensors that share memory, such as tied weights
    contiguous = {"memory_format": torch.contiguous_format}
    weights = mapper.state_dict().items()
    state = {name: weight.detach().cpu().clone(**contiguous) for name, weight in weights}
    # one entry: safetensors writes several in no fixed order
    with replacing(folder / FOLDER_WEIGHTS) as draft:
        save_file(state, draft, metadata={METADATA_KEY: architecture.to_json()})


def _architecture(file: Path) -> Architecture | None:
    if file.suffix != ".safetensors":
        return None
    with safe_open(file, framework="pt") as opened:
        return read_architecture(opened.metadata() or {}, source=str(file))


def _released(state: Mapping[str, Tensor], file: Path) -> nn.Module:
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    layout = mapper_layout(shapes, source=str(file))
    with torch.device("meta"):
        mapper = Mapper(layout.in_channels, layout.out_channels, layout.n_blocks)
    bare = {name: state[key] for name, key in layout.stored_names.items()}
    mapper.load_state_dict(bare, assign=True)
    return mapper


def _built(architecture: Architecture, state: Mapping[str, Tensor], file: Path) -> nn.Module:
    """Return a mapper of an architecture with a file's tensors, whose shapes it must have."""
    try:
        with torch.device("meta"):
            mapper = build(architecture)
    except UserError as error:
        raise MapperFileError(f"{file}: {error}") from error
    expected = {name: tuple(value.shape) for name, value in mapper.state_dict().items()}
    check_shapes(expected, {k: tuple(v.shape) for k, v in state.items()}, str(file))
    mapper.load_state_dict(state, assign=True)
    tensors = (*mapper.named_parameters(), *mapper.named_buffers())
    if left := [name for name, tensor in tensors if tensor.is_meta]:
        raise MapperFileError(
            f"{file}: {type(mapper).__name__} has tensors that its files lack: {shortened(left)}; "
            "register buffers as persistent ones"
        )
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
