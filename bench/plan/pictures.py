"""The images that a job's cases and plugins name: each is decoded once, before anything is planned.

Unreadable ones are problems. What a user should know is logged as a warning, once a process.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import UserError, shown_path
from bench.plan.job import Job
from bench.plan.missing import members_with_cases, needed_conditions
from bench.plan.remarks import log_once
from plugins_manifest.images import is_one_color, load_image
from plugins_manifest.schema.kinds import needs_reference
from plugins_manifest.schema.manifest import CocoCases
from plugins_manifest.schema.words import LINE_CONDITIONS
from plugins_manifest.text import shortened

_N_WORKERS = 2  # each may hold a decoded picture
_N_NAMED = 3


@dataclass(frozen=True, order=True)
class _Use:
    """An image with its use: `condition` is the one that it is a finished image of."""

    path: str
    condition: str | None = None


def image_problems(job: Job) -> Iterator[str]:
    """Yield why images of the job cannot be read; log what a user should know about the others."""
    found: dict[str, dict[str, None]] = {}
    with ThreadPoolExecutor(_N_WORKERS) as pool:
        for problem, use, remarks in pool.map(_examine, sorted(set(_uses(job)))):
            if problem is not None:
                yield problem
            for remark in remarks:
                found.setdefault(remark, {})[shown_path(Path(use.path))] = None
    for remark, names in found.items():
        log_once(f"{shortened([*names], _N_NAMED)}: {remark}")
    for line in _mixtures(job):
        log_once(line)


def _uses(job: Job) -> Iterator[_Use]:
    """Yield the images that are read; photos of COCO were decoded when they were fetched."""
    files, is_coco = job.files, isinstance(job.manifest.cases, CocoCases)
    for spec, cases in members_with_cases(job):
        own = files[spec.id].reference if spec.id in files else None
        for case in cases:
            photo = None if is_coco else case.image_path
            if spec.condition is not None:
                finished = case.condition_path(spec.condition)
                if finished is not None:
                    yield _Use(finished, spec.condition)
                elif photo is not None:
                    yield _Use(photo)
            if needs_reference(spec.kind):
                path = case.reference_path or (str(own) if own is not None else photo)
                if path is not None and Path(path).exists():  # else it is reported elsewhere
                    yield _Use(path)


def _examine(use: _Use) -> tuple[str | None, _Use, tuple[str, ...]]:
    try:
        image = load_image(Path(use.path))
    except UserError as error:
        return str(error), use, ()
    more = [] if use.condition is None else condition_remarks(image.pixels, use.condition)
    return None, use, (*image.remarks, *more)


def condition_remarks(pixels: np.ndarray, condition: str) -> list[str]:
    """Return what is suspicious about a finished image, uint8 RGB, of a condition."""
    if is_one_color(pixels):
        return [f"it is a blank sheet of one color: as a {condition} image it says nothing"]
    # most pixels of a line drawing are its ground
    if condition in LINE_CONDITIONS and np.median(pixels.mean(axis=2)) > 127:
        return [
            f"it has dark lines on a light ground: {condition} networks are trained on light "
            "lines on black; invert it"
        ]
    return []


def _mixtures(job: Job) -> Iterator[str]:
    """Yield conditions of which a part of the images is finished, and the others are made."""
    finished: dict[str, set[str]] = {}
    for spec, cases in members_with_cases(job):
        for case in cases:
            if spec.condition is not None and case.condition_path(spec.condition) is not None:
                finished.setdefault(spec.condition, set()).add(case.case_id)
    for condition, needed in needed_conditions(job).items():
        if needed.bare and (there := finished.get(condition)):
            yield (
                f"{len(there)} {condition} images are finished ones; those of "
                f"{shortened([*needed.bare], _N_NAMED)} are made from the pictures"
            )
