"""Claims about damaged and malicious stores: every page opens and reports the problem."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.store.run_store import RunStore
from leaderboard.study.runs import RESULTS_VARIABLE
from leaderboard.web.pictures import read_picture
from tests.leaderboard.drawn_results import write_gate, write_results
from tests.leaderboard.views_driver import VIEWS, addresses, charts, fragments, open_view, texts

pytestmark = pytest.mark.system

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>[a](javascript:alert(1)) :red[x] $x$"
_TEXTS = ("quality_metric", "quality_reason", "verdict_reason", "choice_reason", "sort_reason")
PARTS = ("Images", "Best and worst", "Side by side", "Card")
# unescaped Markdown: a link, HTML, a color, a formula
LIVE = re.compile(r"(?<!\\)[<\[$]|(?<!\\):\w+(?<!\\)\[")


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, "")


RUN_VIEWS = [view for view in VIEWS if view != "about"]  # pages that show a run


def open_all(results: Path, **chosen: str) -> list[Any]:
    """Open all pages that show a run, and all parts of the plugin page."""
    pages = [open_view(view, results, **chosen) for view in RUN_VIEWS]
    return pages + [open_view("plugin", results, part=part, **chosen) for part in PARTS[1:]]


def rewritten(path: Path, **columns: Any) -> None:
    """Replace values of columns of a table."""
    frame = pd.read_parquet(path)
    for name, value in columns.items():
        frame[name] = value
    frame.to_parquet(path)


def evil_run(folder: Path, **settings: Any) -> RunStore:
    """Write a run in which every possible text is hostile."""
    store = write_results(folder, n_cases=2, prompt=EVIL, **settings)
    facts = store.run_facts()
    facts |= {"command": EVIL, "manifest": EVIL, "versions": {EVIL: EVIL}, "device": {EVIL: EVIL}}
    store.write_run_facts({**facts, "run_id": f"{folder.name}-id", "family": EVIL, "git": EVIL})
    text = (folder / "manifest.yaml").read_text()
    data = {"plugins": [{"id": EVIL, "source": "javascript:alert(1)", "license": EVIL}], "x": text}
    data["plugins"][0] |= {"trigger": [EVIL], "kind": {EVIL: EVIL}}
    (folder / "manifest.yaml").write_text(json.dumps(data))
    rename = {"canny-net": EVIL}
    for path in [*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]:
        frame = pd.read_parquet(path)
        if "plugin" in frame:
            frame["plugin"] = frame["plugin"].replace(rename)
        for name in ("recipe", "reason", "detail", "function_metric", *_TEXTS):
            if name in frame:
                frame[name] = EVIL
        if "metric" in frame:
            frame["metric"] = EVIL
        frame.to_parquet(path)
    return store


class _Fragments(HTMLParser):
    """The tags of HTML, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def check_fragments(page: Any) -> None:
    """Hostile text is text: no script, no handler, and no address but those of the site."""
    found = _Fragments(fragments(page))
    assert not {tag for tag, _ in found.tags} & {"script", "iframe", "object", "form", "em"}
    for _, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "data-full", "data-copy"):
            place = attributes.get(name) or "http://localhost/"
            assert place.startswith(("http://localhost/", "data:image/svg+xml,")), place


def test_hostile_text_is_shown_literally_on_every_page(tmp_path: Path) -> None:
    evil_run(tmp_path / "<b>run")
    evil_run(tmp_path / "other", loss=0.2)
    for page in open_all(tmp_path, plugin=EVIL):
        plain = texts(page).replace("**", "")  # bold text of the pages themselves
        assert not LIVE.search(plain), LIVE.search(plain)
        assert not page.get("link_button")
        check_fragments(page)
        assert all(url.startswith("http://localhost/") for url in addresses(page))


def test_a_gate_of_any_shape_opens(tmp_path: Path) -> None:
    write_results(tmp_path / "old", created="2026-11-01T00:00:00+00:00", n_cases=2)
    new = write_results(tmp_path / "new", n_cases=2)
    gate: dict[str, Any] = {"baseline": {"run_id": "old-id"}, "verdict": EVIL, "reason": [1]}
    for tests in (None, EVIL, [EVIL, 3, None], [{"plugin": 4, "difference": EVIL, "low": []}]):
        write_gate(new, {**gate, "tests": tests})
        page = open_view("compare", tmp_path)
        assert "script" in page.warning[0].value and not LIVE.search(texts(page))
    for damaged in ("[]", "{", '{"baseline": 3}', "[" * 100_000):
        (new.folder / "gate.json").write_text(damaged)
        open_view("compare", tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "images/../../secret.png", "\0", ""]
)
def test_a_picture_outside_the_run_is_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = write_results(tmp_path / "runs" / "one", n_cases=1)
    own = store.image_path(store.trials()["trial_id"][0])
    secret = tmp_path / "runs" / "secret.png"
    secret.write_bytes(own.read_bytes())
    (tmp_path / "runs" / "one" / "link.png").symlink_to(secret)
    rewritten(store.folder / "trials.parquet", condition_path=name)
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "runs"))
    trial = store.trials()["trial_id"][0]
    assert read_picture("one", "small", trial) is not None
    for image in (name, "link.png"):
        rewritten(store.folder / "results" / "all.parquet", image=image)
        for what in ("small", "full", "condition"):
            assert read_picture("one", what, trial) is None
    for run, what in (("..", "small"), ("two", "small"), ("one", "../images")):
        assert read_picture(run, what, trial) is None


