"""Condition images: the input of a ControlNet, made from a photo or a pocket scene by a detector.

Every detector runs at the size of its plugin's side, on an antialiased down-scale; conditions
without an installed detector come with the cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from bench.errors import UserError, shown_path
from bench.plan.cases import rendered_sets
from bench.plan.job import Job
from bench.registry import installed, load_entry
from bench.store import ImageCache, RunStore, read_image
from bench.store.files import decode_image, pixels_sha256, png_bytes, sha256_of, write_bytes
from bench.store.image_cache import CACHED_FACTS
from bench.store.run_store import condition_name
from plugins_manifest.cases import Case
from plugins_manifest.content import SHOWN, ChangedFileError, require_same
from plugins_manifest.installed import extension_errors, require_contract
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import Side
from runners.families import family_traits

Detector = Callable[[np.ndarray], np.ndarray]


def detector_entry(name: str) -> Any:
    """Return the installed detector of a condition, for no family in particular."""
    found = load_entry("detectors", name)
    from metrics.condition import Detector as Contract  # it loads cv2

    require_contract("detectors", name, found, Contract)
    return found


def find_detector(name: str, *, family: str) -> Detector:
    """Return a detector by name, the family's own where it declares one.

    Raises `UserError` for an unknown one, and for one whose weights are missing.
    """
    from metrics.base import MetricUnavailableError

    entry = detector_entry(name)
    with extension_errors(f"detector {name!r}", "cannot be used"):
        detector = entry.for_family(family)
    if (why := why_not_made(name)) is not None:
        raise UserError(f"{name} cannot be made here: {why}")

    def find(picture: np.ndarray) -> np.ndarray:
        with extension_errors(f"detector {name!r}", "failed"):
            try:
                return _checked_condition(detector.find(picture))
            except MetricUnavailableError as error:  # weights that do not fit, imports
                raise UserError(f"{name} cannot be made here: {error}") from error

    return find


def _checked_condition(image: object) -> np.ndarray:
    """Return a copy of a detector's image; raise `TypeError` unless it is uint8 RGB [H, W, 3]."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"it returned {type(image).__name__}, not a uint8 array [H, W, 3]")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise TypeError(f"it returned {image.dtype} {image.shape}, not uint8 [H, W, 3]")
    return np.array(image)


def uses_network(condition: str) -> bool:
    """Return whether making this condition takes long: by a network, or by hand."""
    if condition not in installed("detectors"):
        return True
    return getattr(detector_entry(condition), "network", None) is not None


def detection_key(name: str, picture: np.ndarray, *, family: str) -> str:
    """Hash of all that decides a detector's answer: pixels, recipe, packages that compute."""
    packages = [version(name) for name in ("controlnet_aux", "opencv-python-headless", "torch")]
    entry = detector_entry(name)
    with extension_errors(f"detector {name!r}", "has no recipe"):
        recipe = entry.for_family(family).recipe()
    return sha256_of(json.dumps([pixels_sha256(picture), name, recipe, packages]).encode())


def why_not_made(condition: str) -> str | None:
    """Why images of a condition cannot be made here; None where they can."""
    if condition not in installed("detectors"):
        return "no detector makes them"
    entry = detector_entry(condition)
    with extension_errors(f"detector {condition!r}", "has no recipe"):
        try:
            entry.full_recipe()
        except ValueError as error:  # its network's weights are missing
            return str(error)
    return None


