"""Training recipe of the flow model of `pocket-flow`, on the latents of the shipped upgraded VAE.

Its text encoders are those of the shipped upgraded model, frozen: SD3's two CLIP encoders are
SDXL's too. The projection that SDXL's first one lacks is drawn, and stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from plugins_manifest.files import replacing
from pocket import weights
from pocket.cached import cached_arrays
from pocket.data import FLOW_OUTLINE_SET, FLOW_SET, SetRecipe, draw_set
from pocket.fit import FitSettings, fit
from pocket.models import build_flow_text_encoders, build_flow_transformer
from pocket.recipes import save_model
from pocket.scenes import STYLE_WORDS
from pocket.train_flow import FlowModel, flow_loss
from pocket.train_lora import RANK
from pocket.train_unet import Latents, tokenize
from pocket.train_vae import encode, set_shift_factor

FLOW = FitSettings(3000, 16, 1.2e-3, seed=10, ema_decay=0.997)
FLOW_MORE = FitSettings(1000, 16, 8e-4, seed=12, ema_decay=0.997)
FLOW_LORA = FitSettings(1000, 16, 2e-3, seed=11, ema_decay=0.99)
# of both streams, picture and text
_LORA_TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("net.0.proj", "net.2"),
)
_N_STATISTICS = 512


def train_flow(work: Path, *, null_share: float) -> float:
    """Train the transformer in two cosines; return the mean loss of the last tenth of steps."""
    torch.manual_seed(FLOW.seed)
    model = FlowModel(build_flow_transformer(), *build_flow_text_encoders())
    for name in ("text_encoder", "text_encoder_2"):
        _copy_shipped(getattr(model, name), name)
    loss_at = flow_loss(model, flow_latents(FLOW_SET, work), null_share=null_share)
    fit(model, loss_at, settings=FLOW, out_dir=work / "flow")
    loss = fit(model, loss_at, settings=FLOW_MORE, out_dir=work / "flow-more")
    for name, part in model.named_children():
        save_model(part, work / "flow" / "final" / name)
    return loss


def train_flow_lora(work: Path, *, null_share: float) -> float:
    """Train the flow model's own outline LoRA and write it as diffusers does for SD3."""
    torch.manual_seed(FLOW_LORA.seed)
    model = load_flow(work).requires_grad_(False)
    model.transformer.add_adapter(
        LoraConfig(
            r=RANK,
            lora_alpha=RANK,
            init_lora_weights="gaussian",
            target_modules=list(_LORA_TARGETS),
        )
    )
    loss_at = flow_loss(model, flow_latents(FLOW_OUTLINE_SET, work), null_share=null_share)
    out_dir = work / "flow-lora-outline"
    loss = fit(model.transformer, loss_at, settings=FLOW_LORA, out_dir=out_dir)
    state = {
        f"transformer.{key}": value.detach().half().contiguous()
        for key, value in get_peft_model_state_dict(model.transformer).items()
    }
    with replacing(out_dir / "final.safetensors") as draft:
        save_file(state, draft, metadata={"modelspec.trigger_phrase": STYLE_WORDS["outline"]})
    return loss


def load_flow(work: Path) -> FlowModel:
    """Load the trained transformer and its text encoders."""
    final = work / "flow" / "final"
    return FlowModel(
        SD3Transformer2DModel.from_pretrained(final / "transformer"),
        CLIPTextModelWithProjection.from_pretrained(final / "text_encoder"),
        CLIPTextModelWithProjection.from_pretrained(final / "text_encoder_2"),
    ).eval()


def _copy_shipped(encoder: nn.Module, part: str) -> None:
    """Copy the shipped upgraded model's encoder; a projection that it lacks stays as drawn."""
    folder = weights.part_path("upgraded") / part
    source = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    state = source.from_pretrained(folder, dtype=torch.float32).state_dict()
    own = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in state.items()}
    own |= {key: value for key, value in state.items() if key.startswith("text_projection")}
    known = encoder.state_dict()
    found = {key: value for key, value in own.items() if key in known}
    assert len(found) >= len(state), "the encoders have one layout"
    encoder.load_state_dict(found, strict=False)


def flow_latents(recipe: SetRecipe, work: Path) -> Latents:
    """Encode a training set, once per work folder."""
    pictures = draw_set(recipe, work / "data")
    path = work / "data" / f"z-{recipe.name}.safetensors"

    def make() -> dict[str, Any]:
        return {"z": encode(load_flow_vae(work), pictures.images).numpy()}

    z_nchw = torch.from_numpy(cached_arrays(path, make)["z"])
    return Latents(z_nchw, tokenize(pictures.captions))


def load_flow_vae(work: Path) -> AutoencoderKL:
    """Load the shipped upgraded VAE, frozen, with shift and scale of the flow model's pictures."""
    vae = AutoencoderKL.from_pretrained(weights.part_path("upgraded") / "vae", dtype=torch.float32)
    vae.eval().requires_grad_(False)
    vae.register_to_config(_name_or_path="upgraded/vae")  # no absolute path in a shipped file
    set_shift_factor(vae, draw_set(FLOW_SET, work / "data").images[-_N_STATISTICS:])
    return vae
