"""A loaded family: both pipelines and the mapper between them, frozen and on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import diffusers.utils.logging
import torch
import transformers.utils.logging
from diffusers import (
    AutoencoderKL,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import load_file
from torch import nn

from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from plugins_manifest.memory import is_out_of_memory, memory_explained
from plugins_manifest.schema.words import Side
from plugins_manifest.text import first_line, shortened
from runners.families.offload import Offload, Use
from runners.families.registry import no_sites
from xadapter.denoiser import Network
from xadapter.errors import SettingError, XAdapterError
from xadapter.flow import flow_solver, is_flow
from xadapter.load import load_mapper
from xadapter.placement import is_offloaded
from xadapter.sd3 import SD3Network
from xadapter.signals import weights_dtype
from xadapter.sites import check_fit
from xadapter.tensor_file import own_memory
from xadapter.vae import pixels_per_latent

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
TEXT_PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
DENOISERS = ("unet", "transformer")  # what a pipeline's denoising network is called
_PARTS = (*DENOISERS, "vae", *TEXT_PARTS)
Model = TypeVar("Model", bound=nn.Module)


class Pipeline(Protocol):
    """The parts of one model, by their names in diffusers.

    Each has a `vae`, a `scheduler`, a `tokenizer`, a `text_encoder` and, in diffusers' classes, an
    `encode_prompt`; its denoising network is that of `denoising_part`.
    """

    def __getattr__(self, name: str) -> Any: ...


_PIPELINES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (StableDiffusionPipeline, StableDiffusionXLPipeline, StableDiffusion3Pipeline)
}


_T5 = ("text_encoder_3", "tokenizer_3")
_NO_CHECKER: dict[str, Any] = {
    "safety_checker": None,
    "requires_safety_checker": False,
    "feature_extractor": None,
}


@dataclass(frozen=True)
class Family:
    """Two loaded pipelines and a mapper (None: methods with an adapter cannot run).

    `mappers` are several, by id, in place of the one.

    Each pipeline is SDXL's, or Stable Diffusion's (one text encoder, no size conditioning), and may
    predict epsilon or v, as configured in its scheduler; the upgraded one may also be SD3's, which
    predicts a velocity. With `one_layout` both are one architecture: the upgraded model is a
    fine-tune of the base, or the reverse.
    """

    name: str
    base: Pipeline
    upgraded: Pipeline
    mapper: nn.Module | None
    device: str
    dtype: str
    offload: Offload | None = None  # what moves the models, where they do not all fit the device
    mappers: Mapping[str, nn.Module] = field(default_factory=dict, hash=False)
    one_layout: bool = False

    def pipe(self, side: Side) -> Pipeline:
        """Return the pipeline of a side."""
        return self.base if side == "base" else self.upgraded

    def network(self, side: Side) -> Network:
        """Return the denoising network of a side, as a `xadapter.denoiser.Denoiser` calls it."""
        return network_of(self.pipe(side))

    def mapper_of(self, adapter: str | None) -> nn.Module | None:
        """Return the mapper of a variant's adapter; None if there is none."""
        return self.mapper if adapter is None else self.mappers.get(adapter)

    @property
    def all_mappers(self) -> tuple[nn.Module, ...]:
        """The mapper, or several, each once."""
        found = (self.mapper, *self.mappers.values())
        return tuple({id(one): one for one in found if one is not None}.values())

    def place(self, model: Model, *, use: Use) -> Model:
        """Freeze a plugin's network and move it where the models are that it runs beside."""
        if self.offload is None:
            return place(model, device=self.device, dtype=self.dtype)
        self.offload.add(place(model, device="cpu", dtype=self.dtype), use)
        return model


def denoising_part(pipe: Pipeline) -> tuple[str, Any]:
    """Return the name of a pipeline's denoising network in diffusers, and the network."""
    return next((name, own) for name in DENOISERS if (own := getattr(pipe, name, None)) is not None)


def network_of(pipe: Pipeline) -> Network:
    """Return the denoising network of a pipeline, as a `xadapter.denoiser.Denoiser` calls it."""
    name, own = denoising_part(pipe)
    return SD3Network(own) if name == "transformer" else own


def size_step_px(pipe: Pipeline) -> int:
    """Return what a picture's sides must be multiples of: one latent, or a patch of latents."""
    patch = denoising_part(pipe)[1].config.get("patch_size") or 1
    return pixels_per_latent(pipe.vae) * patch


