"""What sets are compared with: images of the upgraded model without the plugin.

By default those of the run itself, which share prompts and seeds with what is measured. With
`XBENCH_REFERENCE_IMAGES`, a folder of held-out ones; their features are kept, with the sha256 of
the pictures, in `XBENCH_METRIC_STATISTICS` (default: a folder in the user's cache). The pocket
family has shipped features of held-out images.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from platformdirs import user_cache_path

from metrics.base import MetricUnavailableError, References, ScoredImage
from metrics.encoders import RowSource
from metrics.pocket_scorer import HashSource, shipped_sha256
from metrics.weights.files import SHOWN
from plugins_manifest.content import is_settled, state_of
from plugins_manifest.files import atomic_write, file_sha256, temporary_beside

FOLDER_VARIABLE = "XBENCH_REFERENCE_IMAGES"
STATISTICS_VARIABLE = "XBENCH_METRIC_STATISTICS"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class Reference(Protocol):
    """The images that a set is compared with, as rows of features."""

    @property
    def needs(self) -> tuple[str, ...]: ...

    def recipe(self) -> str:
        """Return the words of a recipe; raise MetricUnavailableError where images are missing."""
        ...

    def contains(self, image: ScoredImage) -> bool:
        """Return whether an image is part of the reference itself."""
        ...

    def rows(
        self, images: Sequence[ScoredImage], references: References, encoder: RowSource
    ) -> tuple[np.ndarray, str | None]:
        """Return features of the reference, float64 [N, D], and a caution about it."""
        ...


@dataclass(frozen=True)
class UpgradedImages:
    """The run's own images of the upgraded model, or those in `XBENCH_REFERENCE_IMAGES`."""

    needs: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Return which images; raise MetricUnavailableError for a folder with fewer than two."""
        folder = _folder()
        if folder is None:
            return "reference: the run's images of the upgraded model without plugin"
        paths = _pictures(folder)
        return f"reference: {len(paths)} held-out pictures, sha256 {_sha256(paths)}"

    def contains(self, image: ScoredImage) -> bool:
        """Return whether the image is one of the run's reference images."""
        return image.method == "floor" and _folder() is None

    def rows(
        self, images: Sequence[ScoredImage], references: References, encoder: RowSource
    ) -> tuple[np.ndarray, str | None]:
        """Return features of the reference, float64 [N, D], and a caution about it."""
        folder = _folder()
        if folder is not None:
            return _folder_rows(_pictures(folder), encoder), None
        floors = {f.trial_id: f for i in images if (f := references.floor_of(i)) is not None}
        found = sorted(floors.values(), key=lambda image: image.trial_id)
        caution = (
            f"the reference shares prompts and seeds; set {FOLDER_VARIABLE} to held-out images"
        )
        return encoder.rows(found, references), caution


UPGRADED_IMAGES = UpgradedImages()


@cache
def shipped_features() -> np.ndarray:
    """Return pocket features of the upgraded model on held-out prompts, float64 [N, 64]."""
    from safetensors.numpy import load_file

    from pocket import weights

    try:
        return load_file(weights.part_path("reference"))["features"].astype(np.float64)
    except weights.WeightsError as error:
        raise MetricUnavailableError(str(error)) from error


@dataclass(frozen=True)
class ShippedFeatures:
    """The pocket scorer's features of held-out images of the upgraded pocket model."""

    features: Callable[[], np.ndarray] = shipped_features
    sha256: HashSource = lambda: shipped_sha256("reference")
    needs: tuple[str, ...] = ("pocket reference features (shipped)",)

    def recipe(self) -> str:
        """Return which images; raise MetricUnavailableError if their hash was never recorded."""
        return f"reference: upgraded model, held-out prompts {self.sha256()[:SHOWN]}"

    def contains(self, image: ScoredImage) -> bool:
        """Return False: held-out images are not images of a run."""
        return False

    def rows(
        self, images: Sequence[ScoredImage], references: References, encoder: RowSource
    ) -> tuple[np.ndarray, str | None]:
        """Return the shipped rows; there is nothing to caution about."""
        return self.features(), None


def statistics_folder() -> Path:
    """Return `XBENCH_METRIC_STATISTICS`, or a folder in the user's cache."""
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
    """Return a hash of the pictures' content, whatever their names; cached by their states."""
    started_ns = time.time_ns()
    states = [(str(path), state_of(path)) for path in paths]
    key = hashlib.sha256(repr(states).encode()).hexdigest()[:32]
    note = statistics_folder() / f"{key}.sha256"
    if note.is_file():
        return note.read_text(encoding="ascii")
    hashes = sorted(file_sha256(path) for path in paths)
    found = hashlib.sha256("".join(hashes).encode()).hexdigest()[:SHOWN]
    if all(is_settled(state, started_ns) for _, state in states):
        atomic_write(note, found)
    return found


def _folder_rows(paths: Sequence[Path], encoder: RowSource) -> np.ndarray:
    from PIL import Image
    from safetensors.numpy import load_file, save_file

    sha256 = _sha256(paths)
    key = hashlib.sha256(f"{encoder.recipe()} {sha256}".encode()).hexdigest()[:32]
    path = statistics_folder() / f"{key}.safetensors"
    if path.is_file():
        return load_file(path)["features"]
    rows = encoder.encode([np.asarray(Image.open(p).convert("RGB")) for p in paths])
    if _sha256(paths) != sha256:
        raise MetricUnavailableError("the reference images changed while they were read")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = temporary_beside(path)
    save_file({"features": rows}, draft, {"recipe": encoder.recipe(), "pictures": sha256})
    draft.replace(path)
    return rows
