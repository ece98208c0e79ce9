"""What sets are compared with: images of the upgraded model without the plugin.

By default those of the run itself, which share prompts and seeds with what is measured. With
`XBENCH_REFERENCE_IMAGES`, a folder of held-out ones; their features are kept, with the sha256 of
the pictures, in `XBENCH_METRIC_STATISTICS` (default: a folder in the user's cache). The pocket
family has shipped features of held-out images.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from platformdirs import user_cache_path

from metrics.base import MetricUnavailableError, References, ScoredImage
from metrics.device import GPU_BATCH
from metrics.encoders import RowSource
from metrics.pocket_scorer import HashSource, shipped_sha256
from metrics.weights.files import SHOWN
from plugins_manifest.content import is_settled, state_of
from plugins_manifest.errors import UserError
from plugins_manifest.files import replacing
from plugins_manifest.images import read_image
from plugins_manifest.images.folder import pictures_in, pictures_sha256
from plugins_manifest.sealed import read_sealed, write_sealed

FOLDER_VARIABLE = "XBENCH_REFERENCE_IMAGES"
STATISTICS_VARIABLE = "XBENCH_METRIC_STATISTICS"
_LOG = logging.getLogger(__name__)
_DECODER = "2"  # increased when decoded pixels change: kept features are computed again


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

    def is_of_run(self) -> bool:
        """Return whether the reference is images of the run, not held-out ones."""
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
        return image.method == "floor" and self.is_of_run()

    def is_of_run(self) -> bool:
        """Return True unless a folder of held-out images is set."""
        return _folder() is None

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

    def is_of_run(self) -> bool:
        """Return False: the images are held-out ones."""
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
    paths = pictures_in(folder)
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
    if isinstance(known := read_sealed(note), str):
        return known
    found = pictures_sha256(paths)[:SHOWN]
    if all(is_settled(state, started_ns) for _, state in states):
        with _kept():
            write_sealed(note, found, durable=False)
    return found


def _folder_rows(paths: Sequence[Path], encoder: RowSource) -> np.ndarray:
    from safetensors.numpy import save_file

    sha256 = _sha256(paths)
    named = f"{encoder.recipe()} {sha256} {_DECODER}"
    key = hashlib.sha256(named.encode()).hexdigest()[:32]
    path = statistics_folder() / f"{key}.safetensors"
    facts = {"recipe": encoder.recipe(), "pictures": sha256}
    if (known := _read_rows(path, facts)) is not None:
        return known
    try:
        parts = (paths[start : start + GPU_BATCH] for start in range(0, len(paths), GPU_BATCH))
        rows = np.concatenate([encoder.encode([read_image(p) for p in part]) for part in parts])
    except UserError as error:
        raise MetricUnavailableError(f"{FOLDER_VARIABLE}: {error}") from error
    if _sha256(paths) != sha256:
        raise MetricUnavailableError("the reference images changed while they were read")
    with _kept():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as draft:
            save_file({"features": rows}, draft, {**facts, "sha256": _rows_sha256(rows)})
    return rows


def _read_rows(path: Path, facts: Mapping[str, str]) -> np.ndarray | None:
    """Return cached features; None if they are missing, damaged or of other pictures."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            known, rows = file.metadata() or {}, file.get_tensor("features")
    except (SafetensorError, OSError, ValueError):
        return None
    return rows if known == {**facts, "sha256": _rows_sha256(rows)} else None


def _rows_sha256(rows: np.ndarray) -> str:
    return hashlib.sha256(f"{rows.dtype} {rows.shape}".encode() + rows.tobytes()).hexdigest()


@contextmanager
def _kept() -> Iterator[None]:
    """Go on with a warning where the folder of statistics cannot be written."""
    try:
        yield
    except OSError as error:
        _LOG.warning("features of reference images are not cached: %s", error)
