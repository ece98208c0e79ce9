"""The base model is found from every part of a model alone."""

from __future__ import annotations

import math
from random import Random

import pytest

from plugins_manifest.formats import Header, parse
from plugins_manifest.formats.parsed import TensorInfo
from plugins_manifest.formats.table import BASES, ModelName, model_table

# A part of a model, and the words in its modules' names.
PARTS = {
    "self-attention": ("attn1.",),
    "cross-attention": ("attn2.",),
    "feed-forward": (".ff.",),
    "convolutions": ("conv1.", "conv2.", "conv_shortcut."),
    "transformers' ends": ("proj_in.", "proj_out."),
    "text": ("text_encoder.", "text_encoder_2."),
}
NAMES = {model: base for base, model in BASES.items() if base in ("sd1", "sd2", "sdxl")}


def header_of(weights: dict[str, tuple[int, ...]], rank: int = 2) -> Header:
    """Return the header of a LoRA in kohya's names."""
    tensors = {}
    for name, (n_out, n_in, *kernel) in weights.items():
        model, _, module = name.removesuffix(".weight").partition(".")
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}.get(model)
        flat = (prefix or "lora_te2_text_model_") + module.replace(".", "_")
        ones = [1] * len(kernel)
        tensors[f"{flat}.lora_down.weight"] = TensorInfo("F16", (rank, n_in, *kernel), 0, 0)
        tensors[f"{flat}.lora_up.weight"] = TensorInfo("F16", (n_out, rank, *ones), 0, 0)
    return Header(tensors, {}, 0, 0)


def drawn(model: ModelName, words: tuple[str, ...], rng: Random) -> dict[str, tuple[int, ...]]:
    weights = {
        name: shape
        for name, shape in model_table(model).items()
        if name.endswith(".weight") and len(shape) > 1 and any(word in name for word in words)
        if "embedding" not in name and "text_projection" not in name
    }
    n = rng.randint(len(weights) // 2, len(weights))
    return {name: shape for name, shape in rng.sample(sorted(weights.items()), n)}


def fitting(weights: dict[str, tuple[int, ...]]) -> set[str]:
    return {
        base
        for model, base in NAMES.items()
        if all(flat(model_table(model).get(name, ())) == flat(s) for name, s in weights.items())
    }


def flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return rows, columns and kernel: a 1 x 1 convolution and a linear layer fit each other."""
    kernel = shape[2:] if math.prod(shape[2:]) > 1 else ()
    return (*shape[:1], math.prod(shape[1:]), *kernel)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("model", list(NAMES))
def test_a_part_of_a_model_alone_names_the_model(model: ModelName, part: str) -> None:
    rng = Random(f"{model} {part}")
    for _ in range(3):
        weights = drawn(model, PARTS[part], rng)
        for at_hand, base in NAMES.items():
            found = parse(header_of(weights), model_table(at_hand))
            shared = fitting(weights)
            if base in shared:
                assert found.base_model == base
                assert found.problems == ()
            else:
                assert found.base_model in shared
                assert "wrong-base" in {problem.reason for problem in found.problems}
