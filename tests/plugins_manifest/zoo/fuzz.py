"""Random files and what must hold of each: an answer, never an exception; nothing counted twice."""

from __future__ import annotations

import json
from functools import cache
from math import prod
from pathlib import Path
from random import Random
from string import ascii_letters
from typing import Any

from safetensors import SafetensorError, deserialize

from plugins_manifest.formats.header import DTYPE_BYTES
from plugins_manifest.inspect.facts import facts
from plugins_manifest.inspect.inspect import inspect_file
from tests.plugins_manifest.zoo import ZOO
from tests.plugins_manifest.zoo.files import with_header

_SMALL = 20_000  # bytes of the files that are mutated
_DTYPES = tuple(sorted(DTYPE_BYTES))
_WORDS = [
    "lora_unet_",
    "lora_te_",
    "lora_te1_",
    "lycoris_",
    "oft_unet_",
    "unet.",
    "text_encoder.",
    "base_model.model.",
    "diffusion_model.",
    "control_model.",
    "bundle_emb.",
    "ip_adapter.1.",
    "image_proj.",
    "adapter.body.0.",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks_0_resnets_0_conv1",
    "input_blocks_1_1_proj_in",
    "mid_block.resnets.0.norm1",
    "text_model_encoder_layers_0_mlp_fc1",
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_mid.weight",
    ".alpha",
    ".dora_scale",
    ".hada_w1_a",
    ".hada_w1_b",
    ".hada_w2_a",
    ".hada_w2_b",
    ".hada_t1",
    ".lokr_w1",
    ".lokr_w2_a",
    ".lokr_t2",
    ".weight",
    ".on_input",
    ".diff",
    ".diff_b",
    ".w_norm",
    ".oft_blocks",
    ".rescale",
    ".a1.weight",
    ".b2.weight",
    ".lora_A.weight",
    ".lora_B.default.weight",
    ".lora_magnitude_vector",
    ".processor.to_q_lora.down.weight",
    ".to_k_ip.weight",
    ".string_to_param.*",
    "emb_params",
    "clip_l",
    "clip_g",
    "difference",
    "lora_controlnet",
    "lllite_unet_",
    "zero_convs.0.0.weight",
    "controlnet_mid_block.bias",
    "block1.weight",
    "latents",
]

_WILD = '\x00\x1b[\u202e\ud800\U0001f600\u00e9"\\'
_SIDES = (0, 1, 2, 4, 8, 320, 768, -1, 2**40, 2**65, 2.0, None, "4", True)


@cache
def small_files(n_bytes: int = _SMALL) -> tuple[bytes, ...]:
    """Files of the zoo below so many bytes, to be damaged."""
    chosen = (a for a in ZOO if a.table == "sd15" and not a.name.startswith(("many", "large")))
    return tuple(data for animal in chosen if len(data := animal.make()) < n_bytes)


def random_file(rng: Random) -> bytes:
    """Return a well-formed file, a malformed one, a damaged one of the zoo, or noise."""
    return rng.choice((_well_formed, _malformed, _damaged, _damaged, _noise))(rng)


def _name(rng: Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.randint(1, 4))]
    return "".join(words) if rng.random() < 0.9 else "".join(rng.choices(ascii_letters, k=8))


def _well_formed(rng: Random) -> bytes:
    """Return a file that the safetensors library would accept: random names, tiny tensors."""
    header: dict[str, Any] = {}
    if rng.random() < 0.5:
        texts = ("".join(rng.choices(_WILD, k=rng.randint(0, 5))) for _ in range(3))
        header["__metadata__"] = {f"k{i}": text for i, text in enumerate(texts)}
    at = 0
    for name in {_name(rng) for _ in range(rng.randint(0, 8))}:
        dtype = rng.choice(_DTYPES)
        shape = rng.choices((1, 2, 4, 8), k=rng.randint(0, 4))
        end = at + DTYPE_BYTES[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return with_header(json.dumps(header), rng.randbytes(at))


def _malformed(rng: Random) -> bytes:
    """Return a header of the right kind with anything in its fields."""
    header = {_name(rng): _wild_entry(rng) for _ in range(rng.randint(0, 4))}
    if rng.random() < 0.2:
        header[rng.choice(_WILD)] = rng.choice(({}, [], None, 1.5, {"a": {}}))
    if rng.random() < 0.2:
        header["__metadata__"] = rng.choice(({}, [], None, {"a": 1}, {"a": "b"}))
    text = json.dumps(header)
    declared = rng.choice((None, None, None, 0, len(text) - 1, len(text) + 1, 2**32, 2**63))
    return with_header(text, rng.randbytes(rng.randint(0, 64)), declared=declared)


def _wild_entry(rng: Random) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "dtype": rng.choice((*_DTYPES, "F4", "", None, 3)),
        "shape": [rng.choice(_SIDES) for _ in range(rng.randint(0, 5))],
        "data_offsets": [rng.randint(-1, 64) for _ in range(rng.choice((1, 2, 2, 2, 3)))],
    }
    for field in list(fields):
        if rng.random() < 0.05:
            fields[field] = rng.choice((None, "", [], {}, [[1]], float("nan")))
        if rng.random() < 0.02:
            del fields[field]
    return fields


def _damaged(rng: Random) -> bytes:
    """Return a file of the zoo, cut, or with some bytes changed."""
    data = bytearray(rng.choice(small_files()))
    reach = min(len(data), 2_000)  # the header is where it hurts
    for _ in range(rng.randint(0, 4) if reach else 0):
        is_sign = rng.random() < 0.7
        value = rng.choice(b'0123456789[]{}",:') if is_sign else rng.randrange(256)
        data[rng.randrange(reach)] = value
    return bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data)


def _noise(rng: Random) -> bytes:
    return rng.randbytes(rng.randint(0, 200))


def check(data: bytes, path: Path) -> str:
    """Inspect one file; gives the verdict with its first reason. Raises AssertionError."""
    path.write_bytes(data)
    found = inspect_file(path)
    told = json.dumps(facts(found))
    assert told.isascii()
    if found.header is not None and found.parsed is not None:
        assert _accepted_by_the_library(data)
        used = [key for change in found.parsed.changes for key in change.parts.values()]
        counted = [*used, *found.parsed.other_keys, *found.parsed.unknown_keys]
        assert sorted(counted) == sorted(found.header.tensors)
    reason = found.problems[0].reason if found.problems else "all used"
    return f"{found.verdict} ({reason})"


def _accepted_by_the_library(data: bytes) -> bool:
    """We are stricter than the safetensors library, never laxer."""
    try:
        deserialize(data)
    except SafetensorError:
        return False
    return True
