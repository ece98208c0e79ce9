"""Cases come from lists and files."""

from pathlib import Path

import pytest

from plugins_manifest.cases.cases import file_cases, inline_cases
from plugins_manifest.errors import UserError
from plugins_manifest.schema.manifest import FileCases, InlineCase

HERE = Path(".")


def test_listed_prompts_are_numbered_and_take_the_negative_prompt() -> None:
    items = [InlineCase(prompt="a"), InlineCase(prompt="b", id="mine", negative_prompt="")]
    cases = inline_cases(items, folder=HERE, negative_prompt="ugly")
    assert [(c.case_id, c.negative_prompt) for c in cases] == [("case-0000", "ugly"), ("mine", "")]


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
