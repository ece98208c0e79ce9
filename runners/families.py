"""A family: the base and the upgraded pipeline and the mapper between them, frozen and placed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers.utils.logging
import torch
import transformers.utils.logging
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import nn

from plugins_manifest.errors import UserError
from runners.fingerprint import find_family
from runners.hub_family import HubModel
from xadapter.errors import XAdapterError
from xadapter.mapper import Mapper
from xadapter.sites import check_fit
from xadapter.weights import load_mapper

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_BASE_PARTS = ("unet", "vae", "text_encoder")
_UPGRADED_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Family:
    """Two loaded pipelines and a mapper (None: methods that use an adapter cannot run)."""

    name: str
    base: StableDiffusionPipeline
    upgraded: StableDiffusionXLPipeline
    mapper: Mapper | None
    device: str
    dtype: str


def load_family(
    name: str, *, device: str = "cpu", dtype: str = "float32", adapter: Path | None = None
) -> Family:
    """Load a family by name; `adapter` replaces its mapper (a folder, .safetensors or .bin).

    Raises `UserError` for unknown names, missing files, and a mapper that does not fit.
    """
    return find_family(name).load(device=device, dtype=dtype, adapter=adapter)


def load_from_folders(
    name: str, *, base: Path, upgraded: Path, mapper: Path | None, device: str, dtype: str
) -> Family:
    """Load a family from two diffusers pipeline folders and a mapper."""
    torch_dtype = _torch_dtype(dtype)
    _require_device(device)
    with _no_loading_bars():
        base_pipe = StableDiffusionPipeline.from_pretrained(
            base, dtype=torch_dtype, local_files_only=True
        )
        upgraded_pipe = StableDiffusionXLPipeline.from_pretrained(
            upgraded, dtype=torch_dtype, local_files_only=True
        )
    return make_family(
        name, base_pipe, upgraded_pipe, _mapper_from(mapper), device=device, dtype=dtype
    )


def load_from_hub(
    name: str, *, base: HubModel, upgraded: HubModel, mapper: Path | None, device: str, dtype: str
) -> Family:
    """Load a family from the Hub (or its cache), both sides at pinned commits, safetensors only."""
    _require_device(device)
    return make_family(
        name,
        _from_hub(StableDiffusionPipeline, base, dtype),
        _from_hub(StableDiffusionXLPipeline, upgraded, dtype),
        _mapper_from(mapper),
        device=device,
        dtype=dtype,
    )


def make_family(
    name: str,
    base: StableDiffusionPipeline,
    upgraded: StableDiffusionXLPipeline,
    mapper: Mapper | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
) -> Family:
    """Freeze two pipelines and a mapper, move them, and check that they fit.

    Raises `UserError` with both sets of channels where the mapper does not.
    """
    for pipe, parts in ((base, _BASE_PARTS), (upgraded, _UPGRADED_PARTS)):
        pipe.set_progress_bar_config(disable=True)
        for part in parts:
            place(getattr(pipe, part), device=device, dtype=dtype)
    if mapper is not None:
        try:
            check_fit(mapper, base.unet, upgraded.unet)
        except XAdapterError as error:
            raise UserError(
                f"{error}; give a mapper that was trained for the family {name!r}"
            ) from error
        place(mapper, device=device, dtype=dtype)
    return Family(name, base, upgraded, mapper, device, dtype)


def place(model: Any, *, device: str, dtype: str) -> Any:
    """Freeze a model and move it, convolutions in the memory layout that is fast for them."""
    model.eval().requires_grad_(False)
    if model.dtype != _torch_dtype(dtype):
        nn.Module.to(model, _torch_dtype(dtype))  # torch's own: diffusers' warns about any cast
    return model.to(device=device, memory_format=torch.channels_last)


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    """Hide the libraries' bars over files that are read in a second (downloads keep theirs)."""
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for library in libraries:
            library.disable_progress_bar()
        yield
    finally:
        for library, was_shown in zip(libraries, shown, strict=True):
            if was_shown:
                library.enable_progress_bar()


def _from_hub(kind: Any, model: HubModel, dtype: str) -> Any:
    extra: dict[str, Any] = {}
    if kind is StableDiffusionPipeline:
        extra = {"safety_checker": None, "requires_safety_checker": False}
    try:
        return kind.from_pretrained(
            model.repository,
            revision=model.revision,
            dtype=_torch_dtype(dtype),
            variant="fp16",
            use_safetensors=True,
            **extra,
        )
    except OSError as error:
        raise UserError(
            f"{model.repository} at {model.revision} cannot be loaded "
            f"({str(error).splitlines()[0]}): check the network, HF_ENDPOINT and HF_HOME, or fill "
            "the cache on another machine and set HF_HUB_OFFLINE=1"
        ) from error


def _mapper_from(path: Path | None) -> Mapper | None:
    if path is None:
        return None
    try:
        return load_mapper(path)
    except XAdapterError as error:
        raise UserError(str(error)) from error


def _torch_dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _require_device(device: str) -> None:
    kind = device.split(":", maxsplit=1)[0]
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        names = ", ".join(name for name, there in available.items() if there)
        raise UserError(f"the device {device!r} is not available here: use one of {names}")
