"""Claims about the images that a manifest names: each is read before anything is planned."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import UserError
from bench.plan.checks import output_problems, preflight
from bench.plan.pictures import condition_remarks
from plugins_manifest.schema.load import parse_manifest
from tests.bench.conftest import SMALL, job_of

LINES = np.zeros((64, 64, 3), np.uint8)
LINES[::9] = 255
PROMPT = "a large red circle on a blue background"


def save(path: Path, pixels: np.ndarray = LINES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def text_with(cases: str, condition: str = "canny") -> str:
    text = SMALL.replace("cases: {source: pocket, seed: 5, n: 3}", f"cases: {cases}")
    return text.replace("condition: canny", f"condition: {condition}")


def check(text: str, file: Path) -> None:
    preflight(job_of(parse_manifest(text, file)), allow_missing=True)


def file_cases(folder: Path, *rows: dict[str, object]) -> str:
    (folder / "c.json").write_text(json.dumps([{"prompt": PROMPT, **row} for row in rows]))
    return "{source: file, path: c.json, condition_images: conds}"


def test_every_unreadable_image_is_a_problem(manifest_file: Path) -> None:
    folder = manifest_file.parent
    cases = []
    for name in ("a.png", "b.jpg", "c.webp"):
        (folder / name).write_bytes(b"%!PS junk")
        cases.append(f"{{id: {name[0]}, prompt: {PROMPT}, image: {name}}}")
    with pytest.raises(UserError) as caught:
        check(text_with(f"[{', '.join(cases)}]"), manifest_file)
    assert len(caught.value.problems) == 3
    assert all("its content is PostScript" in problem for problem in caught.value.problems)


def test_remarks_are_logged_once(manifest_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = manifest_file.parent
    save(folder / "conds" / "canny" / "a.png", 255 - LINES)
    save(folder / "conds" / "canny" / "b.png", 0 * LINES)
    text = text_with(file_cases(folder, {"id": "a"}, {"id": "b"}))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            check(text, manifest_file)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "a.png: it has dark lines on a light ground" in lines[0] and "invert it" in lines[0]
    assert "b.png: it is a blank sheet of one color" in lines[1]


@pytest.mark.parametrize(
    ("condition", "pixels", "word"),
    [
        ("canny", LINES, None),
        ("canny", 255 - LINES, "dark lines"),
        ("scribble", 255 - LINES, "dark lines"),
        ("depth", 255 - LINES, None),
        ("depth", LINES * 0 + 7, "blank"),
        ("seg", LINES * 0, "blank"),
    ],
)
def test_suspicious_conditions_are_remarked_on(
    condition: str, pixels: np.ndarray, word: str | None
) -> None:
    found = condition_remarks(pixels, condition)
    assert [word in remark for remark in found if word] == ([True] if word else [])
    assert bool(found) == bool(word)


def test_a_missing_image_of_a_named_folder_is_never_made_from_the_photo(
    manifest_file: Path,
) -> None:
    folder = manifest_file.parent
    save(folder / "conds" / "canny" / "a.png")
    save(folder / "photo.png")
    rows = ({"id": "a"}, {"id": "b", "image": "photo.png"}, {"id": "c"})
    with pytest.raises(UserError) as caught:
        check(text_with(file_cases(folder, *rows)), manifest_file)
    (problem,) = caught.value.problems
    assert "condition_images has no canny image for 2 cases" in problem
    assert "conds/canny/b.png or conds/canny/photo.png, conds/canny/c.png" in problem


def test_without_condition_images_a_mixture_is_remarked_on(
    manifest_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = manifest_file.parent
    save(folder / "photo.png")
    save(folder / "lines.png")
    cases = (
        f"[{{id: a, prompt: {PROMPT}, image: photo.png, conditions: {{canny: lines.png}}}}, "
        f"{{id: unfinished, prompt: {PROMPT}, image: photo.png}}]"
    )
    with caplog.at_level(logging.WARNING):
        check(text_with(cases), manifest_file)
    expected = "1 canny images are finished ones; those of unfinished are made from the pictures"
    assert expected in caplog.text


def test_an_inpainting_controlnet_is_refused(manifest_file: Path) -> None:
    save(manifest_file.parent / "conds" / "inpaint" / "a.png")
    cases = file_cases(manifest_file.parent, {"id": "a"})
    with pytest.raises(UserError, match="masked pixels of the condition 'inpaint' are -1"):
        check(text_with(cases, "inpaint"), manifest_file)


@pytest.mark.parametrize("out", ["conds", "conds/canny/run", "."])
def test_a_run_directory_that_meets_its_images_is_refused(manifest_file: Path, out: str) -> None:
    folder = manifest_file.parent
    save(folder / "conds" / "canny" / "a.png")
    job = job_of(parse_manifest(text_with(file_cases(folder, {"id": "a"})), manifest_file))
    assert any("which is read" in problem for problem in output_problems(folder / out, job))
    assert list(output_problems(folder / "runs" / "x", job)) == []
