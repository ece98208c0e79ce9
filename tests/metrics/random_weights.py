"""Random weights of the real architectures, in files as they are published.

Small configurations where the architecture has one; Inception, AlexNet, VGG and the detectors of
ControlNet have one size only. Published hashes are left out: these files are others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from metrics.encoders import Network

TINY_CLIP = "tiny-test-clip"
_TINY_CLIP_CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 56, "layers": 2, "width": 64, "patch_size": 14, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    "quick_gelu": True,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "circle", "dog", "##s"]


def with_random_weights(network: Any) -> Any:
    """Return the network with random weights in the folder of weights; made once."""
    unpinned = tuple(replace(file, sha256="") for file in network.weights.files)
    network = replace(network, weights=replace(network.weights, files=unpinned))
    if network.module == "open_clip_pair":
        network = replace(network, variant=_tiny_clip(network.weights.folder.parent))
    if not all((network.weights.folder / f.name).is_file() for f in unpinned):
        network.weights.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        _MAKERS[network.module](network)
    return network


def on_random_weights(metric: Any) -> Any:
    """Return the metric, its network with random weights."""
    for name in ("network", "encoder"):
        if hasattr(getattr(metric, name, None), "weights"):
            return replace(metric, **{name: with_random_weights(getattr(metric, name))})
    for network in (point.load().network for point in entry_points(group="xbench.detectors")):
        if network is not None and network.weights.name in metric.needs:
            with_random_weights(network)
    return metric


def randomized(network: nn.Module) -> nn.Module:
    """Finite random values everywhere, batch norms that pass them on."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            if "running_var" in name:
                value.fill_(1.0)
            elif "running_mean" in name:
                value.zero_()
            elif value.ndim == 1 and name.endswith("weight"):  # of norms: pass values on
                value.fill_(1.0)
            else:
                fan = value[0].numel() if value.ndim > 1 else 100
                value.copy_(torch.randn(value.shape) * (2 / fan) ** 0.5)
    return network.eval()


def _tiny_clip(folder: Path) -> str:
    if TINY_CLIP not in open_clip.list_models():
        path = folder / f"{TINY_CLIP}.json"
        path.write_text(json.dumps(_TINY_CLIP_CONFIG))
        open_clip.add_model_config(path)
    return TINY_CLIP


def _save(network: Network, tensors: dict[str, torch.Tensor]) -> None:
    path = network.weights.folder / network.weights.files[0].name
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path)


def _make_open_clip(network: Network) -> None:
    _save(network, open_clip.create_model(network.variant).state_dict())


def _make_inception(network: Network) -> None:
    from metrics.networks import inception

    _save(network, randomized(inception.build()).state_dict())


def _make_lpips(network: Network) -> None:
    from torchvision import models

    if network.variant == "vgg":
        return _make_vgg(network)
    built = models.alexnet(weights=None).features
    return _save(network, {f"features.{k}": v for k, v in randomized(built).state_dict().items()})


def _make_vgg(network: Network) -> None:
    from metrics.networks import vgg

    tensors = randomized(vgg.build()).state_dict()
    _save(network, {f"features.{key}": value for key, value in tensors.items()})


def _make_annotator(network: Network) -> None:
    from metrics.networks import annotators

    built = randomized(annotators.build(network.variant))
    tensors = dict(built.state_dict())
    if network.variant == "open_pose":  # published without the names of the stages
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
    _save(
        network, {f"module.{k}" if network.variant == "pidi" else k: v for k, v in tensors.items()}
    )


def _make_csd(network: Network) -> None:
    from metrics.networks.csd import StyleNetwork

    built = StyleNetwork(width=64, layers=2, patch_px=14, image_px=56, n_style=16)
    _save(network, randomized(built).state_dict())


def _make_dinov2(network: Network) -> None:
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=224)).save_pretrained(network.weights.folder)


def _make_pick_score(network: Network) -> None:
    tiny_hf_clip().save_pretrained(network.weights.folder)


def tiny_hf_clip() -> Any:
    """Return transformers' CLIP with the sizes of the tiny open_clip model."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = CLIPConfig(
        text_config={**tower, "intermediate_size": 256, "vocab_size": 49408},
        vision_config={**tower, "intermediate_size": 256, "image_size": 56, "patch_size": 14},
        projection_dim=32,
    )
    return CLIPModel(config).eval()


def _make_dpt(network: Network) -> None:
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 16, 16, 16],
        fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    DPTForDepthEstimation(config).save_pretrained(network.weights.folder)


def _make_upernet(network: Network) -> None:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=stages)
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=150, use_auxiliary_head=False
    )
    randomized(UperNetForSemanticSegmentation(config)).save_pretrained(network.weights.folder)


def _make_image_reward(network: Network) -> None:
    tensors = image_reward_tensors()
    torch.save(tensors, network.weights.folder / "ImageReward.pt")
    (network.weights.folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")


def image_reward_tensors(*, width: int = 64) -> dict[str, torch.Tensor]:
    """Tensors with the names and ranks of the authors' file, narrow: one layer, 56 px."""
    linear = {
        "visual_encoder.blocks.0.attn.qkv": (3 * width, width),
        "visual_encoder.blocks.0.attn.proj": (width, width),
        "visual_encoder.blocks.0.mlp.fc1": (128, width),
        "visual_encoder.blocks.0.mlp.fc2": (width, 128),
        "text_encoder.encoder.layer.0.intermediate.dense": (128, width),
        "text_encoder.encoder.layer.0.output.dense": (width, 128),
        **{
            f"text_encoder.encoder.layer.0.{kind}.{part}": (width, width)
            for kind in ("attention", "crossattention")
            for part in ("self.query", "self.key", "self.value", "output.dense")
        },
    }
    norms = [
        "visual_encoder.norm",
        *(f"visual_encoder.blocks.0.norm{i}" for i in (1, 2)),
        "text_encoder.embeddings.LayerNorm",
        *(
            f"text_encoder.encoder.layer.0.{part}output.LayerNorm"
            for part in ("", "attention.", "crossattention.")
        ),
    ]
    shapes = {
        "visual_encoder.cls_token": (1, 1, width),
        "visual_encoder.pos_embed": (1, 17, width),
        "visual_encoder.patch_embed.proj.weight": (width, 3, 14, 14),
        "visual_encoder.patch_embed.proj.bias": (width,),
        "text_encoder.embeddings.word_embeddings.weight": (len(VOCABULARY), width),
        "text_encoder.embeddings.position_embeddings.weight": (40, width),
        "vision_proj.weight": (8, width),  # of another task: not used
        **{f"{name}.weight": shape for name, shape in linear.items()},
        **{f"{name}.bias": shape[:1] for name, shape in linear.items()},
        **{f"{name}.{part}": (width,) for name in norms for part in ("weight", "bias")},
    }
    tensors = {f"blip.{name}": torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    tensors["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    sizes = (width, 1024, 128, 64, 16, 1)
    for place, n_in, n_out in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        tensors[f"mlp.layers.{place}.weight"] = torch.randn(n_out, n_in) * n_in**-0.5
        tensors[f"mlp.layers.{place}.bias"] = torch.zeros(n_out)
    return tensors


_MAKERS: dict[str, Callable[[Network], None]] = {
    "open_clip_pair": _make_open_clip,
    "inception": _make_inception,
    "lpips_pair": _make_lpips,
    "vgg": _make_vgg,
    "annotators": _make_annotator,
    "csd": _make_csd,
    "dinov2": _make_dinov2,
    "pick_score": _make_pick_score,
    "dpt": _make_dpt,
    "upernet": _make_upernet,
    "image_reward": _make_image_reward,
}
