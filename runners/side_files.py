"""Files beside a plugin's own that decide its pixels too: configs and image encoders.

They are not in the plugin's hash, so the plan hashes them and they enter the trials' ids. Imports
no torch.
"""

from __future__ import annotations

import os
from pathlib import Path

from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from plugins_manifest.schema.kinds import find_kind

ENCODER_FOLDER, ENCODER_SETTING = "image_encoder", "XBENCH_IMAGE_ENCODER"
_CONFIG_CLASSES = {"controlnet": "ControlNetModel", "t2i_adapter": "T2IAdapter"}


def side_paths(kind: str, path: Path) -> list[Path]:
    """Return the files and folders outside of a plugin's path that its loader reads."""
    found = find_kind(kind)
    name = kind if found is None else found.name
    if not path.exists():
        return []
    if name == "ip_adapter":
        folder = encoder_folder(path / "any" if path.is_dir() else path)
        is_inside = path.is_dir() and folder.is_relative_to(path)
        return [folder] if folder.is_dir() and not is_inside else []
    if path.is_dir() or name not in _CONFIG_CLASSES:
        return []
    config = config_beside(path, _CONFIG_CLASSES[name])
    return [] if config is None else [config]


def config_beside(weights: Path, class_name: str) -> Path | None:
    """Return the config of that class beside a file of weights (NAME.json, then config.json).

    One that is not JSON is returned too: its loader refuses it.
    """
    for path in (weights.with_suffix(".json"), weights.with_name("config.json")):
        if path.is_file() and _may_be_of(path, class_name):
            return path
    return None


def _may_be_of(path: Path, class_name: str) -> bool:
    try:
        config = read_json(path)
    except UserError:
        return True
    return isinstance(config, dict) and config.get("_class_name") == class_name


def encoder_folder(weights: Path) -> Path:
    """Return the folder of an IP-Adapter's image encoder: beside its file, else the setting's."""
    beside, named = weights.parent / ENCODER_FOLDER, os.environ.get(ENCODER_SETTING)
    return Path(named).expanduser() if named and not beside.is_dir() else beside
