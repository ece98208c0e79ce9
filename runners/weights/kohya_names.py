"""Names of modules in kohya's LoRA files: `lora_unet_` and `lora_te_`, dots as underscores.

The table is made from the model itself, so nothing is parsed. Text encoders are written with
`text_model.` in the file, whether or not the installed transformers has that level.
"""

from __future__ import annotations

from torch import nn

from runners.weights.errors import PluginWeightsError

UNET_PREFIX, TEXT_PREFIX = "lora_unet_", "lora_te_text_model_"
_TEXT_LEVEL = "text_model."


def kohya_table(unet: nn.Module, text_encoder: nn.Module | None) -> dict[str, nn.Parameter]:
    """Kohya module name -> weight of every linear layer and convolution of the base side.

    Raises `PluginWeightsError` where two modules would have one name.
    """
    table: dict[str, nn.Parameter] = {}
    _add(table, unet, UNET_PREFIX)
    if text_encoder is not None:
        _add(table, text_encoder, TEXT_PREFIX)
    return table


def _add(table: dict[str, nn.Parameter], model: nn.Module, prefix: str) -> None:
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        key = prefix + name.removeprefix(_TEXT_LEVEL).replace(".", "_")
        if key in table:
            raise PluginWeightsError(f"two modules of the model are named {key} in a LoRA file")
        table[key] = model.get_parameter(f"{name}.weight")
