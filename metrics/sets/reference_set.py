"""What sets are compared with: images of the upgraded model without the plugin.

By default those of the run itself, which share prompts and seeds with what is measured. With
`XBENCH_REFERENCE_IMAGES`, a folder of held-out ones; their features are kept, with the sha256 of
the pictures, in `XBENCH_METRIC_STATISTICS` (default: a folder in the user's cache).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from metrics.base import MetricUnavailableError, References, ScoredImage
from metrics.encoders import Encoder
from metrics.weights.files import SHOWN

FOLDER_VARIABLE = "XBENCH_REFERENCE_IMAGES"
STATISTICS_VARIABLE = "XBENCH_METRIC_STATISTICS"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def reference_recipe() -> str:
    """The words of a recipe for the reference; MetricUnavailableError for a folder without any."""
    folder = _folder()
    if folder is None:
        return "reference: the run's images of the upgraded model without plugin"
    paths = _pictures(folder)
    return f"reference: {len(paths)} held-out pictures, sha256 {_sha256(paths)}"


def is_reference(image: ScoredImage) -> bool:
    """Whether an image is part of the reference itself."""
    return image.method == "floor" and _folder() is None


def reference_rows(
    images: Sequence[ScoredImage], references: References, encoder: Encoder
) -> tuple[np.ndarray, str | None]:
    """Features of the reference, float64 [N, D], and a caution about it."""
    folder = _folder()
    if folder is not None:
        return _folder_rows(_pictures(folder), encoder), None
    floors = {f.trial_id: f for image in images if (f := references.floor_of(image)) is not None}
    found = sorted(floors.values(), key=lambda image: image.trial_id)
    caution = f"the reference shares prompts and seeds; set {FOLDER_VARIABLE} to held-out images"
    return encoder.rows(found, references), caution


def statistics_folder() -> Path:
    """`XBENCH_METRIC_STATISTICS`, or a folder in the user's cache."""
    named = os.environ.get(STATISTICS_VARIABLE)
    return Path(named) if named else user_cache_path("xbench-metrics") / "statistics"


def _folder() -> Path | None:
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else None


def _pictures(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if len(paths) < 2:
        raise MetricUnavailableError(
            f"{FOLDER_VARIABLE} is {folder}, which holds {len(paths)} pictures: name a folder with "
            "more, or unset it"
        )
    return paths


def _sha256(paths: Sequence[Path]) -> str:
    """Hash of the pictures' content, whatever they are called; remembered while none changes."""
    stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    return _content_sha256(tuple(stamps))


@cache
def _content_sha256(stamps: tuple[tuple[str, int, int], ...]) -> str:
    key = hashlib.sha256(repr(stamps).encode()).hexdigest()[:32]
    note = statistics_folder() / f"{key}.sha256"
    if note.is_file():
        return note.read_text(encoding="ascii")
    hashes = []
    for path, _, _ in stamps:
        with Path(path).open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    found = hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()[:SHOWN]
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(found, encoding="ascii")
    return found


def _folder_rows(paths: Sequence[Path], encoder: Encoder) -> np.ndarray:
    from PIL import Image
    from safetensors.numpy import load_file, save_file

    key = hashlib.sha256(f"{encoder.recipe()} {_sha256(paths)}".encode()).hexdigest()[:32]
    path = statistics_folder() / f"{key}.safetensors"
    if path.is_file():
        return load_file(path)["features"]
    rows = encoder.encode([np.asarray(Image.open(p).convert("RGB")) for p in paths])
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{key}.{os.getpid()}.part")
    save_file({"features": rows}, draft, {"recipe": encoder.recipe(), "pictures": _sha256(paths)})
    draft.replace(path)
    return rows
