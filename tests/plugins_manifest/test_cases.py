"""Cases come from lists, files and COCO's own caption file."""

import json
import os
from pathlib import Path

import pytest

from plugins_manifest.cases import coco_cases, file_cases, inline_cases
from plugins_manifest.errors import UserError
from plugins_manifest.schema import CocoCases, FileCases, InlineCase

ROOT = Path(__file__).parents[2]
COCO = Path(os.environ.get("XBENCH_COCO", ROOT / ".." / "shared" / "data" / "coco"))
HERE = Path(".")


def test_listed_prompts_are_numbered_and_take_the_negative_prompt() -> None:
    items = [InlineCase(prompt="a"), InlineCase(prompt="b", id="mine", negative_prompt="")]
    cases = inline_cases(items, folder=HERE, negative_prompt="ugly")
    assert [(c.case_id, c.negative_prompt) for c in cases] == [("case-0000", "ugly"), ("mine", "")]


def test_missing_images_and_repeated_ids_are_told_together() -> None:
    items = [InlineCase(prompt="a", id="x", image="no.png"), InlineCase(prompt="b", id="x")]
    with pytest.raises(UserError) as caught:
        inline_cases(items, folder=HERE)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '[{"prompt": "a"}, {"prompt": "b, c", "id": "second"}]'),
        ("c.csv", 'prompt,id\na,\n"b, c",second\n'),
        ("c.yaml", "- prompt: a\n- {prompt: 'b, c', id: second}\n"),
    ],
)
def test_files_of_every_format_give_the_same_cases(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    cases = file_cases(FileCases(source="file", path=name), folder=tmp_path)
    assert [(c.case_id, c.prompt) for c in cases] == [("case-0000", "a"), ("second", "b, c")]


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.json", "{"), ("c.json", '[{"promt": "a"}]'), ("c.txt", "a"), ("c.csv", "prompt\n")],
)
def test_broken_case_files_are_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        file_cases(FileCases(source="file", path=name), folder=tmp_path)


def coco_folder(root: Path) -> Path:
    (root / "val2017").mkdir(parents=True)
    for i in (7, 3):
        (root / "val2017" / f"{i:012d}.jpg").write_bytes(b"photo")
    notes = [(9, 7, "later"), (5, 7, " a\n cat "), (6, 3, "a dog"), (1, 4, "not on the disk")]
    data = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (7, 3, 4)],
        "annotations": [{"id": n, "image_id": i, "caption": text} for n, i, text in notes],
    }
    (root / "captions_val2017.json").write_text(json.dumps(data))
    return root


def test_coco_takes_photos_by_id_and_the_first_caption(tmp_path: Path) -> None:
    coco_folder(tmp_path / "coco")
    cases = coco_cases(CocoCases(source="coco-val2017", path="coco"), folder=tmp_path)
    assert [(c.case_id, c.prompt) for c in cases] == [
        ("coco-000000000003", "a dog"),
        ("coco-000000000007", "a cat"),
    ]
    one = CocoCases(source="coco-val2017", path="coco", image_ids=(7,))
    assert [c.prompt for c in coco_cases(one, folder=tmp_path)] == ["a cat"]


def test_coco_names_unknown_ids_missing_photos_and_missing_folders(tmp_path: Path) -> None:
    coco_folder(tmp_path / "coco")
    for image_ids, said in (((99,), "no image 99"), ((4,), "000000000004.jpg is missing")):
        spec = CocoCases(source="coco-val2017", path="coco", image_ids=image_ids)
        with pytest.raises(UserError, match=said):
            coco_cases(spec, folder=tmp_path)
    with pytest.raises(UserError, match=r"captions_val2017\.json"):
        coco_cases(CocoCases(source="coco-val2017", path="nowhere"), folder=tmp_path)


@pytest.mark.skipif(not COCO.is_dir(), reason="COCO data is not there: set XBENCH_COCO")
def test_real_coco_captions_give_one_prompt_a_photo() -> None:
    cases = coco_cases(CocoCases(source="coco-val2017", path=str(COCO)), folder=HERE)
    assert len(cases) == len({c.case_id for c in cases}) == 50
    assert all(c.prompt.strip() == c.prompt and len(c.prompt) > 10 for c in cases)
    assert cases == coco_cases(CocoCases(source="coco-val2017", path=str(COCO)), folder=HERE)
