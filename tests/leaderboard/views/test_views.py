"""Claims about the pages of one run, by Streamlit's own test driver on real files."""

from pathlib import Path

import pytest

from bench.store.run_store import RunStore
from leaderboard.study.runs import RESULTS_VARIABLE
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.views_driver import VIEWS, charts, open_view, pictures, texts


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    write_results(root / "first", n_cases=10)
    return root


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, "")


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_without_results_shows_the_command_that_makes_some(
    view: str, tmp_path: Path
) -> None:
    assert "xbench run" in open_view(view, tmp_path).info[0].value


# --- trade-off


def test_tradeoff_marks_the_settings_that_no_other_beats(results: Path) -> None:
    page = open_view("tradeoff", results, plugin="ink-lora")
    table = page.dataframe[0].value.set_index("label")
    # same retention as at t0 0.5 and more gain; base, floor and oracle are references only
    assert table.index[table["on_front"]].tolist() == ["xadapter t0 0.9"]
    assert table.loc["xadapter t0 0.9", "retention_text"] == "0.71 [0.61, 0.81]"


def test_a_point_of_the_tradeoff_shows_an_image_of_its_setting(results: Path) -> None:
    alt, layers = charts(open_view("tradeoff", results, plugin="ink-lora"))[0]
    points = next(rows for rows in layers if "image" in rows).set_index("label")
    address = points.loc["sdedit t0 0.5", "image"]
    assert "/run-image/first/small/aaa-ink-lora-sdedit-0.5-0-0?v=" in address
    assert "ink-lora" in alt and "sdedit t0 0.5 0.43 [0.33, 0.53]" in alt


# --- t0


def test_t0_recommends_a_setting_with_what_it_was_measured_to_do(results: Path) -> None:
    page = open_view("handover", results, plugin="canny-net")
    assert "xadapter t0 0" in page.success[0].value and "0\\.64" in page.success[0].value


def test_a_curve_has_the_band_of_the_summary_and_the_recommended_t0(results: Path) -> None:
    page = open_view("handover", results, plugin="canny-net")
    assert page.multiselect[0].value == ["edge-f1"]
    (_, layers), *more = charts(page)
    assert not more
    point = layers[0].set_index("label").loc["xadapter t0 0.9"]
    assert point[["value", "low", "high"]].tolist() == pytest.approx([0.7, 0.65, 0.75])
    ruled = next(rows for rows in layers if set(rows.columns) == {"method", "t0"})
    assert set(ruled["t0"]) == {0.9}


# --- plugin


def test_the_gallery_shows_24_images_a_page_with_conditions_and_scores(results: Path) -> None:
    first = open_view("plugin", results, plugin="canny-net")
    displayed = pictures(first, "small")
    assert len(displayed) == 24 == len(set(displayed))  # 6 settings of 4 cases and seeds
    assert len(pictures(first, "condition")) == 4
    assert "Images 1 to 24 of 120" in texts(first)
    assert texts(first).count("edge\\-f1 0\\.") == 24
    last = open_view("plugin", results, plugin="canny-net", page="5")
    assert len(pictures(last, "small")) == 24
    assert not set(displayed) & set(pictures(last, "small"))
    assert "Images 97 to 120 of 120" in texts(last)


def test_the_pages_together_show_every_image_once(results: Path) -> None:
    displayed = [
        picture
        for page in range(1, 6)
        for picture in pictures(open_view("plugin", results, page=str(page)), "small")
    ]
    trials = RunStore(results / "first").trials()
    assert sorted(trial for _, trial in displayed) == sorted(
        trials[trials["plugin"] == "canny-net"]["trial_id"]
    )


def test_a_link_keeps_the_chosen_methods(results: Path) -> None:
    page = open_view("plugin", results, methods=["base", "floor"])
    assert {trial.split("-")[3] for _, trial in pictures(page, "small")} == {"base", "floor"}


def test_a_page_number_beyond_the_last_page_opens(results: Path) -> None:
    assert pictures(open_view("plugin", results, page="99"), "small")


def test_the_best_and_the_worst_are_the_extremes_of_the_chosen_score(results: Path) -> None:
    page = open_view("plugin", results, part="Best and worst", setting="sdedit t0 0.9")
    scores = RunStore(results / "first").scores()
    part = scores[
        (scores["plugin"] == "canny-net") & (scores["method"] == "sdedit") & (scores["t0"] == 0.9)
    ].sort_values("value")
    displayed = [trial for _, trial in pictures(page, "small") if "sdedit" in trial]
    assert displayed[:6] == part["trial_id"].tolist()[:-7:-1]
    assert displayed[6:] == part["trial_id"].tolist()[:6]
    assert len([t for _, t in pictures(page, "small") if "base" in t]) == 12


def test_side_by_side_hands_two_images_of_one_case_to_the_slider(results: Path) -> None:
    page = open_view("plugin", results, part="Side by side", case="case-003", seed="1")
    assert page.selectbox(key="right").value == "xadapter t0 0.5"
    (slider,) = page.get("bidi_component")
    data = slider.proto.json
    assert "/run-image/first/full/aaa-canny-net-base-None-3-1" in data
    assert "/run-image/first/full/aaa-canny-net-xadapter-0.5-3-1" in data


def test_the_card_shows_the_manifest_entry_and_the_audit(results: Path) -> None:
    page = open_view("plugin", results, plugin="ink-lora", part="Card")
    card = dict(page.dataframe[0].value.itertuples(index=False))
    assert card["Trigger words"] == "ink drawing" and card["License"] == "MIT"
    counts = {metric.label: metric.value for metric in page.metric}
    assert counts == {
        "rows": "4",
        "applied": "2",
        "missing": "2",
        "unexpected": "0",
        "bad values": "0",
    }
    assert page.dataframe[1].value["reason"].tolist()[:2] == ["not_in_model"] * 2
    only = open_view("plugin", results, plugin="ink-lora", part="Card", remarks="true")
    assert len(only.dataframe[1].value) == 2


# --- provenance


def test_provenance_shows_the_commands_that_reproduce_the_run(results: Path) -> None:
    page = open_view("provenance", results)
    assert page.code[0].value.splitlines() == [
        f"git checkout {'c' * 40}",
        "pip install -q uv",
        "uv run xbench run --manifest drawn",
    ]
    values = [cell for table in page.dataframe for cell in table.value["Value"]]
    assert {"f" * 64, "a" * 64, "2.15", "cpu"} <= set(values)
    assert "id: canny-net" in page.code[1].value


# --- shipped results


def test_a_newcomer_sees_the_shipped_results_on_every_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for view in set(VIEWS) - {"compare"}:
        page = open_view(view, Path())
        assert any("come with xbench" in info.value for info in page.info), view
        assert not page.warning
    assert len(pictures(open_view("plugin", Path()), "small")) == 24
