"""Claims about results that an earlier release wrote (tests/data): today's version uses them."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.store.run_store import RunStore
from tests.leaderboard.views_driver import VIEWS, addresses, charts, open_view

DATA = Path(__file__).parents[1] / "data"
MANIFEST = DATA / "old.yaml"
COSTS = ["seconds", "peak_memory_mib"]
INTERVALS = ["low", "high", "delta_low", "delta_high"]  # since then none on ten prompts
READ_ANEW = "pocket-style-rate"  # at exact distances, by the area of all pieces

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("pocket_weights")]


@pytest.fixture
def old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the old run directory, away from this machine's cache."""
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(DATA / "old-run", tmp_path / "old-run"))


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def summary(folder: Path) -> pd.DataFrame:
    """Return the values of all metrics whose recipe is still that of the old run."""
    table = RunStore.open(folder).summary().drop(columns=[*COSTS, *INTERVALS])
    keys = ["plugin", "method", "metric"]
    return table[table["metric"] != READ_ANEW].sort_values(keys, ignore_index=True)


def test_every_table_of_an_old_run_is_read(old_run: Path) -> None:
    store = RunStore.open(old_run)
    assert len(store.trials()) == len(store.results()) == 80
    assert set(store.scores()["metric"]) >= {"edge-f1", "pocket-kid", "pocket-style-paper"}
    assert not store.summary().empty and store.run_facts()["status"] == "complete"


def test_an_old_run_that_is_asked_for_again_is_finished(old_run: Path) -> None:
    before = {path: path.read_bytes() for path in old_run.rglob("*.p*") if path.is_file()}
    call("run", "--manifest", MANIFEST, "--out", old_run)
    assert {path: path.read_bytes() for path in before} == before


def test_an_old_run_that_was_cut_off_is_resumed(old_run: Path) -> None:
    before = summary(old_run)
    kept = {path: path.stat().st_mtime_ns for path in (old_run / "results").glob("pocket-outline*")}
    (lost,) = (old_run / "results").glob("floor-*.parquet")
    lost.unlink()
    facts = json.loads((old_run / "run.json").read_text())
    (old_run / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    call("run", "--manifest", MANIFEST, "--out", old_run)
    after = summary(old_run)
    assert RunStore.open(old_run).run_facts()["status"] == "complete"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    pd.testing.assert_frame_equal(after, before, atol=0.05)


def test_an_old_run_is_scored_and_reported_again(old_run: Path) -> None:
    before = summary(old_run)
    for path in (old_run / "scores").rglob("*.parquet"):
        path.unlink()
    call("score", old_run)
    call("report", old_run)
    pd.testing.assert_frame_equal(summary(old_run), before, atol=1e-6)


def test_scores_of_an_old_reading_are_replaced_and_never_mixed(old_run: Path) -> None:
    store = RunStore.open(old_run)
    (old,) = store.scores_of(READ_ANEW)["recipe"].unique()
    call("score", old_run)
    (new,) = RunStore.open(old_run).scores_of(READ_ANEW)["recipe"].unique()
    assert new != old and "pieces weighted by area" in new


def test_an_old_run_is_gated_against_an_old_baseline(old_run: Path) -> None:
    result = CliRunner().invoke(main, ["gate", str(DATA / "old-run"), str(old_run), "--json"])
    verdict = json.loads(result.stdout)
    assert result.exit_code == 0 and verdict["verdict"] == "identical"  # a copy, of ten prompts
    assert {test["plugin"] for test in verdict["tests"]} == {"pocket-canny", "pocket-outline"}


def test_an_old_run_explains_its_images_and_is_published(old_run: Path, tmp_path: Path) -> None:
    trial = RunStore.open(old_run).trials()["trial_id"].iloc[0]
    assert trial in call("explain", old_run, trial).output
    call("publish", old_run, "--to", tmp_path / "store")
    new, old = (
        folder / "index" / "old-run.json" for folder in (tmp_path / "store", DATA / "old-store")
    )
    objects = [json.loads(path.read_text())["tables"]["summary"] for path in (new, old)]
    assert objects[0] == objects[1]  # names are hashes of the content


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("results", ["old-run", "old-store"])
def test_the_leaderboard_shows_old_results(
    view: str, results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("XBENCH_RESULTS", "")  # `open_view` sets it
    page = open_view(view, DATA / results)
    assert [error.value for error in page.error] == []
    if view == "plugin":
        assert len(addresses(page)) > 4
    if view in {"overview", "handover"}:
        assert charts(page) != []
    if view not in {"compare", "provenance", "about"}:
        assert any("made by an earlier version" in info.value for info in page.info)
        assert not page.success
