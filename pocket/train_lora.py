"""Train a style LoRA on a frozen UNet with peft and write it in kohya's file format."""

from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from plugins_manifest.files import replacing
from pocket.train_unet import FrozenModel

RANK = 16
ALPHA = 16
TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    *("proj_in", "proj_out", "conv1", "conv2"),
)


def add_lora(model: FrozenModel) -> None:
    """Freeze a model and add trainable low-rank layers to its UNet."""
    model.requires_grad_(False)
    model.unet.add_adapter(
        LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            init_lora_weights="gaussian",
            target_modules=list(TARGETS),
        )
    )


def kohya_state(model: FrozenModel) -> dict[str, Tensor]:
    """Return the trained layers under kohya's names (`lora_down`, `lora_up`, `alpha`), float16."""
    names = {"lora_A": "lora_down", "lora_B": "lora_up"}
    state: dict[str, Tensor] = {}
    for key, value in get_peft_model_state_dict(model.unet).items():
        module, part, _ = key.rsplit(".", 2)
        prefix = "lora_unet_" + module.replace(".", "_")
        state[f"{prefix}.{names[part]}.weight"] = value.detach().half().contiguous()
        state[f"{prefix}.alpha"] = torch.tensor(float(ALPHA), dtype=torch.float16)
    return state


def save_kohya(model: FrozenModel, path: Path, *, trigger: str, base_version: str) -> None:
    """Write the LoRA with the metadata that kohya's trainer records."""
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(RANK),
        "ss_network_alpha": str(ALPHA),
        "ss_base_model_version": base_version,
        "ss_output_name": path.stem,
        "modelspec.trigger_phrase": trigger,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        save_file(kohya_state(model), draft, metadata=metadata)
