"""Figures and tables for a paper: the same bytes, embedded fonts, escaped names, honest bold."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.report.figures import csv_table, latex_table, open_figures, write_figures
from bench.store import Row, RunStore, records
from tests.bench.drawn_run import compatible_run
from tests.plugins_manifest.test_outputs import HOSTILE

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return compatible_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def figures(store: RunStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures") / "paper"
    write_figures(store, open_figures(folder, store.folder))
    return folder


def rows_of(store: RunStore, level: str) -> list[Row]:
    return [row for row in records(store.compatibility()) if row["level"] == level]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, words)])


def test_every_plot_is_there_as_pdf_and_svg_with_its_fonts(figures: Path) -> None:
    names = {path.stem for path in figures.glob("*.pdf")}
    assert {"retention", "t0-function-pocket-canny", "plane-pocket-outline"} <= names
    assert names == {path.stem for path in figures.glob("*.svg")}
    for path in figures.glob("*.pdf"):
        content = path.read_bytes()
        assert b"/FontFile2" in content and b"/Type3" not in content
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", content)
        assert float(box) == pytest.approx(72 * 3.35, abs=0.5)  # the width of a column
    assert not any("<text" in path.read_text() for path in figures.glob("*.svg"))


def test_the_same_run_gives_the_same_bytes_and_no_date(
    store: RunStore, figures: Path, tmp_path: Path
) -> None:
    write_figures(store, open_figures(tmp_path / "again", store.folder))
    for path in figures.iterdir():
        content = path.read_bytes()
        assert (tmp_path / "again" / path.name).read_bytes() == content
        assert b"CreationDate" not in content and b"dc:date" not in content


def test_files_of_others_are_refused_and_those_of_an_earlier_call_replaced(
    store: RunStore, figures: Path, tmp_path: Path
) -> None:
    run = RunStore.open(shutil.copytree(store.folder, tmp_path / "run"))
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "methods.tex").write_text("We propose")
    for folder in (paper, run.folder, run.folder / "figures"):
        result = call(run.folder, "--figures", folder)
        assert result.exit_code == 2 and "--figures" in result.output
    assert (paper / "methods.tex").read_text() == "We propose"
    out = tmp_path / "out"
    out.mkdir()
    listed = json.loads((figures / "figures.json").read_text())
    (out / "old.pdf").write_text("of an earlier run")
    (out / "figures.json").write_text(json.dumps({**listed, "files": ["old.pdf"]}))
    result = call(run.folder, "--figures", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["n_figures"] == len(list(out.iterdir())) - 1
    assert not (out / "old.pdf").exists() and (out / "retention.pdf").exists()


def test_bold_marks_what_is_not_told_from_the_best_and_nothing_else(store: RunStore) -> None:
    rows = rows_of(store, "setting")
    lines = [line for line in latex_table(rows).splitlines() if line.count(" & ") == 6][1:]
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert ("\\textbf{" in line) == bool(row["among_best"]), line
    assert 0 < sum("textbf" in line for line in lines) < len(lines)


@pytest.mark.parametrize("name", [*HOSTILE, "[x] 100 % & more", "*a--b", "\\input{/etc/passwd}"])
def test_a_hostile_name_stays_one_cell(store: RunStore, name: str) -> None:
    rows = [{**row, "plugin": name} for row in rows_of(store, "method")]
    plain = [{**row, "plugin": "x"} for row in rows_of(store, "method")]
    text = latex_table(rows)
    assert len(text.splitlines()) == len(latex_table(plain).splitlines())
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    for line in body[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == 6
        name_cell = line.split(" & ")[0]
        assert not re.findall(r"(?<!\\)[%#_~^$]|^[\[*]|--", name_cell)
        commands = set(re.findall(r"\\([a-zA-Z]+)", line))
        assert commands <= {"textbf", "textbackslash", "textless", "textgreater", "textbar",
                            "textasciicircum", "textasciitilde", "char"}  # fmt: skip
    table = list(csv.DictReader(csv_table(rows).splitlines()))
    assert len(table) == len(rows)
    assert not any(row["plugin"].startswith(("=", "+", "-", "@")) for row in table)


def test_the_csv_has_words_and_numbers_of_every_row(figures: Path, store: RunStore) -> None:
    table = list(csv.DictReader((figures / "settings.csv").read_text().splitlines()))
    rows = {(r["plugin"], r["method"], r["t0"]): r for r in rows_of(store, "setting")}
    assert len(table) == len(rows)
    for line in table:
        row = rows[line["plugin"], line["method"], float(line["t0"]) if line["t0"] else None]
        assert line["retention"] == ("" if row["retention"] is None else str(row["retention"]))
        assert line["keeps"].endswith("]") == (row["retention_low"] is not None)
