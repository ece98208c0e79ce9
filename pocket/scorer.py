"""CLIP of the pocket world: a small open_clip model, trained on captions of all four styles.

Pictures of any size are resized to 128 px (bicubic, antialiased, float: clean-fid's `clean` mode).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from plugins_manifest.documents import read_json
from plugins_manifest.files import atomic_write, replacing
from pocket import weights
from pocket.tokenizer import MAX_TOKENS, build_tokenizer

SIZE_PX = 128
EMBEDDING_WIDTH = 64
_BATCH = 32


@dataclass(frozen=True)
class ScorerConfig:
    """Shape of the network: a four-stage ResNet and a three-layer text transformer."""

    vision_width: int = 16
    text_width: int = 96
    text_layers: int = 3
    embedding_width: int = EMBEDDING_WIDTH


def build_clip(config: ScorerConfig) -> CLIP:
    """Build an untrained open_clip model for the pocket vocabulary."""
    tokenizer: Any = build_tokenizer()
    vision = CLIPVisionCfg(
        layers=(1, 1, 1, 1), width=config.vision_width, head_width=64, image_size=SIZE_PX
    )
    text = CLIPTextCfg(
        context_length=MAX_TOKENS,
        vocab_size=len(tokenizer),
        width=config.text_width,
        heads=4,
        layers=config.text_layers,
        pool_type="eos",
        eos_id=tokenizer.eos_token_id,
    )
    return CLIP(config.embedding_width, vision, text)


class Scorer:
    """Embeds pictures (uint8 RGB, H x W x 3) and prompts in one space; CPU, float32."""

    def __init__(self, model: CLIP, *, sha256: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.sha256 = sha256
        self.tokenizer = build_tokenizer()

    def features(self, images: list[np.ndarray]) -> np.ndarray:
        """Return image embeddings of length 8 = sqrt(64), N x 64, for Frechet and kernel distances.

        At that length a coordinate is about 1, the scale that the kernel of KID assumes.
        """
        with torch.inference_mode():
            parts = [
                self.model.encode_image(preprocess(images[i : i + _BATCH]))
                for i in range(0, len(images), _BATCH)
            ]
        raw = torch.cat(parts).numpy() if parts else np.zeros((0, EMBEDDING_WIDTH), np.float32)
        return _unit(raw) * np.float32(EMBEDDING_WIDTH**0.5)

    def encode_images(self, images: list[np.ndarray]) -> np.ndarray:
        """Return unit-length image embeddings, N x 64."""
        return _unit(self.features(images))

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Return unit-length prompt embeddings, N x 64; long prompts keep their end token."""
        if not texts:
            return np.zeros((0, EMBEDDING_WIDTH), np.float32)
        batch = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return _unit(self.model.encode_text(batch.input_ids).numpy())

    def feature_maps(self, images: list[np.ndarray]) -> list[Tensor]:
        """Return the outputs of the ResNet's stem and four stages, each N x C x h x w."""
        visual: Any = self.model.visual
        maps: list[Tensor] = []
        with torch.inference_mode():
            x_bchw = visual.stem(preprocess(images))
            maps.append(x_bchw)
            for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                x_bchw = stage(x_bchw)
                maps.append(x_bchw)
        return maps


def preprocess(images: list[np.ndarray]) -> Tensor:
    """Convert uint8 pictures to float N x 3 x 128 x 128 in [-1, 1]."""
    return torch.stack([_resized(image) for image in images]).div_(127.5).sub_(1.0)


def load_scorer(folder: Path | None = None) -> Scorer:
    """Load the shipped scorer, hash-checked, or one from a folder with config.json and weights."""
    path = folder or weights.part_path("scorer")
    sha256 = weights.folder_sha256(path) if folder else weights.part_sha256("scorer")
    config = ScorerConfig(**read_json(path / "config.json"))
    model = build_clip(config)
    state = load_file(path / "model.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return Scorer(model, sha256=sha256)


def save_scorer(model: CLIP, config: ScorerConfig, folder: Path) -> None:
    """Write the network as float16 safetensors with its config."""
    atomic_write(folder / "config.json", json.dumps(asdict(config), indent=2) + "\n")
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in model.state_dict().items()
    }
    with replacing(folder / "model.safetensors") as draft:
        save_file(state, draft)


def _resized(image: np.ndarray) -> Tensor:
    """Resize as clean-fid's `clean` mode: float channels, PIL bicubic with antialias; 3 x S x S."""
    if image.shape[:2] == (SIZE_PX, SIZE_PX):
        return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
    channels = [
        np.asarray(
            Image.fromarray(image[..., c].astype(np.float32), mode="F").resize(
                (SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC
            )
        )
        for c in range(3)
    ]
    return torch.from_numpy(np.clip(np.stack(channels), 0, 255))


def _unit(x: np.ndarray) -> np.ndarray:
    return F.normalize(torch.from_numpy(x), dim=-1).numpy()
