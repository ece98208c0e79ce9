"""Claims about the pages, run by Streamlit's own test driver."""

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import leaderboard
from leaderboard.study.runs import RESULTS_VARIABLE
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.views_driver import fragments

APP = str(Path(leaderboard.__file__).with_name("app.py"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_results(root / "first", n_cases=2)
    return root


def test_overview_ranks_methods_and_plugins(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, str(results))
    page = AppTest.from_file(APP, default_timeout=30).run()
    assert not page.exception and "2 of 2 plugins" in fragments(page)
    methods, plugins = (table.value for table in page.dataframe)
    assert methods["method"].tolist() == ["X-Adapter", "SDEdit"]
    assert len(plugins) == 4


def test_the_url_holds_the_filters(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, str(results))
    page = AppTest.from_file(APP, default_timeout=30)
    page.query_params["only_license"] = "MIT"
    page.run()
    assert set(page.dataframe[1].value["plugin"]) == {"ink-lora"}


def test_problems_of_a_damaged_run_are_shown_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_results(tmp_path / "bad <script>[x](y)", n_cases=2)
    store.write_run_facts({**store.run_facts(), "status": "<img src=x>"})
    path = store.folder / "tables" / "summary.parquet"
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    page = AppTest.from_file(APP, default_timeout=30).run()
    assert not page.exception and len(page.dataframe) == 0  # unfinished runs rank nowhere
    warnings = [warning.value for warning in page.warning]
    assert len(warnings) == 2 and "left out" in warnings[1]
    assert "img" in warnings[0]
    assert "bad &lt;script&gt;" in fragments(page) and "<script>" not in fragments(page)
    assert not any(re.search(r"(?<!\\)[<\[(]", text) for text in warnings)


def test_an_empty_folder_shows_the_command_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    page = AppTest.from_file(APP, default_timeout=30).run()
    assert not page.exception and "xbench run" in page.info[0].value
