"""Cases come from lists and files."""

from pathlib import Path

import pytest

from plugins_manifest.cases.cases import file_cases, inline_cases
from plugins_manifest.errors import UserError
from plugins_manifest.schema.manifest import FileCases, InlineCase

HERE = Path(".")


A = "case-ca978112ca1b"  # sha256 of "a"


def test_unnamed_cases_have_the_hash_of_their_prompt_and_the_negative_prompt() -> None:
    items = [InlineCase(prompt="a"), InlineCase(prompt="b", id="mine", negative_prompt="")]
    cases = inline_cases(items, folder=HERE, negative_prompt="ugly")
    assert [(c.case_id, c.negative_prompt) for c in cases] == [(A, "ugly"), ("mine", "")]


def test_missing_images_and_repeated_ids_are_reported_together() -> None:
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
        ("c.jsonl", '"a"\n\n{"prompt": "b, c", "id": "second"}\n'),
        ("C.JSON", '["a", {"prompt": "b, c", "id": "second"}]'),
    ],
)
def test_files_of_every_format_give_the_same_cases(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    cases = file_cases(FileCases(source="file", path=name), folder=tmp_path)
    assert [(c.case_id, c.prompt) for c in cases] == [(A, "a"), ("second", "b, c")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", "{"),
        ("c.json", '[{"promt": "a"}]'),
        ("c.txt", "# a"),
        ("c.csv", "prompt\n"),
        ("c.toml", "a"),
    ],
)
def test_broken_case_files_are_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=name):
        file_cases(FileCases(source="file", path=name), folder=tmp_path)


def test_inserting_a_prompt_changes_no_other_id_and_equal_prompts_differ() -> None:
    before = inline_cases([InlineCase(prompt=p) for p in "aba"], folder=HERE)
    after = inline_cases([InlineCase(prompt=p) for p in "xabya"], folder=HERE)
    assert [case.case_id for case in before] == [A, before[1].case_id, f"{A}-2"]
    assert {c.case_id for c in before} <= {c.case_id for c in after}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_file_is_a_prompt_a_line(tmp_path: Path, end: str) -> None:
    lines = ["\ufeffa cat", "", "  # a remark", "a dog, #1  ", "a cat"]
    (tmp_path / "p.txt").write_bytes(end.join(lines).encode())
    cases = file_cases(FileCases(source="file", path="p.txt"), folder=tmp_path)
    assert [case.prompt for case in cases] == ["a cat", "a dog, #1", "a cat"]
    assert len({case.case_id for case in cases}) == 3


def test_columns_of_a_table_name_conditions(tmp_path: Path) -> None:
    (tmp_path / "edges.png").touch()
    text = "\ufeffprompt,conditions.canny,conditions.depth\r\na,edges.png,\r\nb,,\r\n"
    (tmp_path / "c.csv").write_bytes(text.encode())
    cases = file_cases(FileCases(source="file", path="c.csv"), folder=tmp_path)
    assert cases[0].condition_paths == (("canny", str(tmp_path / "edges.png")),)
    assert cases[1].condition_paths == ()


BAD = {
    "c.jsonl": '{"prompt": "a"}\n{"prompt": 1}\n{"prompt"\n\n{"prompt": "b", "image": "no.png"}\n',
    "c.json": '[\n{"prompt": 1},\n{"promt": "a"},\n{"prompt": "b",\n "image": "no.png"}\n]',
    "c.yaml": "- prompt: 1\n- promt: a\n- prompt: b\n  image: no.png\n",
    "c.csv": "prompt,image\n,x.png\na,,b\nb,no.png\n",
}
LINES = {
    "c.jsonl": [2, 3, 5],
    "c.json": [2, 3, 3, 4],
    "c.yaml": [1, 2, 2, 3],
    "c.csv": [2, 3, 4],
}


@pytest.mark.parametrize("name", BAD)
def test_all_problems_of_a_case_file_come_at_once_with_their_lines(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(BAD[name])
    with pytest.raises(UserError) as caught:
        file_cases(FileCases(source="file", path=name), folder=tmp_path)
    lines = sorted(int(problem.split(":")[1]) for problem in caught.value.problems)
    assert lines == LINES[name]
    assert any("there is no image 'no.png' (image)" in text for text in caught.value.problems)


def test_an_unknown_condition_or_column_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    (tmp_path / "e.png").touch()
    item = InlineCase(prompt="a", conditions={"cany": "e.png"})
    with pytest.raises(UserError, match=r"unknown condition 'cany'.*canny"):
        inline_cases([item], folder=tmp_path)
    (tmp_path / "c.csv").write_text("prompt,conditon.canny\na,e.png\n")
    with pytest.raises(UserError, match=r"c.csv:1: unknown column 'conditon.canny'"):
        file_cases(FileCases(source="file", path="c.csv"), folder=tmp_path)