def test_what_is_no_picture_or_too_large_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_results(tmp_path / "one", n_cases=1)
    trial = store.trials()["trial_id"][0]
    path = store.image_path(trial)
    whole = path.read_bytes()
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    bomb = whole[:16] + (60_000).to_bytes(4) * 2 + whole[24:]
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    for content in (b"", b"GIF89a", svg, b"<script>", whole[: len(whole) // 2], bomb):
        path.write_bytes(content)
        assert read_picture("one", "full", trial) is None
    path.unlink()
    assert read_picture("one", "small", trial) is None


def test_missing_images_and_failed_trials_do_not_close_a_page(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    for path in (tmp_path / "one" / "images").rglob("*.png"):
        path.unlink()
    trial = store.trials()["trial_id"][0]
    store.write_results("more", [{"trial_id": trial, "status": "failed", "error": "no <memory>"}])
    pages = open_all(tmp_path)
    assert any("failed" in warning.value for page in pages for warning in page.warning)


@pytest.mark.parametrize("keep", [0, -30])
def test_truncated_tables_are_named_and_every_page_opens(tmp_path: Path, keep: int) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    for table in ("trials", "results/all", "scores/edge-f1", "tables/summary"):
        path = store.folder / f"{table}.parquet"
        path.write_bytes(path.read_bytes()[:keep])
    for view in ("overview", "tradeoff", "handover", "plugin", "provenance"):
        warnings = [
            warning.value.replace("\\", "") for warning in open_view(view, tmp_path).warning
        ]
        for title in ("The plan", "Results", "Scores", "The summary"):
            assert any(title in text and "damaged" in text for text in warnings), (view, title)


@pytest.mark.parametrize("table", ["trials", "results/all", "tables/compatibility"])
def test_the_plugin_page_opens_with_one_table_damaged(tmp_path: Path, table: str) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    path = store.folder / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:100])
    for part in PARTS:
        assert "damaged" in texts(open_view("plugin", tmp_path, part=part))


def test_a_run_in_progress_says_so_on_every_page(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store = write_results(tmp_path / name, n_cases=2)
        store.write_run_facts({**store.run_facts(), "status": "running"})
        (store.folder / "tables" / "summary.parquet").unlink()
        (store.folder / "tables" / "compatibility.parquet").unlink()
        (store.folder / "results" / "all.parquet").unlink()
    for page in open_all(tmp_path):
        assert "not complete" in texts(page)


def test_an_older_format_says_so_on_every_page(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store = write_results(tmp_path / name, n_cases=2)
        (store.folder / "run.json").write_text(json.dumps({"format": 0, "status": "complete"}))
    for page in open_all(tmp_path):
        assert "has format 0" in texts(page).replace("\\", "")


def test_tables_with_strange_numbers_and_types_open(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store = write_results(tmp_path / name, n_cases=2)
        rewritten(
            store.folder / "tables" / "compatibility.parquet",
            t0=float("inf"),
            kept="x",
            retention_low=-float("inf"),
        )
        rewritten(store.folder / "tables" / "summary.parquet", value=float("inf"), low=[[1]] * 12)
        rewritten(store.folder / "trials.parquet", seed="zero", case_id=None, method=3)
        rewritten(store.folder / "scores" / "edge-f1.parquet", value=float("nan"), better=None)
    pages = dict(zip(RUN_VIEWS, open_all(tmp_path), strict=False))
    (_, [points]) = charts(pages["tradeoff"])[0]
    assert pages["overview"].dataframe[0].value["rank_reason"].notna().all()  # numbers are text
    assert points["t0"].isna().all() and points["retention"].notna().all()
    assert "no values" in texts(pages["handover"])


def test_columns_of_another_run_format_are_empty_not_fatal(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store = write_results(tmp_path / name, n_cases=2)
        for path in [*store.folder.glob("*.parquet"), *store.folder.glob("*/*.parquet")]:
            pd.DataFrame({"another": [1, 2]}).to_parquet(path)
    open_all(tmp_path)
