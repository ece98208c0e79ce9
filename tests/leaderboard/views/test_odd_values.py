"""Claims about values that are legal in the files of a run but invalid on a page."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from leaderboard.data import sources
from leaderboard.data.catalog import find_runs
from leaderboard.escape import literal
from leaderboard.study.runs import RESULTS_VARIABLE
from tests.leaderboard.drawn_results import write_gate, write_results
from tests.leaderboard.views_driver import open_view, texts


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, "")


@pytest.mark.parametrize("text", ["WWW.x.org", "www.x.org", "a@x.org", "https://x.org", ":smile:"])
def test_nothing_is_left_whole_that_becomes_a_link_after_parsing(text: str) -> None:
    escaped = literal(f"see {text}").replace("\\", "")
    assert text not in escaped and escaped.replace("\u2060", "") == f"see {text}"


def test_rows_without_names_do_not_close_the_overview(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=1, images=False)
    path = store.tables_dir / "compatibility.parquet"
    for column in ("kind", "method", "plugin"):
        frame = pd.read_parquet(path)
        frame.loc[frame.index[-1], column] = None
        frame.to_parquet(path)
        plugins = open_view("overview", tmp_path).dataframe[1].value
        assert plugins[column].tolist().count("") == 1


def test_half_a_surrogate_pair_does_not_close_the_overview(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=1, images=False)
    half = {"adapter_sha256": "\ud800", "family": "\udfff"}
    (store.folder / "run.json").write_text(json.dumps({**store.run_facts(), **half}))
    page = open_view("overview", tmp_path)
    assert not page.exception and "run.json" in texts(page).replace("\\", "")


def test_a_number_that_no_float_can_hold_does_not_close_compare(tmp_path: Path) -> None:
    write_results(tmp_path / "old", created="2026-11-01T00:00:00+00:00", n_cases=1, images=False)
    new = write_results(tmp_path / "new", n_cases=1, images=False)
    tests = [{"plugin": "canny-net", "difference": 10**400, "margin": 0.02}]
    write_gate(new, {"baseline": {"run_id": "old-id"}, "verdict": "pass", "tests": tests})
    page = open_view("compare", tmp_path)
    assert not page.exception and "gate.json is damaged" in texts(page).replace("\\", "")


def test_scores_of_unknown_direction_are_no_difference_of_0(tmp_path: Path) -> None:
    for name in ("old", "new"):
        store = write_results(tmp_path / name, n_cases=2, images=False)
        path = store.folder / "scores" / "edge-f1.parquet"
        pd.read_parquet(path).assign(better=None).to_parquet(path)
    table = open_view("compare", tmp_path).dataframe[0].value
    assert table["Plugin"].tolist() == ["ink-lora"]


def test_scores_damaged_inside_are_named_and_every_part_opens(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    path = store.folder / "scores" / "edge-f1.parquet"
    content = bytearray(path.read_bytes())
    content[40:80] = bytes(byte ^ 0x55 for byte in content[40:80])
    path.write_bytes(content)
    for part in ("Images", "Best and worst"):
        page = open_view("plugin", tmp_path, plugin="canny-net", part=part)
        assert "edge-f1.parquet is damaged" in texts(page).replace("\\", "")


def test_yaml_that_names_itself_again_and_again_is_not_built(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=1, images=False)
    lines = ["x0: &x0 [x]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 30)]
    lines += ["plugins: [{id: canny-net, weight: *x29, license: MIT}]"]
    (store.folder / "manifest.yaml").write_text("\n".join(lines))
    page = open_view("plugin", tmp_path, plugin="canny-net", part="Card")
    assert not page.exception and "manifest.yaml is damaged" in texts(page).replace("\\", "")


def test_unknown_words_are_no_verdicts(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=1, images=False)
    path = store.tables_dir / "compatibility.parquet"
    frame = pd.read_parquet(path)
    frame["verdict"] = "splendid"
    frame.to_parquet(path)
    for view in ("overview", "handover", "tradeoff", "plugin"):
        page = open_view(view, tmp_path)
        assert not page.success and "splendid" not in texts(page)
        assert any("made by an earlier version" in info.value for info in page.info)


def test_a_run_named_by_a_dot_has_its_folder_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path / "one", n_cases=1, images=False)
    monkeypatch.chdir(tmp_path / "one")
    assert list(find_runs(Path("."))) == ["one"]


@pytest.mark.parametrize("form", ["file://{}", "~/{}"])
def test_addresses_that_publish_takes_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    write_results(tmp_path / "runs" / "one", n_cases=1, images=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = "runs" if form.startswith("~") else os.fspath(tmp_path / "runs")
    monkeypatch.setenv(RESULTS_VARIABLE, form.format(place))
    assert list(sources.current_runs()) == ["one"]


def test_cases_of_one_name_and_two_prompts_are_no_pairs(tmp_path: Path) -> None:
    write_results(tmp_path / "old", n_cases=2, images=False)
    new = write_results(tmp_path / "new", n_cases=2, images=False)
    trials = new.trials()
    trials.loc[trials["case_id"] == "case-000", "base_prompt"] = "something else"
    new.write_trials(trials.to_dict("records"))
    table = open_view("compare", tmp_path).dataframe[0].value
    # one case of two seeds under two t0
    assert table["Images"].tolist() == [4, 4]
