"""Synthetic plugin files of every model and naming, with random factors of rank 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from plugins_manifest.formats.names import model_names
from plugins_manifest.formats.table import model_table
from tests.plugins_manifest.zoo.files import numbers, pack

Naming = Literal["peft", "kohya", "comfyui"]
NAMINGS: tuple[Naming, ...] = ("peft", "kohya", "comfyui")
_BLOCK = re.compile(r"\.(\d+)\.")
_NO_BLOCK = re.compile("embedder|distilled")
_OWN_NAMES = ("sd15", "sd21", "ssd-1b")  # kohya's trainers write diffusers' names for these
_RANK = 2


def linear_modules(model: str, *, blocks: int = 2) -> dict[str, tuple[int, int]]:
    """Return module -> shape of its weight, of all linear layers in the first blocks of a model."""
    found = {}
    for name, shape in model_table(model).items():
        module, _, param = name.rpartition(".")
        first = _BLOCK.search(name)
        is_linear = param == "weight" and len(shape) == 2 and not name.endswith("embedding.weight")
        if is_linear and (first is None or int(first[1]) < blocks):
            found[module] = (shape[0], shape[1])
    return found


def usual_modules(model: str, naming: Naming) -> list[str]:
    """Return the modules that files of a naming have: ComfyUI's no text encoder, kohya's blocks.

    diffusers' converters raise for others.
    """
    modules = [m for m in linear_modules(model) if "text_projection" not in m]
    if naming == "comfyui":
        return [m for m in modules if not m.startswith("text_encoder")]
    if naming == "peft":
        return modules
    return [m for m in modules if _BLOCK.search(m) and not _NO_BLOCK.search(m)]


def written(model: str, modules: Iterable[str], naming: Naming) -> dict[str, tuple[str, ...]]:
    """Return names in a naming -> modules; a fused layer stands for all of its modules."""
    wanted = list(modules)
    if naming == "peft":
        level = re.compile(r"^(text_encoder(?:_2)?)\.")
        return {level.sub(r"\1.text_model.", m): (m,) for m in wanted}
    originals = model_names(model)._sgm  # pyright: ignore[reportPrivateUsage]
    if naming == "kohya" and model in _OWN_NAMES:
        originals = {}
    by_module = {
        target: (name, targets)
        for name, targets in originals.items()
        if not name.endswith("linear1.qkv")
        for target in targets
    }
    found = {}
    for module in wanted:
        name, targets = by_module.get(module, (module, (module,)))
        found[_spelled(name, naming)] = targets
    return found


def _spelled(name: str, naming: Naming) -> str:
    side, _, rest = name.partition(".")
    if naming == "comfyui":
        return f"diffusion_model.{rest}" if side in ("unet", "transformer") else name
    prefix = {"text_encoder": "lora_te1_text_model_", "text_encoder_2": "lora_te2_text_model_"}
    return prefix.get(side, "lora_unet_") + rest.replace(".", "_")


def lora(
    model: str,
    naming: Naming = "peft",
    *,
    modules: Iterable[str] | None = None,
    make: Callable[..., np.ndarray] = numbers,
) -> dict[str, np.ndarray]:
    """Return the tensors of a LoRA for the first blocks of a model."""
    shapes = linear_modules(model)
    found: dict[str, np.ndarray] = {}
    for name, targets in written(model, modules or usual_modules(model, naming), naming).items():
        n_out, n_in = sum(shapes[t][0] for t in targets), shapes[targets[0]][1]
        down, up = make(_RANK, n_in, seed=len(found)), make(n_out, _RANK, seed=len(found) + 1)
        if naming == "kohya":
            parts = {".lora_down.weight": down, ".lora_up.weight": up}
            found[f"{name}.alpha"] = np.array(float(_RANK), np.float32)
        else:
            parts = {".lora_A.weight": down, ".lora_B.weight": up}
        found |= {name + end: tensor for end, tensor in parts.items()}
    return found


def lora_bytes(model: str, naming: Naming = "peft") -> bytes:
    """Return a LoRA of a model as a file."""
    return pack(lora(model, naming))
