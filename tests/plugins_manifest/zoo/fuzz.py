"""Random files and what must hold of each: an answer, never an exception; nothing counted twice."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from plugins_manifest.formats.header import DTYPE_BYTES
from plugins_manifest.inspect import inspect_file
from plugins_manifest.inspect_facts import facts
from tests.plugins_manifest.zoo import ZOO
from tests.plugins_manifest.zoo.files import with_header

_SMALL = 20_000  # bytes of the files that are mutated
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

_names = st.one_of(
    st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4).map("".join),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=12),
)
_wild_names = st.one_of(_names, st.text(max_size=12))
_bytes = st.one_of(st.sampled_from(list(b'0123456789[]{}",:')), st.integers(0, 255))
_sides = st.one_of(st.sampled_from([0, 1, 2, 4, 8, 320, 768]), st.integers(-2, 2**65))
_dtypes = st.one_of(st.sampled_from(sorted(DTYPE_BYTES)), st.text(max_size=4))
_entries = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": _dtypes,
            "shape": st.lists(_sides, max_size=5),
            "data_offsets": st.lists(st.integers(-1, 64), min_size=1, max_size=3),
        }
    ),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=4), st.lists),
)


@cache
def _models() -> tuple[bytes, ...]:
    """Small files of the zoo, to be damaged."""
    made = (animal.make() for animal in ZOO if not animal.name.startswith(("many", "large")))
    return tuple(data for data in made if len(data) < _SMALL)


@st.composite
def well_formed(draw: st.DrawFn) -> bytes:
    """A file that the safetensors library would accept: random names, tiny tensors."""
    names = draw(st.lists(_names.filter(lambda n: n != "__metadata__"), max_size=8, unique=True))
    header: dict[str, Any] = {}
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=8), st.text(), max_size=3))
    at = 0
    for name in names:
        dtype = draw(st.sampled_from(sorted(DTYPE_BYTES)))
        shape = draw(st.lists(st.sampled_from([1, 2, 4, 8]), max_size=4))
        size = DTYPE_BYTES[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return with_header(json.dumps(header), draw(st.binary(max_size=8)).ljust(at, b"\1")[:at])


@st.composite
def malformed(draw: st.DrawFn) -> bytes:
    """A header of the right kind with anything in its fields."""
    header = draw(st.dictionaries(_wild_names, _entries, max_size=4))
    text = json.dumps(header)
    return with_header(text, draw(st.binary(max_size=64)), declared=draw(_declared(len(text))))


def _declared(length: int) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), st.sampled_from([0, length - 1, length + 1, 2**32, 2**63]))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of the zoo, cut, or with some bytes changed."""
    data = bytearray(draw(st.sampled_from(_models())))
    reach = min(len(data), 2_000)  # the header is where it hurts
    for at, value in draw(st.lists(st.tuples(st.integers(0, reach), _bytes), max_size=4)):
        if at < len(data):
            data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


files = st.one_of(well_formed(), malformed(), damaged(), st.binary(max_size=200))


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
