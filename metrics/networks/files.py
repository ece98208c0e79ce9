"""Tensors of weight files: safetensors, or torch files read with `weights_only`, never pickles."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from metrics.base import MetricUnavailableError
from metrics.device import device_name
from plugins_manifest.memory import memory_explained
from plugins_manifest.text import first_line, shortened
from xadapter.tensor_file import own_memory, read_tensor_file

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read name -> tensor from a file, out of wrappers, without the prefix "module.".

    Raises MetricUnavailableError for files that hold more than tensors.
    """
    if path.suffix == ".safetensors":
        with memory_explained(path.name):
            return read_tensor_file(path)
    try:
        with memory_explained(path.name):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise MetricUnavailableError(
            f"{path.name} holds more than tensors ({first_line(error)}): get one that "
            "torch.load(weights_only=True) reads, or a safetensors file"
        ) from error
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    return {key.removeprefix("module."): value for key, value in content.items()}


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> nn.Module:
    """Put every tensor into the network, none missing and none left over; ready for questions.

    Raises MetricUnavailableError that names keys which do not fit.
    """
    own = network.state_dict()
    wrong = [
        *(f"lacks {key}" for key in own if key not in tensors),
        *(f"has {key} too much" for key in tensors if key not in own),
        *(
            f"{key} has shape {tuple(tensors[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in tensors and own[key].shape != tensors[key].shape
        ),
    ]
    if wrong:
        raise MetricUnavailableError(f"{what} does not fit its network: it {shortened(wrong)}")
    network.load_state_dict(dict(tensors))
    return ready(network)


def ready(network: nn.Module) -> nn.Module:
    """Return the network in float32 and evaluation mode, without gradients, on the device.

    Its weights are in memory of their own.
    """
    return own_memory(network.float().eval().requires_grad_(False).to(device()))


def device() -> torch.device:
    """Return the device of metrics; raise MetricUnavailableError if it does not exist."""
    name = device_name()
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MetricUnavailableError(
            f"the metrics' device is {name}, but there is no GPU: use --metric-device cpu, and "
            "unset XBENCH_METRIC_DEVICE"
        )
    return torch.device(name)


def batch_of(pictures: Iterable[np.ndarray]) -> Tensor:
    """Return pictures [H, W, 3] of one size as a float32 batch [N, 3, H, W] on the device.

    It is contiguous: for another memory layout PyTorch takes kernels that round differently.
    """
    x_bhwc = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    return torch.from_numpy(np.ascontiguousarray(x_bhwc.transpose(0, 3, 1, 2))).to(device())


def preprocessed(pictures: Sequence[np.ndarray], preprocess: Any) -> Tensor:
    """Return uint8 pictures [H, W, 3] as a batch on the device, by a transform of PIL images."""
    return torch.stack([preprocess(Image.fromarray(p)) for p in pictures]).to(device())


def pretrained(kind: Any, folder: Path) -> Any:
    """Load a network of transformers from a folder with config.json and model.safetensors."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with memory_explained(folder.name):
        network, loading = kind.from_pretrained(
            os.fspath(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    missing = sorted(loading["missing_keys"])
    if missing:
        raise MetricUnavailableError(f"{folder.name} lacks {', '.join(missing[:4])}")
    return ready(network)
