"""The device on which a model computes, also while its weights wait in the CPU's memory.

A model that is moved to its device by a hook of its forward call has `model.device` "cpu" until
then; its inputs have to be on the other device already. A module of its own, since every module
that makes inputs needs it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_ATTRIBUTE = "execution_device"


def execution_device(model: Any) -> torch.device:
    """Return the device of a model's inputs and outputs; by default that of its weights."""
    declared = getattr(model, _ATTRIBUTE, None)
    if declared is None and not hasattr(model, "device"):  # a plain module
        return next((weight.device for weight in model.parameters()), torch.device("cpu"))
    return declared or model.device


def is_offloaded(model: nn.Module) -> bool:
    """Return whether a hook moves the model to its device when it is called."""
    return hasattr(model, _ATTRIBUTE)


def set_execution_device(model: nn.Module, device: str) -> None:
    """Declare that a hook moves the model to `device` when it is called."""
    setattr(model, _ATTRIBUTE, torch.device(device))
