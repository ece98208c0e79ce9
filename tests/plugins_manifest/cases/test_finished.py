"""Claims about finished condition images: each is found, and none is taken for another."""

import json
from pathlib import Path

import pytest

from plugins_manifest.cases import Case
from plugins_manifest.cases.finished import INDEX, looked_for, with_finished_conditions
from plugins_manifest.errors import UserError

CASES = [Case("one", "a"), Case("two", "b", image_path="photos/street.jpg")]


def place(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")


def found(folder: Path, cases: list[Case] = CASES) -> list[dict[str, str]]:
    done = with_finished_conditions(cases, "conds", folder=folder)
    return [{k: Path(v).name for k, v in case.condition_paths} for case in done]


@pytest.mark.parametrize("ending", ["png", "PNG", "jpg", "Jpeg", "webp", "BMP", "tif", "TIFF"])
def test_every_ending_in_any_case_is_found(tmp_path: Path, ending: str) -> None:
    place(tmp_path, f"conds/canny/one.{ending}")
    assert found(tmp_path) == [{"canny": f"one.{ending}"}, {}]


def test_the_id_comes_before_the_photos_name(tmp_path: Path) -> None:
    place(tmp_path, "conds/canny/two.png", "conds/canny/street.png", "conds/depth/street.jpg")
    assert found(tmp_path)[1] == {"canny": "two.png", "depth": "street.jpg"}


@pytest.mark.parametrize("other", ["one.jpg", "one.PNG", "one.tiff"])
def test_two_files_for_one_case_are_refused_by_name(tmp_path: Path, other: str) -> None:
    place(tmp_path, "conds/canny/one.png", f"conds/canny/{other}")
    with pytest.raises(UserError) as caught:
        found(tmp_path)
    assert "'one'" in str(caught.value) and "one.png" in str(caught.value)
    assert other in str(caught.value)


def test_files_that_serve_no_case_disturb_nothing(tmp_path: Path) -> None:
    place(
        tmp_path, "conds/canny/x.png", "conds/canny/x.jpg", "conds/canny/._one.png", "conds/a.txt"
    )
    place(tmp_path, "conds/canny/one.png")
    assert found(tmp_path) == [{"canny": "one.png"}, {}]


def test_the_output_of_a_detector_is_read_by_its_index(tmp_path: Path) -> None:
    place(tmp_path, "conds/one.png", "conds/street.png")
    assert found(tmp_path) == [{}, {}]
    index = {"condition": "canny", "size": [64, 64], "images": {}}
    (tmp_path / "conds" / INDEX).write_text(json.dumps(index))
    assert found(tmp_path) == [{"canny": "one.png"}, {"canny": "street.png"}]


@pytest.mark.parametrize("text", ["[]", "{", '{"condition": 3, "images": {}}', "[" * 100_000])
def test_another_file_of_that_name_is_no_index(tmp_path: Path, text: str) -> None:
    place(tmp_path, "conds/one.png")
    (tmp_path / "conds" / INDEX).write_text(text)
    assert found(tmp_path) == [{}, {}]


def test_the_paths_that_are_looked_for_are_named() -> None:
    assert looked_for(CASES[0], "canny", "conds") == "conds/canny/one.png"
    assert looked_for(CASES[1], "canny", "c") == "c/canny/two.png or c/canny/street.png"
