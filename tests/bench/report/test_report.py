import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from bench.render.audit import remarks
from bench.report.cells import number
from bench.report.sheets import Column, draw_sheet
from bench.report.text import format_summary, with_interval
from bench.report.write import write_report
from bench.scoring.score import score_run
from bench.store.run_store import RunStore
from metrics.stats.intervals import Estimate
from plugins_manifest.outputs import markdown
from tests.bench.drawn_run import draw_run, drawn_metrics, finished_run

HOSTILE = [
    "<script>alert(1)</script> | a [link](http://evil.example) `code` ![x](y)",
    "line one\n# heading\n\n- list \u202e reversed",
    "www.evil.example and mail@evil.example and https://evil.example *bold* _it_ ~~no~~ \\",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    store = finished_run(tmp_path_factory.getbasetemp())
    write_report(store)
    return store


@pytest.fixture(scope="module")
def text(store: RunStore) -> str:
    return (store.tables_dir / "report.md").read_text(encoding="utf-8")


def rendered(markdown: str) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).render(markdown)


def test_the_report_says_in_words_what_was_found(text: str):
    words = text.split("## How to read", maxsplit=1)[0]
    assert "0 of 2 plugins are shown to keep working on the upgraded model" in words
    assert "- **pocket-canny** is open (about 200 more prompts) with SDEdit at t0 0.5" in words
    claim = "X-Adapter is not told apart from SDEdit at t0 0.5; keeps more than SDEdit at t0 0.9"
    assert f"- **pocket-canny** (edge-f1): {claim}." in words.replace("\\", "")


def test_the_report_holds_every_part(text: str):
    for part in ("# drawn", "## In words", "## How to read this", "## pocket-canny (controlnet)"):
        assert part in text
    for part in ("## Failures\n\nNone.", "## Missing scores and cautions", "## Recipes"):
        assert part in text
    assert "unstable: n = 12 \\< 2048" in text
    assert "self-reference: this is the base image" in text


def test_tables_are_well_formed(text: str):
    html = rendered(text)
    n_tables = len(re.findall(r"^\| ---", text, re.M))
    assert html.count("<table>") == n_tables >= 5
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_sheets_show_rows_of_prompts_and_columns_of_methods(store: RunStore, text: str):
    for plugin, n_columns in (("pocket-canny", 7), ("pocket-outline", 6)):
        assert f"](sheet-{plugin}.webp)" in text
        with Image.open(store.tables_dir / f"sheet-{plugin}.webp") as sheet:
            assert sheet.width > n_columns * 192
            assert sheet.height > 6 * 192


def test_writing_the_report_again_gives_the_same_bytes(store: RunStore):
    paths = sorted(path for path in store.tables_dir.rglob("*") if path.is_file())
    assert {".md", ".html", ".png", ".svg", ".webp", ".parquet"} == {p.suffix for p in paths}
    before = [path.read_bytes() for path in paths]
    write_report(store.folder)
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("prompt", HOSTILE)
def test_hostile_text_is_shown_literally(prompt: str):
    html = rendered(f"| a | b |\n| --- | --- |\n| {markdown(prompt)} | end |\n")
    assert html.count("<td>") == 2
    for tag in ("<script", "<a ", "<img", "<code", "<h1", "<em>", "<strong>", "<s>", "\u202e"):
        assert tag not in html


@pytest.mark.parametrize("prompt", HOSTILE)
def test_hostile_text_makes_no_bare_links(prompt: str):
    text = markdown(prompt)
    assert "://" not in text
    assert "www." not in text
    assert "@" not in text.replace("\\@", "")


def test_a_run_with_hostile_prompts_and_errors_is_reported(tmp_path: Path):
    store = draw_run(tmp_path / "run", n_cases=3, t0s=(0.5,), prompts=HOSTILE)
    results = store.results()
    results.loc[0:3, ["status", "image", "image_sha256"]] = ["failed", None, None]
    results.loc[0:3, "error"] = "<b>boom</b> | pipe\nsecond line"
    store.write_results("all", results.to_dict("records"))
    score_run(store, drawn_metrics())
    text = write_report(store).read_text(encoding="utf-8")
    assert "4 of 21 trials failed" in text
    assert "<b>" not in rendered(text)
    assert "\\<b\\>boom\\</b\\> \\| pipe second line" in text


def test_the_console_table_fits_100_columns(store: RunStore):
    text = format_summary(store.summary(), remarks(store))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.isascii()
    assert "function edge-f1" in text and "distance pocket-kid" in text
    assert "pocket-style" in text
    assert len(re.findall(r"^  xadapter  0\.9 ", text, re.M)) == 2


def test_a_run_without_scores_has_a_report(tmp_path: Path):
    store = draw_run(tmp_path / "run", n_cases=1, t0s=(0.5,))
    assert write_report(store).is_file()
    assert format_summary(store.summary()) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.12345, "0.123"), (-1e-12, "-1e-12"), (0.0, "0.000"), (1234.5678, "1234.6")],
)
def test_numbers_are_short_and_small_ones_keep_two_digits(value, text):
    assert number(value) == text


def test_no_number_is_written_as_negative_zero():
    assert number(-0.0004, digits=2) == "0.00"
    assert number(-0.0, signed=True) == "0.000"


def test_an_estimate_without_interval_is_written_alone():
    assert with_interval(Estimate(0.5, None, None, 3, 3, "few")) == "0.500"
    assert with_interval(Estimate(0.5, 0.4, 0.6, 9, 9), signed=True) == "+0.500 [+0.400, +0.600]"


def test_a_missing_picture_says_why_and_long_prompts_are_cut():
    sheet = draw_sheet(
        ["word " * 200, "x" * 500], [Column(("base", ""), ("not rendered: out of memory", "none"))]
    )
    assert sheet.size[1] > 2 * 192
    assert len(sheet.crop((280, 90, 470, 280)).getcolors(190 * 190)) > 2
