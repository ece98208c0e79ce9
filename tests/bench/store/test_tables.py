"""Claims about the list of tables: one list, and run directories known to the store alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.store import schema
from bench.store.files import write_table
from bench.store.run_store import (
    GATE_FILE,
    MANIFEST_FILE,
    RUN_FILE,
    RunStore,
    condition_name,
    is_run,
    run_folders,
)
from bench.store.schema import PUBLISHED, TABLES

ROOT = Path(__file__).parents[3]
PACKAGES = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
_RUN = RunStore("run")
PATHS = [
    *(table.pattern for table in TABLES.values()),
    *(RUN_FILE, GATE_FILE, MANIFEST_FILE, condition_name("case", "canny")),
    *(path.relative_to("run").as_posix() for path in (_RUN.plots_dir, _RUN.image_path("ab"))),
    *(_RUN.report_path(ending).relative_to("run").as_posix() for ending in ("html", "md")),
]
FILES = {Path(path).name for path in PATHS if "*" not in path} - {"case.png", "ab.png", "plots"}
FOLDERS = {part for path in PATHS for part in Path(path).parts[:-1]} - {"canny", "ab"} | {"plots"}


def path_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts of a module that are joined to a path or given to glob and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            operands = [node.left, node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            joins = name in ("glob", "rglob", "joinpath", "with_name", "Path")
            operands = node.args if joins else []
        else:
            continue
        for operand in operands:
            texts = operand.values if isinstance(operand, ast.JoinedStr) else [operand]
            for text in texts:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.lineno, text.value


def run_paths_in(code: str) -> list[tuple[int, str]]:
    """Lines of a module that build a path of a run directory, or define the name of its file."""
    tree = ast.parse(code)
    joined = [
        (line, text) for line, text in path_texts(tree) if set(text.split("/")) & (FILES | FOLDERS)
    ]
    alone = [
        (node.lineno, node.value)
        for assignment in ast.walk(tree)
        if isinstance(assignment, ast.Assign | ast.AnnAssign) and assignment.value
        for node in ast.walk(assignment.value)
        if isinstance(node, ast.Constant) and node.value in FILES
    ]
    return sorted({*joined, *alone})


def test_paths_of_a_run_directory_are_built_by_the_store_alone() -> None:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.is_relative_to(ROOT / "bench" / "store"):
                continue
            places = run_paths_in(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(ROOT)}:{line}: {text!r}" for line, text in places]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'folder / "scores"',
        'folder / "tables" / name',
        'folder.glob("results/*.parquet")',
        'Path("images")',
        'folder / f"conditions/{name}"',
        '_FILE = "audit.parquet"',
    ],
)
def test_a_path_of_a_run_directory_is_recognized(code: str) -> None:
    assert run_paths_in(code)
    assert not run_paths_in('print("see tables/report.md"); data["results"]; sum / n')


def test_every_table_is_written_with_its_columns_and_read_back(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for name, table in TABLES.items():
        frame = pd.DataFrame([{table.columns.names[0]: "a"}])
        store.write_table(name, frame, "part")
        (path,) = store.table_paths(name)
        assert path == store.table_path(name, "part")
        assert path.relative_to(tmp_path).match(table.pattern)
        assert pq.read_schema(path).equals(table.columns)
        assert len(store.read_table(name)) == 1
    assert len(store.trials()) == len(store.scores()) == len(store.summary()) == 1


def test_a_run_without_tables_has_empty_ones(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for name, table in TABLES.items():
        frame = store.read_table(name)
        assert frame.empty and frame.columns.tolist() == table.columns.names
    assert store.results().empty and store.image_ids() == set()


def test_unfinished_files_are_no_part_of_a_table(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_scores("kid", pd.DataFrame([{"metric": "kid"}]))
    (tmp_path / "scores" / ".tmp-1-fid.parquet").write_bytes(b"half")
    assert [path.name for path in store.table_paths("scores")] == ["kid.parquet"]
    assert store.scores()["metric"].tolist() == ["kid"]


def test_a_run_of_an_older_version_still_opens(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    store = RunStore(folder)
    store.write_run_facts({"status": "complete"})
    older = schema.pa.schema(list(schema.SUMMARY)[:-1])
    write_table(folder / "tables" / "summary.parquet", pd.DataFrame([{"plugin": "a"}]), older)
    opened = RunStore.open(folder)
    assert opened.summary()["plugin"].tolist() == ["a"]
    assert opened.summary().columns.tolist() == schema.SUMMARY.names
    assert opened.compatibility().empty and opened.read_table("audit").empty
    assert is_run(folder) and run_folders(tmp_path) == [folder] and not is_run(tmp_path)


def test_published_columns_are_those_of_the_run_without_what_is_private() -> None:
    own = {name: set(table.columns.names) for name, table in TABLES.items()}
    published = {name: set(columns.names) for name, columns in PUBLISHED.items()}
    assert own.keys() - published.keys() == {"ceilings"}
    assert published["results"] - own["results"] == {"thumbnail"}
    assert own["scores"] - published["scores"] == {"n", "leave_one_out", "inputs"}
    same = published.keys() - {"results", "scores"}
    assert all(published[name] == own[name] for name in same)
