"""Locate the shipped pocket weights and verify them against recorded hashes."""

import hashlib
import json
from pathlib import Path

from plugins_manifest.content import files_of, remembered_by_state
from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from plugins_manifest.files import atomic_write, file_sha256

FOLDER = Path(__file__).parent
HASHES = FOLDER / "sha256.json"
_FILES = {
    "lora-outline": "lora-outline.safetensors",
    "lora-hatched": "lora-hatched.safetensors",
    "upgraded-lora-outline": "upgraded-lora-outline.safetensors",
    "upgraded-lora-hatched": "upgraded-lora-hatched.safetensors",
    "upgraded-v-lora-outline": "upgraded-v-lora-outline.safetensors",
    "flow-lora-outline": "flow-lora-outline.safetensors",
    "converted-lora-outline": "converted-lora-outline.safetensors",
    "converted-lora-hatched": "converted-lora-hatched.safetensors",
    "reference": "reference.safetensors",
    "shapes": "shapes.safetensors",
    "base-near": "base-near.safetensors",
    "base-far": "base-far.safetensors",
}
PARTS = (
    *("base", "upgraded", "mapper", "controlnet-canny", "controlnet-mask"),
    *("lora-outline", "lora-hatched", "scorer", "reference", "shapes"),
    *("upgraded-controlnet-canny", "upgraded-controlnet-mask"),
    *("upgraded-lora-outline", "upgraded-lora-hatched"),
    *("upgraded-v", "mapper-v", "upgraded-v-controlnet-canny", "upgraded-v-lora-outline"),
    *("base-near", "base-far"),
    *("flow", "flow-lora-outline"),
    *("converted-lora-outline", "converted-lora-hatched"),
)


class WeightsError(ValueError):
    """A shipped weight file is missing, changed or unknown."""


def part_path(name: str) -> Path:
    """Return the folder or file of one part; `WeightsError` unless its sha256 is as recorded."""
    path = _location(name)
    try:
        found, recorded = folder_sha256(path), part_sha256(name)
    except UserError as error:
        raise WeightsError(f"pocket weights {name!r}: {error}; reinstall xbench") from error
    if found != recorded:
        raise WeightsError(
            f"pocket weights {name!r} at {path} have sha256 {found}, recorded is {recorded}: "
            "restore the file from the release, or record new weights with scripts/train-pocket"
        )
    return path


def part_sha256(name: str) -> str:
    """Return the recorded sha256 of one part."""
    if not HASHES.exists():
        raise WeightsError(f"no {HASHES.name} in {FOLDER}: make it with scripts/train-pocket")
    recorded = read_json(HASHES)
    if name not in recorded:
        raise WeightsError(f"no pocket weights named {name!r}: choose from {', '.join(recorded)}")
    return recorded[name]


def is_recorded(name: str) -> bool:
    """Return whether a part was ever trained here; without it its training begins."""
    return HASHES.exists() and name in read_json(HASHES)


@remembered_by_state
def folder_sha256(path: Path) -> str:
    """Return the sha256 of a file, or of the sorted list of a folder's files with their hashes.

    Raises `UserError` if it is missing.
    """
    if path.is_file():
        return file_sha256(path)
    total = hashlib.sha256()
    for name, file in files_of(path):
        total.update(f"{name} {file_sha256(file)}\n".encode())
    return total.hexdigest()


def record_hashes() -> dict[str, str]:
    """Write the hashes of all existing parts; run after training new weights."""
    found = {name: folder_sha256(_location(name)) for name in PARTS if _location(name).exists()}
    atomic_write(HASHES, json.dumps(found, indent=2) + "\n")
    return found


def _location(name: str) -> Path:
    if name not in PARTS:
        raise WeightsError(f"no pocket weights named {name!r}: choose from {', '.join(PARTS)}")
    return FOLDER / _FILES.get(name, name)