def load_from_folders(
    name: str,
    *,
    base: Path,
    upgraded: Path,
    mapper: Path | None,
    device: str,
    dtype: str,
    upgraded_vae: Path | None = None,
    vae_config: Mapping[str, Any] | None = None,
    upgraded_changes: Path | None = None,
    one_layout: bool = False,
    configs: Path | None = None,
) -> Family:
    """Load a family from two diffusers pipeline folders and a mapper; safetensors only.

    A side may also be one safetensors file with the whole pipeline, in the published layout;
    `configs` is a pipeline folder with the configurations of its parts, and no weights.
    `upgraded_vae` is the folder of a VAE that replaces the upgraded pipeline's own, with the
    entries of `vae_config` (shift and scale of its latents) in place of its configuration's;
    `upgraded_changes` is a file of tensors, named MODEL.PARAMETER, that replace the pipeline's.
    Raises `UserError` for what is not a pipeline, for a mapper that does not fit, and, with
    `one_layout`, for two pipelines of different parameters.
    """
    torch_dtype = _torch_dtype(dtype)
    require_device(device)
    with _no_loading_bars(), memory_explained(f"the models of family {name!r}"):
        vae = None if upgraded_vae is None else _vae_from(upgraded_vae, torch_dtype, vae_config)
        read = partial(_pipeline_from, dtype=torch_dtype, configs=configs)
        base_pipe = read(base, side="base")
        upgraded_pipe = read(upgraded, side="upgraded", vae=vae)
        if upgraded_changes is not None:
            _replace_tensors(upgraded_pipe, upgraded_changes)
    if one_layout:
        _require_one_layout(name, base_pipe, upgraded_pipe)
    if mapper is not None and not isinstance(base_pipe, StableDiffusionPipeline):
        raise UserError(
            f"the base model of {name!r} is a {type(base_pipe).__name__}: X-Adapter starts from a "
            "StableDiffusionPipeline"
        )
    with memory_explained(f"the models of family {name!r}"):
        return make_family(
            name,
            base_pipe,
            upgraded_pipe,
            None if mapper is None else _mapper_from(mapper),
            device=device,
            dtype=dtype,
            one_layout=one_layout,
        )


def make_family(
    name: str,
    base: Pipeline,
    upgraded: Pipeline,
    mapper: nn.Module | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    one_layout: bool = False,
) -> Family:
    """Freeze two pipelines and a mapper, move them, and check that they fit.

    Raises `UserError` with both sets of channels if the mapper does not fit, and for a flow model
    whose scheduler is not supported.
    """
    for pipe in (base, upgraded):
        if is_flow(pipe.scheduler):
            _require_flow(name, pipe)
        if not isinstance(pipe, StableDiffusionXLPipeline):  # its VAE does not overflow
            pipe.vae.register_to_config(force_upcast=False)
        pipe.set_progress_bar_config(disable=True)
        for part in _PARTS:
            if (model := getattr(pipe, part, None)) is not None:
                # text encoders wait on the CPU: `text_encoders` moves them
                place(model, device="cpu" if part in TEXT_PARTS else device, dtype=dtype)
    family = Family(name, base, upgraded, mapper, device, dtype, one_layout=one_layout)
    if mapper is not None:
        place_mapper(mapper, family)
    return family


def _require_flow(name: str, pipe: Pipeline) -> None:
    try:
        flow_solver(pipe.scheduler)
    except SettingError as error:
        raise UserError(f"a model of {name!r}: {error}") from error


def place_mapper(mapper: nn.Module, family: Family) -> None:
    """Freeze a mapper and move it beside the models; raise `UserError` if it does not fit them."""
    if denoising_part(family.upgraded)[0] != "unet":
        raise UserError(str(no_sites(family.name)))
    try:
        check_fit(mapper, family.base.unet, family.upgraded.unet)
    except XAdapterError as error:
        raise UserError(
            f"{error}; give a mapper that was trained for the family {family.name!r}"
        ) from error
    place(mapper, device=family.device, dtype=family.dtype)


def load_mapper_of(family: Family, path: Path) -> nn.Module:
    """Load a mapper that a loaded family renders with; raise `UserError` if it does not fit."""
    with memory_explained(f"the mapper in {path.name}"):
        mapper = _mapper_from(path)
        place_mapper(mapper, family)
    return mapper


@contextmanager
def text_encoders(pipe: Pipeline) -> Iterator[None]:
    """Have a pipeline's text encoders beside its network; elsewhere they wait on the CPU.

    Those of SDXL have 1.6 GB in half precision, and encode for a moment alone.
    """
    device = denoising_part(pipe)[1].device
    models = [model for name in TEXT_PARTS if (model := getattr(pipe, name, None)) is not None]
    found = [model for model in models if not is_offloaded(model)]
    try:
        for model in found:
            model.to(device)
        yield
    finally:
        for model in found if device.type != "cpu" else ():
            model.to("cpu")


