from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from plugins_manifest.errors import UserError
from plugins_manifest.formats.header import payload_sha256, read_header
from plugins_manifest.formats.magic import sniff
from plugins_manifest.formats.parsed import CAPS, UnsafeFile
from plugins_manifest.formats.reasons import UNSAFE
from tests.plugins_manifest.zoo.files import entry, with_header

TENSORS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "scalar": np.array(2.0, dtype=np.float32),
    "whole": np.arange(4, dtype=np.int64),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.safetensors"
    save_file(TENSORS, path, {"title": "a \u2713 title"})
    return path


def test_the_header_says_what_the_safetensors_library_says(saved: Path) -> None:
    header = read_header(saved)
    with safe_open(saved, framework="numpy") as file:
        assert header.metadata == file.metadata()
        assert set(header.tensors) == set(file.keys())
        for name in file.keys():  # noqa: SIM118 (the library's object is no mapping)
            assert header.tensors[name].dtype == file.get_slice(name).get_dtype()
            assert list(header.tensors[name].shape) == file.get_slice(name).get_shape()


def test_offsets_lead_to_the_tensor_s_bytes(saved: Path) -> None:
    header, data = read_header(saved), saved.read_bytes()
    for name, value in TENSORS.items():
        info = header.tensors[name]
        start = header.payload_start
        assert data[start + info.start : start + info.end] == value.tobytes()


def test_the_payload_hash_ignores_metadata_alone(saved: Path, tmp_path: Path) -> None:
    renamed, changed = tmp_path / "renamed.safetensors", tmp_path / "changed.safetensors"
    save_file(TENSORS, renamed, {"title": "another"})
    save_file(TENSORS | {"half": TENSORS["half"] + 1}, changed)
    assert payload_sha256(renamed) == payload_sha256(saved) != payload_sha256(changed)
    start = read_header(saved).payload_start
    assert payload_sha256(saved) == hashlib.sha256(saved.read_bytes()[start:]).hexdigest()


def test_a_file_that_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_header(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("caps", "code"),
    [
        (replace(CAPS, n_tensors=2), "too-many-tensors"),
        (replace(CAPS, header_bytes=20), "header-too-large"),
        (replace(CAPS, file_bytes=40), "too-large"),
        (replace(CAPS, metadata_bytes=4), "bad-metadata"),
        (replace(CAPS, name_length=3), "bad-name"),
        (replace(CAPS, n_dims=1), "bad-shape-header"),
        (replace(CAPS, side=2), "bad-shape-header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "caps",
)
def test_every_cap_holds(saved: Path, caps: object, code: str) -> None:
    with pytest.raises(UnsafeFile) as caught:
        read_header(saved, caps)  # pyright: ignore[reportArgumentType] (parametrized)
    assert caught.value.code == code
    assert code in UNSAFE


def test_white_space_around_the_json_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "spaces.safetensors"
    text = json.dumps({"__metadata__": {"a": "b"}, "x": entry()}, indent=2)
    path.write_bytes(with_header(text + "   ", b"\0" * 16))
    assert list(read_header(path).tensors) == ["x"]


def test_a_header_whose_length_begins_with_a_brace_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "brace.safetensors"
    text = json.dumps({"x": entry()})
    path.write_bytes(with_header(text.ljust(0x7B), b"\0" * 16))
    assert path.read_bytes().startswith(b"{")
    assert sniff(path) == "safetensors"
    assert list(read_header(path).tensors) == ["x"]
