"""Train a style LoRA on a frozen UNet with peft and write it in kohya's file format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from plugins_manifest.files import replacing

RANK = 16
TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    *("proj_in", "proj_out", "conv1", "conv2"),
)


def add_lora(unet: Any, *, rank: int = RANK) -> None:
    """Freeze a UNet and add trainable low-rank layers to it, with alpha equal to the rank."""
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(
            r=rank,
            lora_alpha=rank,
            init_lora_weights="gaussian",
            target_modules=list(TARGETS),
        )
    )


def kohya_state(unet: Any) -> dict[str, Tensor]:
    """Return the trained layers under kohya's names (`lora_down`, `lora_up`, `alpha`), float16."""
    factors: dict[str, dict[str, Tensor]] = {}
    for key, value in get_peft_model_state_dict(unet).items():
        module, part, _ = key.rsplit(".", 2)
        factors.setdefault(module, {})[part] = value.detach()
    state: dict[str, Tensor] = {}
    for module, own in factors.items():
        state |= kohya_layer(f"lora_unet_{module}", down=own["lora_A"], up=own["lora_B"])
    return state


def kohya_layer(module: str, *, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    """Return a layer's tensors in kohya's format, float16, at scale 1: alpha is the rank.

    `module` begins with kohya's prefix of the model; dots become underscores.
    """
    name = module.replace(".", "_")
    return {
        f"{name}.lora_down.weight": down.half().cpu().contiguous(),
        f"{name}.lora_up.weight": up.half().cpu().contiguous(),
        f"{name}.alpha": torch.tensor(float(len(down)), dtype=torch.float16),
    }


def kohya_metadata(
    *, rank: int, name: str, trigger: str | None, base_version: str
) -> dict[str, str]:
    """Return the metadata that kohya's trainer records."""
    words = {} if trigger is None else {"modelspec.trigger_phrase": trigger}
    return words | {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_base_model_version": base_version,
        "ss_output_name": name,
    }


def write_lora(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a LoRA file; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        save_file(dict(state), draft, metadata=dict(metadata))
