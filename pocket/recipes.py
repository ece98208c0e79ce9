"""Training recipes of the pocket family, one function per part, all seeded.

Dependencies: vae-* -> base, upgraded -> controlnet-*, lora-*; the scorer has none. `upgraded-v`
and its plugins need the shipped base model's autoencoder.
(The mapper is trained by `xadapter.train`, see `bench.train`.)
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from plugins_manifest.files import replacing
from plugins_manifest.schema.words import Side
from pocket import weights
from pocket.cached import cached_arrays
from pocket.conditions import canny, mask
from pocket.data import (
    BASE_SET,
    NAMED_BASE_SET,
    SETS,
    SMALL_V_SET,
    UPGRADED_SET,
    V_SET,
    PictureSet,
    draw_set,
)
from pocket.fit import FitSettings, fit
from pocket.models import (
    BASE_SIZE_PX,
    UPGRADED_SIZE_PX,
    Prediction,
    build_base_text_encoder,
    build_base_unet,
    build_controlnet,
    build_upgraded_text_encoders,
    build_upgraded_unet,
    build_v_text_encoder,
    build_v_unet,
    build_vae,
)
from pocket.scenes import STYLE_WORDS, Style
from pocket.scorer import ScorerConfig, build_clip, save_scorer
from pocket.train_lora import RANK, add_lora, kohya_metadata, kohya_state, write_lora
from pocket.train_scorer import draw_scorer_set, refresh_statistics, scorer_loss
from pocket.train_unet import (
    BaseModel,
    Controlled,
    FrozenModel,
    Latents,
    UpgradedModel,
    noise_loss,
    tokenize,
)
from pocket.train_vae import encode, fix_posterior, set_scaling_factor, vae_loss

NULL_SHARE = 0.12
VAE = {
    "base": FitSettings(3000, 16, 2e-3, seed=1, weight_decay=1e-4, grad_clip=2.0),
    "upgraded": FitSettings(2000, 16, 2e-3, seed=1, weight_decay=1e-4, grad_clip=2.0),
}
BASE = FitSettings(5000, 64, 2e-3, seed=2, ema_decay=0.998)
BASE_WORDS = FitSettings(2000, 64, 1.5e-3, seed=7, ema_decay=0.995)
UPGRADED = FitSettings(5000, 32, 1.5e-3, seed=3, ema_decay=0.998)
CONTROLNET = FitSettings(1200, 32, 1e-3, seed=4)
LORA = FitSettings(450, 32, 2e-3, seed=5, ema_decay=0.99)
# SD 2 was trained on small pictures first too, and on large ones in the end
SMALL_V = FitSettings(600, 32, 2e-3, seed=8, ema_decay=0.995)
V = FitSettings(1500, 16, 1.2e-3, seed=9, ema_decay=0.995)
Owner = Literal["base", "upgraded", "upgraded-v"]
CONTROLNET_OF: dict[Owner, FitSettings] = {
    "base": CONTROLNET,
    "upgraded": FitSettings(1200, 24, 1e-3, seed=4),
    "upgraded-v": FitSettings(600, 16, 1e-3, seed=4, ema_decay=0.99),
}
# a silhouette does not tell the style, and a native plugin should draw its own model's
STYLES_OF: dict[tuple[str, Owner], frozenset[Style]] = {("mask", "upgraded"): frozenset({"shaded"})}
LORA_OF: dict[Owner, FitSettings] = {
    "base": LORA,
    "upgraded": FitSettings(900, 24, 2e-3, seed=5, ema_decay=0.99),
    "upgraded-v": FitSettings(450, 16, 2e-3, seed=5, ema_decay=0.99),
}
PREDICTION: dict[Owner, Prediction] = {
    "base": "epsilon",
    "upgraded": "epsilon",
    "upgraded-v": "v_prediction",
}
# as kohya's trainer names them
_VERSION: dict[Owner, str] = {
    "base": "sd_v1",
    "upgraded": "sdxl_base_v1-0",
    "upgraded-v": "sd_v2_v",
}
SCORER = FitSettings(3000, 64, 2e-3, seed=6, ema_decay=0.99)


def train_vae(side: Side, work: Path) -> float:
    """Train the autoencoder of one side; return the mean loss of the last tenth of steps."""
    torch.manual_seed(VAE[side].seed)
    upgraded = draw_set(UPGRADED_SET, work / "data")
    images = upgraded.images
    if side == "base":  # mapper training encodes the upgraded model's pictures too
        small = upgraded.downscaled(BASE_SET.size_px)
        images = np.concatenate([draw_set(BASE_SET, work / "data").images, small])
    vae: Any = build_vae(size_px=images.shape[1])
    vae.to(memory_format=torch.channels_last)
    out_dir = work / f"vae-{side}"
    loss = fit(vae, vae_loss(vae, images), settings=VAE[side], out_dir=out_dir)
    fix_posterior(vae)
    set_scaling_factor(vae, images[-512:])
    save_model(vae, out_dir / "final")
    return loss


def save_model(model: Any, folder: Path) -> None:
    """Write a trained model of diffusers or transformers into a folder, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder) as draft:
        model.save_pretrained(draft)


