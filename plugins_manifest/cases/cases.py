"""Cases: the prompts and images that every method gets, from a list or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plugins_manifest.cases.rows import read_rows
from plugins_manifest.errors import UserError
from plugins_manifest.schema.manifest import FileCases, InlineCase

_LONGEST_PLACE = 80


@dataclass(frozen=True)
class Case:
    """A prompt with an optional source picture: a file, or a scene (seed, index) of pocket.

    `condition_paths` are finished condition images, (condition name, path); `reference_path` is
    the picture for image prompts, if it is not the source picture.
    """

    case_id: str
    prompt: str
    negative_prompt: str = ""
    image_path: str | None = None
    scene: tuple[int, int] | None = None
    condition_paths: tuple[tuple[str, str], ...] = ()
    reference_path: str | None = None

    def condition_path(self, condition: str) -> str | None:
        """Return the finished image of a condition; None if it is made from the picture."""
        return dict(self.condition_paths).get(condition)

    @property
    def has_picture(self) -> bool:
        """Whether conditions can be made from a picture."""
        return self.image_path is not None or self.scene is not None


def inline_cases(
    items: Sequence[InlineCase], *, folder: Path, negative_prompt: str = "", prefix: str = "case"
) -> list[Case]:
    """Return the cases of a list; image paths are relative to `folder`; missing ids are numbered.

    Raises `UserError` for duplicate ids and missing images.
    """
    problems: list[str] = []
    cases: dict[str, Case] = {}
    for i, item in enumerate(items):
        case_id = item.id or f"{prefix}-{i:04d}"
        if case_id in cases:
            problems.append(f"case id {case_id!r} comes twice: rename one")
        for name in (item.image, item.reference, *item.conditions.values()):
            if name is not None and not (folder / name).is_file():
                problems.append(f"case {case_id!r}: there is no image {name!r}: check the path")
        negative = negative_prompt if item.negative_prompt is None else item.negative_prompt
        cases[case_id] = Case(
            case_id,
            item.prompt,
            negative,
            image_path=_joined(folder, item.image),
            condition_paths=tuple((k, str(folder / v)) for k, v in item.conditions.items()),
            reference_path=_joined(folder, item.reference),
        )
    if problems:
        raise UserError.collect(problems)
    return list(cases.values())


def _joined(folder: Path, name: str | None) -> str | None:
    return None if name is None else str(folder / name)


def with_finished_conditions(
    cases: Sequence[Case], condition_images: str | None, *, folder: Path
) -> list[Case]:
    """Return the cases with the images of CONDITION/CASE.png (or CONDITION/PHOTO.png) in a folder.

    A case's own condition images take precedence. Raises `UserError` for a missing folder.
    """
    if condition_images is None:
        return list(cases)
    root = folder / condition_images
    if not root.is_dir():
        raise UserError(f"there is no folder {condition_images!r}: correct condition_images")
    there = {
        (kind.name, file.stem): str(file)
        for kind in sorted(root.iterdir())
        for file in sorted(kind.glob("*.png"))
    }
    kinds = list(dict.fromkeys(kind for kind, _ in there))
    return [_with_found(case, kinds, there) for case in cases]


def _with_found(case: Case, kinds: Sequence[str], there: Mapping[tuple[str, str], str]) -> Case:
    stems = [case.case_id, *([Path(case.image_path).stem] if case.image_path else [])]
    found = {kind: there[kind, s] for kind in kinds for s in stems[::-1] if (kind, s) in there}
    return replace(case, condition_paths=tuple({**found, **dict(case.condition_paths)}.items()))


def file_cases(spec: FileCases, *, folder: Path, negative_prompt: str = "") -> list[Case]:
    """Parse the cases of a file (`read_rows`); `UserError` names the file and its problems."""
    path = folder / spec.path
    lines, rows = read_rows(path, name=spec.path)
    try:
        items = TypeAdapter(list[InlineCase]).validate_python(rows)
    except ValidationError as error:
        raise UserError.collect([_problem(e, spec.path, lines) for e in error.errors()]) from error
    if not items:
        raise UserError(f"the case file {spec.path!r} contains no case: add one")
    items = items[: spec.n]
    cases = inline_cases(items, folder=path.parent, negative_prompt=negative_prompt)
    return with_finished_conditions(cases, spec.condition_images, folder=folder)


def _problem(error: Any, name: str, lines: Sequence[int]) -> str:
    place = error["loc"]
    index = place[0] if place and isinstance(place[0], int) else None
    where = name if index is None or index >= len(lines) else f"{name}:{lines[index]}"
    return f"{where}: case {'.'.join(map(str, place))[:_LONGEST_PLACE]}: {error['msg']}"
