"""Files are written in one place: completely or not at all, under names that nobody else uses."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins_manifest.files import (
    append_line,
    atomic_write,
    link_or_copy,
    replacing,
    sweep_temporary,
    temporary_beside,
)

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
WRITERS = {
    *("write_text", "write_bytes", "save_file", "save_pretrained", "to_parquet", "savefig"),
    *("copyfile", "copytree", "copy", "move", "mkstemp"),
}
# downloads under way, the sandboxed converter, a secret that must exist before its content
STREAMS = {
    "plugins_manifest/files.py",
    "plugins_manifest/http/download.py",
    "plugins_manifest/cases/coco_fetch.py",
    "plugins_manifest/inspect/pickle_convert.py",
    "plugins_manifest/inspect/unpickle_script.py",
    "plugins_manifest/store.py",
    "leaderboard/study/tokens.py",
}


def safe_names(tree: ast.AST) -> set[str]:
    """Names of buffers in memory, and of the temporary files of `replacing` and `written`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "BytesIO()" in ast.unparse(node.value):
            found |= {name for target in node.targets for name in ast.unparse(target).split(", ")}
        if isinstance(node, ast.With):
            is_draft = re.compile(r"(replacing|written)\(").match
            items = [i for i in node.items if is_draft(ast.unparse(i.context_expr))]
            found |= {ast.unparse(i.optional_vars) for i in items if i.optional_vars}
    return {name.strip("()") for name in found}


def direct_writes(code: str) -> Iterator[str]:
    """Yield the calls of a module that write a file under its final name."""
    tree = ast.parse(code)
    safe = safe_names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        is_open = name == "open" and any(
            isinstance(a, ast.Constant) and isinstance(a.value, str) and set(a.value) & set("wax+")
            for a in node.args[:2]
            if isinstance(a, ast.Constant) and len(str(a.value)) <= 3
        )
        is_save = name == "save" and isinstance(function, ast.Attribute)
        if not (is_open or is_save or name in WRITERS):
            continue
        arguments = [ast.unparse(argument) for argument in node.args]
        words = [*arguments, *(ast.unparse(keyword.value) for keyword in node.keywords)]
        if not safe & {*words}:
            if name in {"write_bytes"} and isinstance(function, ast.Name):
                continue  # bench.store.files.write_bytes, which is atomic
            if name == "copy" and (not arguments or ast.unparse(function) == "copy.copy"):
                continue
            yield f"{node.lineno}: {ast.unparse(node)[:60]}"


def test_every_file_is_written_through_one_module() -> None:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name not in STREAMS:
                found += [f"{name}:{line}" for line in direct_writes(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'path.write_text("x")',
        'path.open("w")',
        'open(path, "ab")',
        "save_file(tensors, path)",
        "picture.save(path)",
        "torch.save(state, path)",
        "model.save_pretrained(folder)",
    ],
)
def test_a_direct_write_is_recognized(code: str) -> None:
    assert list(direct_writes(code))
    assert not list(direct_writes("with replacing(path) as draft:\n    torch.save(x, draft)"))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, "old")

    def fail() -> None:
        with replacing(path) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for text in ("first", "second"):
        with replacing(path) as draft:
            draft.mkdir()
            (draft / text).write_text(text)
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(path) == ["second"]


def test_a_vanished_folder_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "run" / "images" / "x", b"x", below=tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_names_of_temporary_files_differ_even_in_one_process(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / "x.png").name for _ in range(1000)}
    assert len(names) == 1000 and all(len(name) < 80 for name in names)


def test_long_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    atomic_write(path, "x")
    assert path.read_text() == "x"


def test_sweeping_keeps_what_is_being_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as draft:
        draft.write_text("x")
        sweep_temporary(tmp_path)
    assert (tmp_path / "x").read_text() == "x"


def test_lines_are_appended(tmp_path: Path) -> None:
    for line in ("a", "b"):
        append_line(tmp_path / "logs" / "log", line)
    assert (tmp_path / "logs" / "log").read_text() == "a\nb\n"


def test_a_picture_gets_a_second_name_on_its_disk(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"picture")
    link_or_copy(tmp_path / "one", tmp_path / "to" / "two", below=tmp_path)
    assert (tmp_path / "to" / "two").samefile(tmp_path / "one")
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "one", tmp_path / "gone" / "two", below=tmp_path / "gone")


def test_a_picture_is_copied_where_the_disk_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "one").write_bytes(b"picture")
    link_or_copy(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"picture"
    assert not (tmp_path / "two").samefile(tmp_path / "one")