def train_base(work: Path) -> float:
    """Train the base UNet and its text encoder; captions name the styles in the second phase.

    Without style words the base model's features encode a style only at low noise, and no mapper
    can learn to read it at high noise.
    """
    torch.manual_seed(BASE.seed)
    model = BaseModel(build_base_unet(), build_base_text_encoder())
    model.to(memory_format=torch.channels_last)
    data, _ = _latents("base", "base", work)
    fit(model, noise_loss(model, data, null_share=NULL_SHARE), settings=BASE, out_dir=work / "base")
    named = Latents(data.z_nchw, tokenize(draw_set(NAMED_BASE_SET, work / "data").captions))
    loss_at = noise_loss(model, named, null_share=NULL_SHARE)
    loss = fit(model, loss_at, settings=BASE_WORDS, out_dir=work / "base-words")
    save_model(model.unet, work / "base" / "final" / "unet")
    save_model(model.text_encoder, work / "base" / "final" / "text_encoder")
    return loss


def train_upgraded(work: Path) -> float:
    """Train the upgraded UNet and its two text encoders."""
    torch.manual_seed(UPGRADED.seed)
    model = UpgradedModel(build_upgraded_unet(), *build_upgraded_text_encoders())
    model.to(memory_format=torch.channels_last)
    data, _ = _latents("upgraded", "upgraded", work)
    loss_at = noise_loss(model, data, null_share=NULL_SHARE)
    loss = fit(model, loss_at, settings=UPGRADED, out_dir=work / "upgraded")
    final = work / "upgraded" / "final"
    for name, part in model.named_children():
        save_model(part, final / name)
    return loss


def train_v(work: Path) -> float:
    """Train SD 2.1's kind of UNet and its text encoder: at 64 px first, then at 128 px."""
    torch.manual_seed(SMALL_V.seed)
    model = BaseModel(build_v_unet(), build_v_text_encoder())
    model.to(memory_format=torch.channels_last)
    loss = 0.0
    for recipe, settings in ((SMALL_V_SET, SMALL_V), (V_SET, V)):
        data, _ = _latents(recipe.name, "upgraded-v", work)
        loss_at = noise_loss(model, data, null_share=NULL_SHARE, prediction="v_prediction")
        loss = fit(model, loss_at, settings=settings, out_dir=work / recipe.name)
    for name, part in model.named_children():
        save_model(part, work / V_SET.name / "final" / name)
    return loss


def train_controlnet(kind: str, work: Path, *, side: Owner = "base") -> float:
    """Train a ControlNet for `canny` or `mask` conditions on one frozen model.

    Conditions are detected at the base model's size and enlarged for an upgraded model.
    """
    torch.manual_seed(CONTROLNET.seed)
    frozen = load_frozen(side, work)
    data, pictures = _latents(side, side, work)
    conditions = _conditions(kind, pictures, side)
    if styles := STYLES_OF.get((kind, side)):
        own = torch.tensor([style in styles for style in pictures.styles])
        data, conditions = Latents(data.z_nchw[own], data.ids_nl[own]), conditions[own]
    model = Controlled(frozen, build_controlnet(frozen.unet), conditions)
    model.controlnet.to(memory_format=torch.channels_last)
    loss_at = noise_loss(model, data, null_share=NULL_SHARE, prediction=PREDICTION[side])
    out_dir = work / _of_owner(f"controlnet-{kind}", side)
    loss = fit(model.controlnet, loss_at, settings=CONTROLNET_OF[side], out_dir=out_dir)
    save_model(model.controlnet, out_dir / "final")
    return loss