def place(model: Model, *, device: str, dtype: str) -> Model:
    """Freeze a model and move it to the device, with channels last for fast convolutions.

    Its weights are in memory of their own afterwards: changes of the files do not reach them.
    """
    model.eval().requires_grad_(False)
    if weights_dtype(model) != _torch_dtype(dtype):
        nn.Module.to(model, _torch_dtype(dtype))  # torch's own: diffusers' warns about any cast
    untyped: Any = model  # torch declares no memory_format for `to`
    return own_memory(untyped.to(device=device, memory_format=torch.channels_last))


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    """Hide the libraries' progress bars for reading local files; downloads keep theirs."""
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    were_enabled = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for library in libraries:
            library.disable_progress_bar()
        yield
    finally:
        for library, was_enabled in zip(libraries, were_enabled, strict=True):
            if was_enabled:
                library.enable_progress_bar()


def _replace_tensors(pipe: Pipeline, file: Path) -> None:
    own = {
        f"{part}.{name.removeprefix('text_model.')}": parameter  # a level of some transformers
        for part in _PARTS
        if (model := getattr(pipe, part, None)) is not None
        for name, parameter in model.named_parameters()
    }
    for key, value in load_file(file).items():
        own[key].data.copy_(value)


def _require_one_layout(name: str, base: Pipeline, upgraded: Pipeline) -> None:
    """Raise `UserError` unless the networks and text encoders have the same parameters."""
    found = [
        {
            f"{part}.{key}": tuple(value.shape)
            for part in (*DENOISERS, *TEXT_PARTS)
            if (model := getattr(pipe, part, None)) is not None
            for key, value in model.named_parameters()
        }
        for pipe in (base, upgraded)
    ]
    differing = [key for key in {**found[0], **found[1]} if found[0].get(key) != found[1].get(key)]
    if differing:
        raise UserError(
            f"the models of {name!r} are not of one layout: {len(differing)} parameters differ "
            f"({shortened(differing)}): give two checkpoints of one architecture"
        )


def _from_file(
    file: Path, dtype: torch.dtype, *, side: Side, configs: Path, vae: AutoencoderKL | None
) -> Pipeline:
    """Load a whole pipeline of one file; parts that the file lacks stay those of no model."""
    kind = read_json(configs / "model_index.json")["_class_name"]
    extra: dict[str, Any] = {} if vae is None else {"vae": vae}
    if kind == StableDiffusionPipeline.__name__:
        extra |= _NO_CHECKER
    try:
        return _PIPELINES[kind].from_single_file(
            str(file), config=str(configs), dtype=dtype, local_files_only=True, **extra
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"the {side} model in {file.name} cannot be loaded as a {kind} ({first_line(error)}): "
            "give a checkpoint of that architecture with UNet, VAE and text encoders"
        ) from error


def _pipeline_from(
    folder: Path,
    dtype: torch.dtype,
    *,
    side: Side,
    vae: AutoencoderKL | None = None,
    configs: Path | None = None,
) -> Pipeline:
    """Load a pipeline of the class in its model_index.json; prefer half-precision files."""
    if folder.is_file() and configs is not None:
        return _from_file(folder, dtype, side=side, configs=configs, vae=vae)
    index = folder / "model_index.json"
    try:
        kind = read_json(index).get("_class_name")
    except (UserError, AttributeError) as error:
        raise UserError(
            f"{folder.name} is not a diffusers pipeline folder: its model_index.json cannot be "
            f"read ({error})"
        ) from error
    if kind not in _PIPELINES:
        raise UserError(
            f"the {side} model in {folder.name} is a {kind}: use one of {', '.join(_PIPELINES)}"
        )
    extra: dict[str, Any] = {} if vae is None else {"vae": vae}
    if kind == StableDiffusionPipeline.__name__:
        extra |= _NO_CHECKER
    if kind == StableDiffusion3Pipeline.__name__:  # it runs without T5
        extra |= {name: None for name in _T5 if not (folder / name).is_dir()}
    has_half = any(folder.glob("*/*.fp16.safetensors"))
    try:
        return _PIPELINES[kind].from_pretrained(
            folder,
            dtype=dtype,
            variant="fp16" if has_half else None,
            use_safetensors=True,
            local_files_only=True,
            **extra,
        )
    except (OSError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"the {side} model in {folder.name} cannot be loaded ({first_line(error)}): fetch it "
            "again"
        ) from error


def _vae_from(
    folder: Path, dtype: torch.dtype, config: Mapping[str, Any] | None = None
) -> AutoencoderKL:
    try:
        vae = AutoencoderKL.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"the VAE in {folder.name} cannot be loaded ({first_line(error)}): fetch it again"
        ) from error
    vae.register_to_config(**(config or {}))
    return vae


def _mapper_from(path: Path) -> nn.Module:
    try:
        return load_mapper(path)
    except XAdapterError as error:
        raise UserError(str(error)) from error


def _torch_dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def require_device(device: str) -> None:
    """Raise `UserError` with the available devices unless torch can use `device`."""
    kind = device.split(":", maxsplit=1)[0]
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        names = ", ".join(name for name, is_available in available.items() if is_available)
        raise UserError(f"the device {device!r} is not available here: use one of {names}")
