"""diffusers' own loaders on models of real width and little depth, whose weights take no memory."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.loaders import lora_pipeline
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from tests.plugins_manifest.formats.test_names import script

_LOADERS = {
    "flux1": "FluxLoraLoaderMixin",
    "flux2": "Flux2LoraLoaderMixin",
    "sd3": "SD3LoraLoaderMixin",
    "qwen-image": "QwenImageLoraLoaderMixin",
    "z-image": "ZImageLoraLoaderMixin",
    "wan": "WanLoraLoaderMixin",
    "sana": "SanaLoraLoaderMixin",
    "unet": "StableDiffusionLoraLoaderMixin",
}
_OF_SDXL = "StableDiffusionXLLoraLoaderMixin"
_DEPTH = {"num_layers": 3, "num_single_layers": 3, "n_layers": 3}


def shallow(model: str) -> dict[str, nn.Module]:
    """Return the models of a pipeline by name: three blocks, all weights one zero."""
    tables: Any = script("make-model-tables")
    recipe = tables.MODELS[model]
    takes = inspect.signature(getattr(diffusers, recipe.cls).__init__).parameters
    config = {**recipe.config, **{name: n for name, n in _DEPTH.items() if name in takes}}
    if "dual_attention_layers" in config:
        config["dual_attention_layers"] = (0, 1)
    tables.MODELS[model] = recipe._replace(config=config)
    parts = tables.build(model)
    for module in (module for part in parts.values() for module in part.modules()):
        for name, weight in module._parameters.items():
            if weight is not None:
                zeros = torch.zeros(()).expand(weight.shape)
                module._parameters[name] = nn.Parameter(zeros, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)
    return parts


def loaded_modules(
    model: str, architecture: str, tensors: dict[str, np.ndarray]
) -> set[str] | Exception:
    """Return the modules that diffusers changes when it loads a file, or what it raises."""
    two_texts = model in ("sdxl", "ssd-1b")
    mixin = getattr(lora_pipeline, _OF_SDXL if two_texts else _LOADERS[architecture])
    parts = shallow(model)

    class Pipeline(mixin):
        _lora_loadable_modules = tuple(parts)
        components = parts
        hf_device_map = None
        text_encoder = text_encoder_2 = transformer_2 = None

    pipeline = Pipeline()
    for name, part in parts.items():
        setattr(pipeline, name, part)
    try:
        pipeline.load_lora_weights({k: torch.from_numpy(t.copy()) for k, t in tensors.items()})
    except (ValueError, RuntimeError, KeyError, IndexError, NotImplementedError) as error:
        return error
    return {
        f"{side}.{name.removeprefix('text_model.')}"
        for side, part in parts.items()
        for name, module in part.named_modules()
        if isinstance(module, BaseTunerLayer)
        and any(up.weight.abs().sum() > 0 for up in module.lora_B.values())
    }
