"""Reading a mapper from a file: our own folders, safetensors, and the released checkpoint.

Nothing is unpickled but tensors (`weights_only=True`). Where no config.json lies beside the
weights, the configuration follows from their shapes.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from xadapter.errors import MapperFileError
from xadapter.mapper import N_BRANCHES, Mapper

FOLDER_WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
N_SHOWN = 4


def load_mapper(path: Path | str, *, dtype: torch.dtype | None = None) -> Mapper:
    """Load a mapper from a diffusers folder, a .safetensors file or a released .bin / .ckpt.

    Returns it in evaluation mode, frozen, in `dtype` (None: as stored). Raises `MapperFileError`
    naming the keys and shapes that are not a mapper's.
    """
    path = Path(path)
    file = path / FOLDER_WEIGHTS if path.is_dir() else path
    if not file.exists():
        raise MapperFileError(f"there is no mapper at {file}: check the path")
    state = _bare(_read(file), file)
    config = mapper_config(state, source=str(file))
    with torch.device("meta"):
        mapper = Mapper(**config)
    _check_state(mapper, state, str(file))
    mapper.load_state_dict(state, assign=True)
    mapper.eval().requires_grad_(False)
    if dtype is not None:
        nn.Module.to(mapper, dtype=dtype)
    return mapper


def mapper_config(state: Mapping[str, Tensor], *, source: str = "the state") -> dict[str, Any]:
    """Read `Mapper`'s arguments off a state dict's shapes; `MapperFileError` where it is none."""
    blocks = {int(m[1]) for key in state if (m := re.match(r"body\.(\d+)\.", key))}
    ends = [state.get(f"zero_out.{i}.weight") for i in range(N_BRANCHES)]
    if not blocks or len(blocks) % N_BRANCHES or any(end is None for end in ends):
        shown = ", ".join(sorted(state)[:N_SHOWN]) or "none"
        raise MapperFileError(
            f"{source} holds no mapper: expected body.N.block1.weight for N in three branches and "
            f"zero_out.0 to zero_out.{N_BRANCHES - 1}, found {len(state)} keys ({shown}, ...)"
        )
    n_blocks = len(blocks) // N_BRANCHES
    outs = tuple(int(end.shape[0]) for end in ends if end is not None)
    ins = []
    for i, out in enumerate(outs):
        first = state.get(f"body.{i * n_blocks}.in_conv.weight")
        ins.append(out if first is None else int(first.shape[1]))
    return {"in_channels": tuple(ins), "out_channels": outs, "n_blocks": n_blocks}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix in PICKLED_SUFFIXES:
            return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise MapperFileError(
            f"{file} cannot be read as tensors ({str(error).splitlines()[0]}): fetch it again, or "
            "save its state dict as safetensors"
        ) from error
    known = ", ".join((".safetensors", *PICKLED_SUFFIXES))
    raise MapperFileError(f"{file} has an unknown ending; a mapper is a folder or one of {known}")


def _bare(state: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The tensors under the mapper's own names: unwrapped, common prefixes dropped."""
    if not isinstance(state, Mapping):
        raise MapperFileError(f"{file} holds a {type(state).__name__}, not a dictionary of tensors")
    for wrapper in ("state_dict", "model", "module"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    pattern = re.compile(r"^.*?(?=(?:body|zero_out)\.\d+\.)")
    return {pattern.sub("", k): v for k, v in state.items() if isinstance(v, Tensor)}


def _check_state(mapper: Mapper, state: Mapping[str, Tensor], source: str) -> None:
    expected = {key: tuple(value.shape) for key, value in mapper.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    problems = []
    if missing := sorted(expected.keys() - found.keys()):
        problems.append(f"missing {_shown(missing)}")
    if extra := sorted(found.keys() - expected.keys()):
        problems.append(f"unknown {_shown(extra)}")
    wrong = [k for k in sorted(expected.keys() & found.keys()) if expected[k] != found[k]]
    if wrong:
        problems.append(
            "wrong shapes: "
            + _shown([f"{k} is {found[k]}, a mapper's is {expected[k]}" for k in wrong])
        )
    if problems:
        raise MapperFileError(f"{source} is not a mapper: " + "; ".join(problems))


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else ""
    return ", ".join(names[:N_SHOWN]) + more
