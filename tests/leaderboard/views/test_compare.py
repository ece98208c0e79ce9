"""Claims about comparing runs with a baseline."""

import html
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from bench.store.run_store import RunStore
from leaderboard.data import Run
from leaderboard.figures.gates import first_pair
from leaderboard.study.runs import RESULTS_VARIABLE
from metrics.stats.intervals import paired_difference
from tests.leaderboard.drawn_results import write_gate, write_results
from tests.leaderboard.views_driver import open_view, texts

TEST = {
    **{"plugin": "canny-net", "metric": "edge-f1", "better": "higher", "verdict": "regression"},
    **{"difference": -0.2, "low": -0.25, "high": -0.15, "margin": 0.05, "n_prompts": 1},
    **{"n_images": 60, "further_images": None, "reason": None},
}


def fragments(page: AppTest) -> list[str]:
    """Return the HTML that templates made, without the style."""
    found = [element.proto.body for element in page.get("html")]
    return [body for body in found if not body.startswith("<style")]


def fragment(page: AppTest, mark: str) -> str:
    """Return the only HTML with a mark."""
    (found,) = [body for body in fragments(page) if mark in body]
    return found


def finished(key: str, **cases: object) -> Run:
    facts = {"status": "complete"}
    return Run(key, Path(key), facts, tables={}, stamp=0, manifest={"cases": cases})


def test_the_page_begins_with_the_newest_runs_of_equal_cases() -> None:
    keys = {"pocket": 101, "far": 601, "near": 601, "old": 101}
    runs = {key: finished(key, seed=seed) for key, seed in keys.items()}
    assert first_pair(runs) == ("old", "pocket")
    assert first_pair({key: runs[key] for key in ("pocket", "far", "near")}) == ("near", "far")
    assert first_pair({key: runs[key] for key in ("pocket", "far")}) == ("far", "pocket")


def sentence(page: AppTest) -> str:
    """Return the sentence above the matrix."""
    return html.unescape(re.findall(r"<h2 class=\"lead\">(.*?)</h2>", fragments(page)[0])[0])


def pictures(body: str, what: str) -> list[tuple[str, str]]:
    """Return (run, trial) of the pictures of a kind, except those of difference maps."""
    sources = re.findall(r'<img [^>]*?src="([^"]*)"[^>]*? alt="(?!Difference)[^"]+"', body)
    parts = [urlsplit(html.unescape(url)).path.strip("/").split("/") for url in sources]
    return [(unquote(p[1]), unquote(p[3])) for p in parts if p[0] == "run-image" and p[2] == what]


def distinct_prompts(folder: Path, **options: object) -> None:
    """Write a run whose cases have a prompt each."""
    store = write_results(folder, n_cases=24, images=False, **options)  # pyright: ignore
    trials = store.trials()
    trials["base_prompt"] = trials["case_id"]
    store.write_trials(trials.to_dict("records"))


