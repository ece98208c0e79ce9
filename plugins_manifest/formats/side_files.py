"""Which file of a folder holds a plugin's weights, and which files beside it belong to it.

A plugin is a file, or a folder as diffusers and PEFT write it: one file of weights, and a
configuration. A configuration belongs to a file of weights where its name says so (NAME.json
beside NAME.safetensors, and the pairs of names that diffusers and PEFT use), or where that file is
the only one with weights in the folder; in a flat folder of several plugins `config.json` belongs
to none of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plugins_manifest.documents import read_json, read_text
from plugins_manifest.errors import UserError
from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.parsed import Header
from plugins_manifest.formats.peft_settings import FILE as PEFT_CONFIG
from plugins_manifest.text import shortened

NETWORK_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
)
_PEFT_NAME = "adapter_model.safetensors"
_CONFIG = "config.json"
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt"})
_MAX_BYTES = 2**20
# The class that a network's configuration names, by the kind of plugin.
CLASSES: Mapping[str, str] = MappingProxyType(
    {"controlnet": "ControlNetModel", "t2i_adapter": "T2IAdapter"}
)
IMAGE_ENCODER = "image_encoder"
ENCODER_SETTING = "XBENCH_IMAGE_ENCODER"


def weights_file(path: Path) -> Path:
    """Return a plugin's file of weights: the path itself, or the one in its folder.

    Raises `UserError` for a folder without weights, and for one with several.
    """
    if not path.is_dir():
        return path
    held = [p for p in sorted(path.iterdir()) if _is_weights(p)]
    found = [p for p in held if p.suffix.lower() == ".safetensors"]
    usual = [p for p in found if p.name in NETWORK_NAMES]
    if usual or len(found) == 1:
        return (usual or found)[0]
    if found:
        raise UserError(
            f"the folder {path.name!r} holds {len(found)} files of weights "
            f"({shortened([p.name for p in found])}): give one of them"
        )
    if held:
        raise UserError(
            f"the folder {path.name!r} holds {shortened([p.name for p in held])} and no "
            ".safetensors file: pickled weights are never opened, convert them with: xbench "
            "plugins convert"
        )
    below = sorted(p.relative_to(path).as_posix() for p in path.glob("*/*") if _is_weights(p))
    hint = f": give one of {shortened(below)}" if below else f": expected one (and {_CONFIG})"
    raise UserError(f"the folder {path.name!r} holds no .safetensors file{hint}")


def _is_weights(path: Path) -> bool:
    """Return whether a file's name is that of weights; macOS' companions (`._x`) are hidden."""
    return path.suffix.lower() in _WEIGHTS and not path.name.startswith(".") and path.is_file()


def network_config(weights: Path, kind: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the configuration that belongs to a network's file, and its path; None without one.

    Raises `UserError` for a configuration that is not JSON.
    """
    name = CLASSES[kind.replace("-", "_")]
    for path in (weights.with_suffix(".json"), weights.with_name(_CONFIG)):
        if not path.is_file() or (path.name == _CONFIG and not _owns_config(weights)):
            continue
        config = _read(path, weights)
        if isinstance(config, dict) and config.get("_class_name") == name:
            return path, config
    return None


def peft_config(weights: Path) -> tuple[Path, str] | None:
    """Return PEFT's `adapter_config.json` that belongs to a file, and its text; None without one.

    Raises `UserError` if it cannot be read.
    """
    path = weights.with_name(PEFT_CONFIG)
    if not path.is_file() or not (weights.name == _PEFT_NAME or _is_alone(weights)):
        return None
    return path, read_text(path, name=_name(path, weights))


def side_files(path: Path, kind: str) -> tuple[Path, ...]:
    """Return the files and folders outside of a plugin's path that are read with it.

    They are not in the plugin's hash, so the plan hashes them and they enter the trials' ids.
    `kind` is that of a manifest. Raises `UserError` as the readers do.
    """
    kind = kind.replace("-", "_")
    if kind == "ip_adapter":
        folder = encoder_folder(path / "any" if path.is_dir() else path)
        is_inside = path.is_dir() and folder.is_relative_to(path)
        return (folder,) if folder.is_dir() and not is_inside else ()
    if path.is_dir():
        return ()
    if kind in CLASSES:
        found = network_config(path, kind)
        return () if found is None else (found[0],)
    if kind in ("lora", "lycoris"):
        settings = peft_config(path)
        return () if settings is None else (settings[0],)
    return ()


def encoder_folder(weights: Path) -> Path:
    """Return the folder of an IP-Adapter's image encoder: beside its file, else the setting's."""
    beside, named = weights.parent / IMAGE_ENCODER, os.environ.get(ENCODER_SETTING)
    return Path(named).expanduser() if named and not beside.is_dir() else beside


def read_plugin(weights: Path) -> Header:
    """Read the header of a file of weights, with PEFT's configuration where one belongs to it.

    Raises as `read_header`, and `UserError` for a configuration that cannot be read.
    """
    header, settings = read_header(weights), peft_config(weights)
    return header if settings is None else replace(header, settings=settings[1])


def _owns_config(weights: Path) -> bool:
    return weights.name in NETWORK_NAMES or _is_alone(weights)


def _is_alone(weights: Path) -> bool:
    """Return whether a folder holds no other file of weights."""
    try:
        return all(p == weights or not _is_weights(p) for p in weights.parent.iterdir())
    except OSError:  # a folder that cannot be listed owns nothing
        return False


def _read(path: Path, weights: Path) -> Any:
    return read_json(path, name=_name(path, weights), most_bytes=_MAX_BYTES)


def _name(path: Path, weights: Path) -> str:
    return f"{path.name} beside {weights.name}"
