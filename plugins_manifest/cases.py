"""Cases: the prompts and images that every method gets, from a list, a file, or COCO captions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from plugins_manifest.errors import UserError
from plugins_manifest.schema import CocoCases, FileCases, InlineCase

COCO_CAPTIONS = "captions_val2017.json"
COCO_PHOTOS = "val2017"


@dataclass(frozen=True)
class Case:
    """A prompt with an optional source picture: a file, or a scene (seed, index) of pocket."""

    case_id: str
    prompt: str
    negative_prompt: str = ""
    image_path: str | None = None
    scene: tuple[int, int] | None = None


def inline_cases(
    items: Sequence[InlineCase], *, folder: Path, negative_prompt: str = "", prefix: str = "case"
) -> list[Case]:
    """Cases of a list; image paths are relative to `folder`; missing ids are numbered.

    Raises `UserError` for ids that come twice and images that are not there.
    """
    problems: list[str] = []
    cases: list[Case] = []
    for i, item in enumerate(items):
        case_id = item.id or f"{prefix}-{i:04d}"
        image = None if item.image is None else folder / item.image
        if image is not None and not image.is_file():
            problems.append(f"case {case_id!r}: there is no image {item.image!r}: check the path")
        if any(case.case_id == case_id for case in cases):
            problems.append(f"case id {case_id!r} comes twice: rename one")
        negative = negative_prompt if item.negative_prompt is None else item.negative_prompt
        path = None if image is None else str(image)
        cases.append(Case(case_id, item.prompt, negative, image_path=path))
    if problems:
        raise UserError.collect(problems)
    return cases


def file_cases(spec: FileCases, *, folder: Path, negative_prompt: str = "") -> list[Case]:
    """Cases of a JSON, CSV or YAML file; `UserError` names the file and what is wrong in it."""
    path = folder / spec.path
    try:
        rows = _read_rows(path)
        items = TypeAdapter(list[InlineCase]).validate_python(rows)
    except OSError as error:
        raise UserError(f"the case file {spec.path!r} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            f"{spec.path}: case {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
        ]
        raise UserError.collect(problems) from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"the case file {spec.path!r} cannot be parsed: {error}") from error
    if not items:
        raise UserError(f"the case file {spec.path!r} holds no case: add one")
    items = items[: spec.n]
    return inline_cases(items, folder=path.parent, negative_prompt=negative_prompt)


def _read_rows(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        return [{k: v for k, v in row.items() if v not in (None, "")} for row in rows]
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix in (".yaml", ".yml"):
        return yaml.safe_load(text)
    raise ValueError(f"its ending is {path.suffix!r}: use .json, .csv or .yaml")


def coco_cases(spec: CocoCases, *, folder: Path, negative_prompt: str = "") -> list[Case]:
    """Photos of COCO val2017 with one caption each: the one with the lowest annotation id.

    Photos come in order of their id; without `image_ids`, those that are on the disk.
    Raises `UserError` for a missing folder, unknown ids and missing photos.
    """
    root = folder / spec.path
    captions_path, photos = root / COCO_CAPTIONS, root / COCO_PHOTOS
    if not captions_path.is_file() or not photos.is_dir():
        raise UserError(
            f"cases.path is {spec.path!r}: it must hold {COCO_CAPTIONS} and the folder "
            f"{COCO_PHOTOS} with the photos"
        )
    names, captions = _coco_captions(captions_path)
    image_ids = spec.image_ids
    if image_ids is None:
        present = {path.name for path in photos.iterdir()}
        image_ids = tuple(sorted(i for i in captions if names[i] in present))[: spec.n]
    problems = [
        f"COCO val2017 has no image {i}: correct image_ids" for i in image_ids if i not in captions
    ] or [
        f"the photo {COCO_PHOTOS}/{names[i]} is missing under {spec.path!r}: add it"
        for i in image_ids
        if not (photos / names[i]).is_file()
    ]
    if not image_ids:
        problems.append(f"no photo of COCO val2017 lies in {spec.path!r}/{COCO_PHOTOS}: add some")
    if problems:
        raise UserError.collect(problems)
    return [
        Case(f"coco-{i:012d}", captions[i], negative_prompt, image_path=str(photos / names[i]))
        for i in image_ids[: spec.n]
    ]


def _coco_captions(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """File name and caption by image id."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in data["images"]}
        chosen: dict[int, tuple[int, str]] = {}
        for note in data["annotations"]:
            candidate = (note["id"], " ".join(note["caption"].split()))
            image_id = note["image_id"]
            chosen[image_id] = min(chosen.get(image_id, candidate), candidate)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is not COCO's captions file: {error!r}") from error
    return names, {image_id: caption for image_id, (_, caption) in chosen.items()}