@pytest.fixture(scope="module")
def distinct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs, of which `after` is worse, and an unfinished one."""
    root = tmp_path_factory.mktemp("distinct")
    for i, (name, loss) in enumerate(
        (("before", 0.0), ("after", 0.2), ("third", 0.0), ("begun", 0.2))
    ):
        distinct_prompts(root / name, created=f"2026-11-0{i + 1}T00:00:00+00:00", loss=loss)
    store = RunStore(root / "begun")
    store.write_run_facts({**store.run_facts(), "status": "running"})
    return root


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
    assert (chosen["baseline"], page.multiselect[0].value) == ("old", ["new"])
    assert page.error[0].value.startswith("regression") and "1 of 1 tests" in page.error[0].value
    tests = page.dataframe[1].value
    assert tests["Candidate - baseline"].tolist() == ["-0.20 [-0.25, -0.15]"]


def test_a_pair_that_no_gate_compared_shows_the_gate_command(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate="third")
    assert "xbench gate old third" in page.info[0].value and not page.error


def test_differences_are_those_of_the_statistics(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate="new")
    table = page.dataframe[0].value.set_index("Metric")
    displayed = table.loc["edge-f1", "Difference [95 %]"]
    # all prompts are equal, so there is no interval
    assert table.loc["edge-f1", "Prompts"] == 1 and "[" not in displayed
    sides = []
    for run in ("new", "old"):
        scores = RunStore(results / run).scores()
        part = scores[(scores["metric"] == "edge-f1") & (scores["method"] == "xadapter")]
        part = part[part["t0"] == 0.5]
        keys = zip(part["case_id"], part["seed"], strict=True)
        sides.append(dict(zip(keys, part["value"], strict=True)))
    cluster_of = {case: "p" for case, _ in sides[0]}
    at_half = paired_difference(*sides, cluster_of=cluster_of).value
    assert at_half is not None and float(displayed) == pytest.approx(-0.2, abs=0.01)
    assert at_half == pytest.approx(float(displayed), abs=0.03)


def test_words_of_differences_are_tests_and_few_prompts_have_none(
    results: Path, distinct: Path
) -> None:
    page = open_view("compare", results, baseline="old", candidate="new")
    assert set(page.dataframe[0].value["Candidate is"]) == {"not tested"}
    assert sentence(page) == (
        "Against old, new is not tested on 2 of 2 plugins (canny-net, ink-lora: too few prompts)."
    )
    page = open_view("compare", distinct, baseline="before", candidate="after")
    assert sentence(page) == (
        "Against before, after is worse on 2 of 2 plugins (canny-net, ink-lora)."
    )
    text = texts(page)
    assert "corrected by Holm" in text and "exist from 12 prompts on" in text
    table = page.dataframe[0].value
    assert table["Candidate is"].tolist() == ["worse"] * 2
    assert all("-0.2" in text for text in table["Difference [95 %]"])


def test_three_runs_are_one_matrix_with_a_column_each(distinct: Path) -> None:
    page = open_view("compare", distinct, baseline="before", candidate=["after", "third"])
    assert sentence(page) == (
        "Against before, after is worse on 2 of 2 plugins (canny-net, ink-lora); third is not "
        "told apart on any of 2 plugins."
    )
    matrix = fragment(page, "Plugins by runs")
    heads = re.findall(r'<th scope="col">(\w+)', matrix)
    assert heads == ["Plugin", "before", "after", "third"]
    assert (
        matrix.count("</span> Worse</span>") == 2 == matrix.count("</span> Not told apart</span>")
    )
    assert "86 % [76, 96]" not in matrix and matrix.count("% [") == 6  # the share of each run
    assert "all comparisons of this choice (4, on all pages)" in texts(page)


def test_differences_only_hides_what_is_not_told_apart(distinct: Path) -> None:
    page = open_view("compare", distinct, baseline="before", candidate="third", differences="true")
    assert "nothing is told apart" in texts(page) and not page.dataframe
    chosen = {"by_setting": "true", "differences": "true"}
    page = open_view("compare", distinct, baseline="before", candidate="after", **chosen)
    assert set(page.dataframe[0].value["Setting"]) == {"t0 0.5", "t0 0.9"}
    assert "on 4 of 4 settings" in sentence(page)


def test_each_of_several_adapters_is_compared_with_the_single_one_of_another_run(
    tmp_path: Path,
) -> None:
    distinct_prompts(tmp_path / "several", n_seeds=1, adapters={"fine": 0.0, "bad": 0.3})
    distinct_prompts(tmp_path / "single", n_seeds=1)
    lines = ["canny-net, adapter bad", "canny-net, adapter fine"]
    lines += ["ink-lora, adapter bad", "ink-lora, adapter fine"]
    for baseline, candidate, word in (
        ("single", "several", "worse"),
        ("several", "single", "better"),
    ):
        page = open_view("compare", tmp_path, baseline=baseline, candidate=candidate)
        found = page.dataframe[0].value.set_index(["Plugin", "Adapter"])["Candidate is"]
        told = {"bad": word, "fine": "not told apart"}
        assert dict(found) == {(p, a): told[a] for p in ("canny-net", "ink-lora") for a in told}
        matrix = html.unescape(fragment(page, "Plugins by runs"))
        assert sorted(line for line in lines if line in matrix) == lines
        assert matrix.count("% [") == 8  # both runs' shares in each line
        assert f"is {word} on 2 of 4 comparisons" in sentence(page)
        (setting,) = [s for s in page.selectbox if s.label.startswith("Setting of")]
        assert "adapter bad" in " ".join(setting.options)


def test_an_unfinished_run_is_marked_and_not_compared(distinct: Path) -> None:
    page = open_view("compare", distinct)
    assert page.multiselect[0].value == ["third"]  # the newest finished one
    page = open_view("compare", distinct, baseline="before", candidate=["third", "begun"])
    assert sentence(page).endswith("; begun is unfinished and not compared.")
    assert "<strong>unfinished</strong>" in fragment(page, "Plugins by runs")
    assert set(page.dataframe[0].value["Candidate"]) == {"third"}
    page = open_view("compare", distinct, baseline="begun", candidate="third")
    assert sentence(page) == "begun is unfinished: nothing is compared with it yet."


def test_the_images_that_lost_most_come_in_pairs(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate="new", compared_metric="edge-f1")
    losses = fragment(page, 'class="losses"')
    displayed = pictures(losses, "small")
    assert [run for run, _ in displayed] == ["old", "new"] * 8
    assert pictures(losses, "condition") == [("new", trial) for _, trial in displayed[1::2]]
    for (_, old), (_, new) in zip(displayed[::2], displayed[1::2], strict=True):
        assert old.removeprefix("aaa") == new.removeprefix("bbb")


def test_a_row_of_pictures_has_the_same_prompt_of_every_run(results: Path) -> None:
    page = open_view("compare", results, baseline="old", candidate=["new", "third"])
    strip = fragment(page, "Pictures by prompt and run")
    displayed = pictures(strip, "small")
    assert [run for run, _ in displayed] == ["old", "new", "third"] * 6
    for old, new, third in zip(displayed[::3], displayed[1::3], displayed[2::3], strict=True):
        assert old[1][3:] == new[1][3:] == third[1][3:]
        assert "xadapter-0.9" in old[1]  # the setting to use


def test_a_better_candidate_has_no_worst_images_and_differences_above_0(results: Path) -> None:
    page = open_view("compare", results, baseline="new", candidate="old", compared_metric="edge-f1")
    assert page.dataframe[0].value["Difference [95 %]"][0].startswith("+0.20")
    assert 'class="losses"' not in "".join(fragments(page)) and "No image" in texts(page)


def test_one_run_alone_or_twice_cannot_be_compared(results: Path, tmp_path: Path) -> None:
    write_results(tmp_path / "only", n_cases=1)
    assert "two runs" in open_view("compare", tmp_path).info[0].value
    page = open_view("compare", results, baseline="old", candidate="old")
    assert "two different runs" in page.info[0].value