def _of_owner(name: str, side: Owner) -> str:
    return name if side == "base" else f"{side}-{name}"


def _conditions(kind: str, pictures: PictureSet, side: Owner) -> Tensor:
    detect = {"canny": canny, "mask": mask}[kind]
    images = pictures.images if side == "base" else pictures.downscaled(BASE_SIZE_PX)
    found = torch.from_numpy(np.stack([detect(x)[..., 0] for x in images]))
    if side == "base":
        return found
    factor = UPGRADED_SIZE_PX // BASE_SIZE_PX
    return found.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def train_lora(style: Style, work: Path, *, side: Owner = "base") -> float:
    """Train a style LoRA on one frozen model; its captions contain the trigger words."""
    torch.manual_seed(LORA.seed)
    model = load_frozen(side, work)
    add_lora(model.unet)
    data, _ = _latents(_of_owner(style, side), side, work)
    loss_at = noise_loss(model, data, null_share=NULL_SHARE, prediction=PREDICTION[side])
    out_dir = work / _of_owner(f"lora-{style}", side)
    loss = fit(model.unet, loss_at, settings=LORA_OF[side], out_dir=out_dir)
    path, words = out_dir / "final.safetensors", STYLE_WORDS[style]
    about = kohya_metadata(rank=RANK, name=path.stem, trigger=words, base_version=_VERSION[side])
    write_lora(path, kohya_state(model.unet), about)
    return loss


def train_scorer(work: Path) -> float:
    """Train the CLIP-like scorer of pictures and captions."""
    torch.manual_seed(SCORER.seed)
    pictures = draw_scorer_set()
    model = build_clip(ScorerConfig()).to(memory_format=torch.channels_last)
    out_dir = work / "scorer"
    loss = fit(model, scorer_loss(model, pictures), settings=SCORER, out_dir=out_dir)
    refresh_statistics(model, pictures)
    save_scorer(model, ScorerConfig(), out_dir / "final")
    return loss


def load_frozen(side: Owner, work: Path) -> FrozenModel:
    """Load a trained UNet and its text encoders, frozen, channels last."""
    if side == "upgraded":
        model = UpgradedModel(build_upgraded_unet(), *build_upgraded_text_encoders())
    elif side == "base":
        model = BaseModel(build_base_unet(), build_base_text_encoder())
    else:
        model = BaseModel(build_v_unet(), build_v_text_encoder())
    for name, part in model.named_children():
        final = work / side / "final" / name
        setattr(model, name, type(part).from_pretrained(final))  # type: ignore[attr-defined]
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_vae(side: Owner, work: Path) -> AutoencoderKL:
    """Load the trained autoencoder, frozen; `upgraded-v` has that of the shipped base model."""
    if side == "upgraded-v":
        vae = AutoencoderKL.from_pretrained(weights.part_path("base") / "vae", dtype=torch.float32)
    else:
        vae = AutoencoderKL.from_pretrained(work / f"vae-{side}" / "final")
    return vae.eval().requires_grad_(False)


def upgraded_latents(work: Path) -> Latents:
    """Return the latents of the upgraded model's training pictures."""
    return _latents("upgraded", "upgraded", work)[0]


def _latents(set_name: str, side: Owner, work: Path) -> tuple[Latents, PictureSet]:
    """Encode a training set once per work folder."""
    pictures = draw_set(SETS[set_name], work / "data")
    path = work / "data" / f"z-{set_name}.safetensors"
    made = cached_arrays(path, lambda: {"z": encode(load_vae(side, work), pictures.images).numpy()})
    return Latents(torch.from_numpy(made["z"]), tokenize(pictures.captions)), pictures
