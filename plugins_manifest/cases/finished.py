"""Finished condition images: which file of a folder serves which case.

A folder holds CONDITION/CASE.png or CONDITION/PHOTO.png. A folder that `xbench conditions` wrote
holds NAME.png of one condition, which an index names; it is the folder itself, or one in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plugins_manifest.cases.case import Case
from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from plugins_manifest.images import SUFFIXES

INDEX = "conditions.json"  # written by `xbench conditions` beside its images
_Files = Mapping[tuple[str, str], Sequence[Path]]  # by condition and stem


def with_finished_conditions(
    cases: Sequence[Case], condition_images: str | None, *, folder: Path
) -> list[Case]:
    """Return the cases with their images in a folder of finished ones.

    A case's own condition images take precedence, then those by its id. Raises `UserError` for a
    missing folder, and for two files that serve one case.
    """
    if condition_images is None:
        return list(cases)
    root = folder / condition_images
    if not root.is_dir():
        raise UserError(f"there is no folder {condition_images!r}: correct condition_images")
    try:
        there = _files(root)
    except OSError as error:
        raise UserError(
            f"condition_images {condition_images!r} cannot be read ({error.strerror}): check its "
            "rights"
        ) from error
    kinds = list(dict.fromkeys(kind for kind, _ in there))
    problems: list[str] = []
    found = [_with_found(case, kinds, there, problems) for case in cases]
    if problems:
        raise UserError.collect(problems)
    return found


def looked_for(case: Case, condition: str, condition_images: str) -> str:
    """Return the paths of a case's finished image, as a message shows them."""
    return " or ".join(f"{condition_images}/{condition}/{stem}.png" for stem in _stems(case))


def read_index(folder: Path) -> dict[str, Any]:
    """Return what `xbench conditions` wrote into a folder; empty for another folder."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        data = read_json(path)
    except UserError:
        return {}
    is_index = isinstance(data, dict) and isinstance(data.get("condition"), str)
    return data if is_index and isinstance(data.get("images"), dict) else {}


def _files(root: Path) -> _Files:
    found: dict[tuple[str, str], list[Path]] = {}
    for kind, place in _places(root):
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in SUFFIXES and not file.is_dir():
                found.setdefault((kind, file.stem), []).append(file)
    return found


def _places(root: Path) -> Iterator[tuple[str, Path]]:
    if index := read_index(root):
        yield index["condition"], root
    for place in sorted(root.iterdir()):
        if place.is_dir():
            yield read_index(place).get("condition", place.name), place


def _stems(case: Case) -> list[str]:
    """Return the names that a case's image may have, the first one that exists counts."""
    photo = [Path(case.image_path).stem] if case.image_path else []
    return list(dict.fromkeys([case.case_id, *photo]))


def _with_found(case: Case, kinds: Sequence[str], there: _Files, problems: list[str]) -> Case:
    own, found = dict(case.condition_paths), {}
    for kind in kinds:
        files = next((there[kind, stem] for stem in _stems(case) if (kind, stem) in there), [])
        if len(files) > 1 and kind not in own:
            names = " and ".join(file.name for file in files)
            problems.append(
                f"case {case.case_id!r}: {names} in {files[0].parent.name}/ are both its {kind} "
                "image: remove one"
            )
        if files:
            found[kind] = str(files[0])
    return replace(case, condition_paths=tuple({**found, **own}.items()))
