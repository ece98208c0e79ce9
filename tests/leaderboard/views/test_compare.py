"""Claims about comparing two runs."""

from pathlib import Path

import pytest

from bench.store.run_store import RunStore
from leaderboard.study.runs import RESULTS_VARIABLE
from metrics.stats.intervals import paired_difference
from tests.leaderboard.drawn_results import write_gate, write_results
from tests.leaderboard.views_driver import charts, open_view, pictures, texts

TEST = {
    **{"plugin": "canny-net", "metric": "edge-f1", "better": "higher", "verdict": "regression"},
    **{"difference": -0.2, "low": -0.25, "high": -0.15, "margin": 0.05, "n_prompts": 1},
    **{"n_images": 60, "further_images": None, "reason": None},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_results(root / "old", created="2026-11-01T00:00:00+00:00", n_cases=8)
    new = write_results(
        root / "new", created="2026-11-02T00:00:00+00:00", n_cases=8, adapter="b" * 64, loss=0.2
    )
    gate = {"format": 1, "verdict": "regression", "reason": "canny-net edge-f1 is lower"}
    write_gate(new, {**gate, "baseline": {"run_id": "old-id"}, "tests": [TEST], "created": "then"})
    write_results(root / "third", created="2026-11-03T00:00:00+00:00", n_cases=8)
    return root


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, "")


def test_a_gated_pair_is_shown_first_with_its_verdict(results: Path) -> None:
    page = open_view("compare", results)
    chosen = {box.key: box.value for box in page.selectbox}
    assert (chosen["baseline"], chosen["candidate"]) == ("old", "new")
    assert page.error[0].value.startswith("regression") and "1 of 1 tests" in page.error[0].value
    tests = page.dataframe[0].value
    assert tests["Candidate - baseline"].tolist() == ["-0.20 [-0.25, -0.15]"]


def test_a_pair_that_no_gate_compared_shows_the_gate_command(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate="third")
    assert "xbench gate old third" in page.info[0].value and not page.error


def test_differences_are_those_of_the_statistics(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate="new")
    table = page.dataframe[1].value.set_index("Metric")
    _, layers = charts(page)[0]
    drawn = next(rows for rows in layers if "text" in rows)
    # all prompts are equal, so there is no interval
    assert table.loc["edge-f1", "Prompts"] == 1 and drawn["low"].isna().all()
    sides = []
    for run in ("new", "old"):
        scores = RunStore(results / run).scores()
        part = scores[(scores["metric"] == "edge-f1") & (scores["method"] == "xadapter")]
        part = part[part["t0"] == 0.5]
        keys = zip(part["case_id"], part["seed"], strict=True)
        sides.append(dict(zip(keys, part["value"], strict=True)))
    cluster_of = {case: "p" for case, _ in sides[0]}
    at_half = paired_difference(*sides, cluster_of=cluster_of).value
    displayed = drawn.set_index("plugin").loc["canny-net, edge-f1", "value"]
    assert at_half is not None and displayed == pytest.approx(-0.2, abs=0.01)
    assert at_half == pytest.approx(displayed, abs=0.03)


def test_words_of_differences_are_tests_and_few_prompts_have_none(
    results: Path, tmp_path: Path
) -> None:
    page = open_view("compare", results, baseline="old", candidate="new")
    few = page.dataframe[1].value
    assert set(few["Candidate is"]) == {"not tested (fewer than 12 prompts)"}
    for name, day, loss in (("before", "01", 0.0), ("after", "02", 0.2)):
        created = f"2026-11-{day}T00:00:00+00:00"
        store = write_results(tmp_path / name, created=created, n_cases=24, loss=loss, images=False)
        trials = store.trials()
        trials["base_prompt"] = trials["case_id"]  # a prompt of its own for each case
        store.write_trials(trials.to_dict("records"))
    page = open_view("compare", tmp_path)
    text = texts(page).replace("\\", "").replace("\u2060", "")
    assert "Of 2 comparisons, 2 worse: canny-net (edge-f1), ink-lora (style-clip-i)." in text
    assert "corrected by Holm" in text and "exist from 12 prompts on" in text
    table = page.dataframe[0].value
    assert table["Candidate is"].tolist() == ["worse"] * 2
    assert all("-0.2" in text for text in table["Difference [95 %]"])


def test_the_images_that_lost_most_come_in_pairs(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate="new", compared_metric="edge-f1")
    displayed = pictures(page, "small")
    assert [run for run, _ in displayed] == ["old", "new"] * 8
    assert pictures(page, "condition") == [("new", trial) for _, trial in displayed[1::2]]
    for (_, old), (_, new) in zip(displayed[::2], displayed[1::2], strict=True):
        assert old.removeprefix("aaa") == new.removeprefix("bbb")


def test_a_better_candidate_has_no_worst_images_and_differences_above_0(results: Path) -> None:
    page = open_view("compare", results, baseline="new", candidate="old", compared_metric="edge-f1")
    assert page.dataframe[0].value["Difference [95 %]"][0].startswith("+0.20")
    assert not pictures(page, "small") and "No image got worse" in texts(page)


def test_one_run_alone_or_twice_cannot_be_compared(results: Path, tmp_path: Path) -> None:
    write_results(tmp_path / "only", n_cases=1)
    assert "two runs" in open_view("compare", tmp_path).info[0].value
    page = open_view("compare", results, baseline="old", candidate="old")
    assert "two different runs" in page.info[0].value
