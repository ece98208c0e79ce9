from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from tests.plugins_manifest.zoo import ZOO


@pytest.fixture
def told(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


class Asked:
    """The command on files of the zoo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, *options: str) -> Result:
        animal = next(animal for animal in ZOO if animal.name == name)
        path = self.folder / (name + animal.suffix)
        path.write_bytes(animal.make())
        return CliRunner().invoke(main, ["plugins", "inspect", str(path), *options])


def test_a_good_file_is_described_and_the_exit_code_is_0(told: Asked) -> None:
    result = told("bundled-embeddings")
    assert result.exit_code == 0
    lines = ("kohya", "sd1 (by the tensors' shapes)", "6 lora; 6 of 6 with alpha", "rank        4")
    for line in (*lines, "unet attn1.to_q", "zkz_neg: 4 vectors", "verdict     ok"):
        assert line in result.output


def test_json_says_the_same(told: Asked) -> None:
    found = json.loads(told("lokr", "--json").output)
    assert (found["verdict"], found["safety"], found["kind"]) == ("ok", "data-only", "lycoris")
    assert found["formulas"] == {"lokr": 6}
    assert found["keys_unused"] == 0


@pytest.mark.parametrize("name", ["sdxl-lora", "nan", "pickle-renamed", "html", "controllllite"])
def test_a_file_that_cannot_be_applied_whole_gives_1_and_the_reason(told: Asked, name: str) -> None:
    animal = next(animal for animal in ZOO if animal.name == name)
    result = told(name)
    assert result.exit_code == 1
    assert f"verdict     {animal.verdict}" in result.output
    assert all(f"problem     {reason}: " in result.output for reason in animal.reasons)


def test_many_problems_of_one_reason_hide_no_other(told: Asked) -> None:
    lines = told("sdxl-lora").output.splitlines()
    told_of = [line.split()[1] for line in lines if line.startswith("problem")]
    assert told_of == ["wrong-base:", "bad-shape:", "bad-shape:", *["unmatched-module:"] * 4]
    assert "            and 32 more: unmatched-module" in lines


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["plugins", "inspect", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "is not a file" in result.output


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_stranger_s_text_reaches_neither_terminal_nor_page(
    told: Asked, option: tuple[str, ...]
) -> None:
    output = told("dirty-metadata", *option).output
    assert all(sign.isprintable() for line in output.splitlines() for sign in line)
    assert "<" not in output
    assert "\\u003cscript" in output.replace("\\\\", "\\")
