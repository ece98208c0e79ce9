"""Kohya's names of the base side's modules: `lora_unet_` and `lora_te_`, dots as underscores."""

from __future__ import annotations

from torch import nn

from runners.weights.engine import parameters_of


def kohya_names(unet: nn.Module, text_encoder: nn.Module | None) -> dict[str, str]:
    """Kohya module -> canonical name of its weight, of every linear layer and convolution."""
    names = {}
    models = (("unet", unet), ("text_encoder", text_encoder))
    for target, parameter in parameters_of(models).items():
        if target.endswith(".weight") and parameter.ndim in (2, 4) and "embedding." not in target:
            module = target.removesuffix(".weight").replace(".", "_")
            text = module.removeprefix("text_encoder_")
            names[f"lora_te_text_model_{text}" if text != module else f"lora_{module}"] = target
    return names


def kohya_table(unet: nn.Module, text_encoder: nn.Module | None) -> dict[str, nn.Parameter]:
    """Kohya module -> the weight itself."""
    parameters = parameters_of((("unet", unet), ("text_encoder", text_encoder)))
    return {name: parameters[target] for name, target in kohya_names(unet, text_encoder).items()}