def cover(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Scale to fill (width, height) px and crop the center; uint8 RGB, antialiased."""
    height_px, width_px = image.shape[:2]
    if (width_px, height_px) == size_px:
        return image
    scale = max(size_px[0] / width_px, size_px[1] / height_px)
    crop_w, crop_h = size_px[0] / scale, size_px[1] / scale
    left, top = (width_px - crop_w) / 2, (height_px - crop_h) / 2
    box = (left, top, left + crop_w, top + crop_h)
    picture = Image.fromarray(image).resize(size_px, Image.Resampling.LANCZOS, box=box)
    return np.asarray(picture)


def source_picture(case: Case, size_px: tuple[int, int]) -> np.ndarray:
    """Return the picture a case's condition is made from, uint8 RGB at `size_px` (width, height).

    Raises `UserError` for a case that has neither image nor scene.
    """
    if case.scene is not None:
        from pocket.scenes import render, scene_at

        return cover(render(scene_at(*case.scene), "flat", min(size_px)), size_px)
    if case.image_path is None:
        raise UserError(
            f"case {case.case_id!r} has no picture to make a condition from: add 'image: PATH'"
        )
    return cover(read_image(Path(case.image_path)), size_px)


@dataclass
class ConditionSet:
    """Condition images of one run, made on demand; kept in `folder` (a run directory) if given.

    Finished images are read back and verified, so that a resumed run uses the same ones. `size_px`
    is the base side's, `upgraded_size_px` that of plugins of the upgraded model. Images detected
    in photos are kept in `cache`, if given, for all runs.
    """

    family: str
    size_px: tuple[int, int]
    folder: Path | None = None
    upgraded_size_px: tuple[int, int] | None = None
    cache: ImageCache | None = None
    _hashes: dict[str, str] = field(default_factory=dict)
    _references: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_job(
        cls, job: Job, folder: Path | None = None, *, cache: ImageCache | None = None
    ) -> Self:
        """Return the conditions of a job, at its sizes."""
        settings = job.manifest.settings
        return cls(
            job.manifest.family,
            settings.base_size,
            folder=folder,
            upgraded_size_px=settings.upgraded_size,
            cache=cache,
        )

    def __post_init__(self) -> None:
        if self.folder is not None:
            self._hashes = RunStore(self.folder).condition_hashes()

    def image(self, case: Case, detector: str, *, side: Side = "base") -> np.ndarray:
        """Return the condition image, uint8 RGB [H, W, 3] at the side's size.

        Raises `UserError` if the case has neither the finished image nor a picture for it, and
        `ChangedFileError` if it is not the image that was hashed.
        """
        path = self._path(case, detector, side)
        key = condition_name(case.case_id, detector, side=side)
        if path is not None and path.is_file():
            return self._as_hashed(key, read_image(path), fix=self._repair)
        made = self._made(case, detector, side)
        if path is not None:
            write_bytes(path, png_bytes(made), below=self.folder)
        return self._as_hashed(key, made, fix="restore the picture that it is made from")

    @property
    def _repair(self) -> str:
        return f"xbench repair {shown_path(self.folder)}" if self.folder else "plan again"

    def _as_hashed(self, key: str, image: np.ndarray, *, fix: str) -> np.ndarray:
        """Return an image that trials use, read-only; raise `ChangedFileError` for another one."""
        planned = self._hashes.get(key)
        if planned is not None and pixels_sha256(image) != planned:
            raise ChangedFileError(
                f"the image {key} is not the one with which the trials were planned (pixels "
                f"{planned[:SHOWN]}...): {fix}, then run the same command again"
            )
        return _read_only(image)

    def _made(self, case: Case, detector: str, side: Side) -> np.ndarray:
        size_px = self.size_px if side == "base" else self.upgraded_size_px
        if size_px is None:
            raise ValueError("conditions of the upgraded side need upgraded_size_px")
        finished = case.condition_path(detector)
        if finished is not None:
            return cover(read_image(Path(finished)), size_px)
        if (why := why_not_made(detector)) is not None:
            raise UserError(needs_finished(repr(case.case_id), detector, why))
        if side == "upgraded" and family_traits(self.family).enlarges_conditions:
            return _enlarged(self.image(case, detector), size_px)
        return self._detected(detector, source_picture(case, size_px), is_photo=case.scene is None)

    def _detected(self, detector: str, picture: np.ndarray, *, is_photo: bool) -> np.ndarray:
        find = find_detector(detector, family=self.family)
        if self.cache is None or not is_photo:
            return find(picture)
        key = detection_key(detector, picture, family=self.family)
        kept = self.cache.get(key)
        if kept is not None:
            return decode_image(kept.png, name=f"the cached {detector} image")
        found = find(picture)
        self.cache.put(key, png_bytes(found), dict.fromkeys(CACHED_FACTS))
        return found

    def sha256(self, case: Case, detector: str, *, side: Side = "base") -> str:
        """Return the sha256 of the condition's pixels."""
        key = condition_name(case.case_id, detector, side=side)
        path = self._path(case, detector, side)
        if key not in self._hashes or (path is not None and not path.is_file()):
            self._hashes.pop(key, None)
            self._hashes[key] = pixels_sha256(self.image(case, detector, side=side))
        return self._hashes[key]

    def reference_sha256(self, case: Case, own: Path | None) -> str:
        """Return the sha256 of the image prompt's pixels; `reference` holds to it afterwards."""
        key = _reference_key(case, own)
        if key not in self._references:
            self._references[key] = pixels_sha256(self.reference(case, own))
        return self._references[key]

    def reference(self, case: Case, own: Path | None) -> np.ndarray:
        """Return the image prompt, uint8 RGB: the case's reference, the plugin's, the picture."""
        path = case.reference_path or (None if own is None else str(own)) or case.image_path
        image = source_picture(case, self.size_px) if path is None else read_image(Path(path))
        planned = self._references.get(_reference_key(case, own))
        if planned is not None:
            what = f"the reference image of case {case.case_id!r}"
            require_same(what, planned, pixels_sha256(image))
        return _read_only(image)

    def save_index(self) -> None:
        """Write the hashes, so that planning again reads no image."""
        if self.folder is not None:
            RunStore(self.folder).write_condition_hashes(self._hashes)

    def _path(self, case: Case, detector: str, side: Side) -> Path | None:
        name = condition_name(case.case_id, detector, side=side)
        return None if self.folder is None else self.folder / name


def _reference_key(case: Case, own: Path | None) -> str:
    return f"{case.case_id}/{case.reference_path or own or case.image_path}"


def _read_only(image: np.ndarray) -> np.ndarray:
    image.setflags(write=False)
    return image


class UnmadeConditions(ConditionSet):
    """Conditions of a plan that is not rendered: nothing is made, hashes are placeholders."""

    def sha256(self, case: Case, detector: str, *, side: Side = "base") -> str:
        """Return a placeholder for the hash of the condition's pixels."""
        return sha256_of(condition_name(case.case_id, detector, side=side).encode())

    def reference(self, case: Case, own: Path | None) -> np.ndarray:
        """Return a placeholder for the image prompt."""
        return np.zeros((1, 1, 3), np.uint8)


def _enlarged(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Resize to (width, height) px by nearest neighbors, which keeps every line sharp."""
    return np.asarray(Image.fromarray(image).resize(size_px, Image.Resampling.NEAREST))


def make_slow_conditions(job: Job, conditions: ConditionSet, *, show_progress: bool) -> None:
    """Make every condition image that a network detects and that does not exist yet."""
    if not any(spec.condition and uses_network(spec.condition) for spec in job.manifest.plugins):
        return
    images = dict.fromkeys(_slow_conditions(job))
    with Progress(
        "detecting conditions", unit="image", total=len(images), has_bar=show_progress
    ) as bar:
        for case, condition, side in images:
            conditions.sha256(case, condition, side=side)
            bar.update()


def _slow_conditions(job: Job) -> Iterator[tuple[Case, str, Side]]:
    """Yield every case with each condition that a network makes of it, and the plugin's side."""
    for plugin_set in rendered_sets(job.manifest):
        for member in plugin_set.members:
            condition = member.plugin.condition
            if condition is not None and uses_network(condition):
                for case in job.cases_by_set[plugin_set.id]:
                    yield case, condition, member.plugin.side


def needs_finished(cases: str, condition: str, why: str) -> str:
    """Return the message for cases without finished images of a condition."""
    return (
        f"there are no {condition} images of {cases}: {why}; or provide finished images: "
        f"'conditions: {{{condition}: PATH}}' in the cases, or condition_images in their source"
    )
