"""Plugin files drawn from a seed: good ones of every kind and format, many of them damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.plugins_manifest.zoo.fuzz import random_file
from tests.runners.kinds import TEXT_WIDTH, ip_adapter_state
from tests.runners.rewrite import FORMATS, State, read_modules, rewritten

LORA = "lora"
_DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.float32, torch.int8)
_NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e-9, 1e38)
_PREFIXES = ("model.", "base_model.model.", "transformer.", "lora_unet_", "module.", "unet.", "")
_SUFFIXES = (".alpha", ".weight", ".lora_down.weight", ".dora_scale", ".diff_b", ".oft_blocks", "")


@dataclass
class Drawn:
    """A file on its way: kind in the manifest, tensors, metadata, and PEFT's settings beside it."""

    kind: str
    state: State
    metadata: dict[str, str] = field(default_factory=dict)
    settings: str | None = None


@dataclass(frozen=True)
class Models:
    """What good files are made for: a UNet, kohya's names and weights, a folder with networks."""

    unet: nn.Module
    names: Mapping[str, str]
    weights: Mapping[str, nn.Parameter]
    networks: Mapping[str, Path]  # kind -> folder as diffusers writes it


def write_drawn(seed: int, models: Models, folder: Path) -> tuple[str, Path]:
    """Write the file of a seed; return its kind and path."""
    rng = Random(seed)
    path = folder / f"drawn-{seed}.safetensors"
    if rng.random() < 0.1:
        path.write_bytes(random_file(rng))
        return rng.choice((LORA, "controlnet", "textual_inversion")), path
    drawn = rng.choice((_lora, _lora, _lora, _network, _ip_adapter, _embedding))(rng, models)
    for _ in range(rng.choice((0, 1, 1, 2))):
        rng.choice(_DAMAGES)(rng, drawn)
    if rng.random() < 0.05:
        drawn.kind = rng.choice((LORA, "controlnet", "t2i_adapter", "textual_inversion"))
    save_file({k: v.contiguous() for k, v in drawn.state.items()}, path, drawn.metadata or None)
    if drawn.settings is not None:
        folder = folder / f"drawn-{seed}"
        folder.mkdir()
        path = path.rename(folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(drawn.settings)
    return drawn.kind, path


# --- good files


def _lora(rng: Random, models: Models) -> Drawn:
    generator = torch.Generator().manual_seed(rng.randrange(2**32))
    chosen = rng.sample(sorted(models.names), rng.randint(1, 5))
    state: State = {}
    for name in chosen:
        shape, rank = models.weights[name].shape, rng.choice((1, 2, 4))
        up = (shape[0], rank, *(1,) * (len(shape) - 2))
        state[f"{name}.lora_down.weight"] = torch.randn(rank, *shape[1:], generator=generator)
        state[f"{name}.lora_up.weight"] = torch.randn(up, generator=generator)
        state[f"{name}.alpha"] = torch.tensor(1.5)
    modules = read_modules(state, models.names, models.weights)
    name = rng.choice(sorted(FORMATS))
    drawn = Drawn(LORA, rewritten(modules, name))
    if "peft" in name and rng.random() < 0.5:
        drawn.settings = json.dumps(_settings(rng))
    return drawn


def _settings(rng: Random) -> dict[str, object]:
    return {
        "peft_type": rng.choice(("LORA", "LORA", "LOHA", "IA3")),
        "r": rng.choice((1, 2, 4, 0, "4", None)),
        "lora_alpha": rng.choice((1, 8, 0.5, float("inf"), "x")),
        "use_rslora": rng.choice((True, False)),
        "alpha_pattern": rng.choice(({}, {"to_q": 2}, {"(": 1}, {".*": 3}, [])),
    }


def _network(rng: Random, models: Models) -> Drawn:
    kind = rng.choice(sorted(models.networks))
    [path] = models.networks[kind].glob("*.safetensors")
    return Drawn(kind, load_file(path))


def _ip_adapter(rng: Random, models: Models) -> Drawn:
    return Drawn("ip_adapter", ip_adapter_state(models.unet))


def _embedding(rng: Random, models: Models) -> Drawn:
    name = rng.choice(("zzstyle", "emb_params", "clip_l", "clip_g", "string_to_param.*"))
    width = rng.choice((TEXT_WIDTH, TEXT_WIDTH, TEXT_WIDTH, 768))
    vectors = torch.randn(rng.randint(1, 4), width, generator=torch.Generator().manual_seed(1))
    return Drawn("textual_inversion", {name: vectors if rng.random() < 0.8 else vectors[0]})


# --- damages


def _key(rng: Random, drawn: Drawn) -> str | None:
    return rng.choice(sorted(drawn.state)) if drawn.state else None


def _on_a_tensor(change: Callable[[Random, Tensor], Tensor]) -> Callable[[Random, Drawn], None]:
    def damage(rng: Random, drawn: Drawn) -> None:
        if (key := _key(rng, drawn)) is not None:
            drawn.state[key] = change(rng, drawn.state[key])

    return damage


def _one_value(rng: Random, tensor: Tensor) -> Tensor:
    flat = tensor.detach().clone().float().reshape(-1)
    if len(flat):
        flat[rng.randrange(len(flat))] = rng.choice(_NUMBERS)
    return flat.reshape(tensor.shape)


def _all_values(rng: Random, tensor: Tensor) -> Tensor:
    return torch.full_like(tensor.float(), rng.choice(_NUMBERS))


def _cut(rng: Random, tensor: Tensor) -> Tensor:
    return tensor[: rng.randrange(len(tensor) + 1)] if tensor.ndim else tensor.reshape(1)


def _reshaped(rng: Random, tensor: Tensor) -> Tensor:
    choices = (tensor.flatten(), tensor[None], tensor.T if tensor.ndim == 2 else tensor[..., None])
    return rng.choice(choices)


def _cast(rng: Random, tensor: Tensor) -> Tensor:
    return tensor.to(rng.choice(_DTYPES))


def _drop(rng: Random, drawn: Drawn) -> None:
    if (key := _key(rng, drawn)) is not None:
        del drawn.state[key]


def _rename(rng: Random, drawn: Drawn) -> None:
    if (key := _key(rng, drawn)) is not None:
        name = key[: rng.randrange(len(key))] + rng.choice(_SUFFIXES)
        drawn.state[name or "x"] = drawn.state.pop(key)


def _add(rng: Random, drawn: Drawn) -> None:
    key = (_key(rng, drawn) or "x").partition(".")[0] + rng.choice(_SUFFIXES)
    drawn.state.setdefault(key, torch.randn(rng.choice(((), (1,), (2, 3)))))


def _prefix(rng: Random, drawn: Drawn) -> None:
    prefix = rng.choice(_PREFIXES)
    drawn.state = {prefix + key: value for key, value in drawn.state.items()}


def _half(rng: Random, drawn: Drawn) -> None:
    kept: Sequence[str] = sorted(drawn.state)[:: rng.choice((2, 3))]
    drawn.state = {key: drawn.state[key] for key in kept}


def _describe(rng: Random, drawn: Drawn) -> None:
    drawn.metadata |= rng.choice(
        (
            {"lora_adapter_metadata": json.dumps({"lora_alpha": 4, "r": 2})},
            {"lora_adapter_metadata": "{"},
            {"ss_network_alpha": "1", "ss_network_dim": "4"},
            {"ss_base_model_version": "sdxl_base_v1-0"},
            {"modelspec.title": "control_shuffle"},
        )
    )


_DAMAGES: Sequence[Callable[[Random, Drawn], None]] = (
    _drop,
    _rename,
    _add,
    _prefix,
    _half,
    _describe,
    *map(_on_a_tensor, (_one_value, _all_values, _cut, _reshaped, _cast)),
)
