"""Claims about the pages of one run, by Streamlit's own test driver on real files."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.store.run_store import RunStore
from leaderboard.study.runs import RESULTS_VARIABLE
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.views_driver import VIEWS, charts, fragments, open_view, pictures, texts

OLD_RUN = Path(__file__).parents[2] / "data" / "old-run"


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


def edited(folder: Path, rows: str, **values: object) -> Path:
    """Write a run and replace values in the rows of its compatibility table that match a query."""
    store = write_results(folder / "one", n_cases=2, images=False)
    path = store.tables_dir / "compatibility.parquet"
    frame = pd.read_parquet(path)
    for name, value in values.items():
        frame.loc[frame.query(rows).index, name] = value
    frame.to_parquet(path)
    return folder


# --- overview


def test_the_overview_answers_in_words_for_each_plugin_worst_first(tmp_path: Path) -> None:
    edited(tmp_path, "plugin == 'ink-lora' and verdict.notna()", verdict="lost")
    page = open_view("overview", tmp_path)
    text = fragments(page)
    assert "1 of 2 plugins is shown to keep working on the upgraded model; 1 lost." in text
    first = text.index('data-search="ink-lora')
    second = text.index('data-search="canny-net')
    assert first < text.index("keeps 71 % (61 to 81)") < second
    assert text.index("</span> Lost") < second < text.index("</span> Works", second)
    assert "shown to keep little of its effect, or none" in text
    methods, plugins = (element.value for element in page.dataframe)
    assert methods["verdicts"].tolist() == ["1 lost, 1 works", "1 lost, 1 open"]
    assert plugins["plugin"].tolist() == ["ink-lora"] * 2 + ["canny-net"] * 2
    assert plugins["retention_text"].tolist()[0] == "71 % [61, 81]"


def test_the_overview_names_the_plugins_of_its_ranks_and_how_they_are_made(results: Path) -> None:
    text = texts(open_view("overview", results)).replace("\\", "").replace("\u2060", "")
    assert "the plugins that all ranked rows have: canny-net, ink-lora." in text
    assert "Kept: mean over plugins and t0 of the share kept" in text


def test_the_overview_draws_retention_with_intervals(results: Path) -> None:
    alt, layers = charts(open_view("overview", results))[0]
    row = layers[0].set_index(["plugin", "method"]).loc[("ink-lora", "X-Adapter")]
    ends = row[["retention", "retention_low", "retention_high"]].tolist()
    assert ends == pytest.approx([0.714, 0.614, 0.814], abs=0.001)
    assert alt.startswith("Share kept: ") and "ink-lora X-Adapter 71 % [61, 81]" in alt


def test_the_overview_charts_the_chosen_run_and_has_a_table_of_methods_for_each_family(
    tmp_path: Path,
) -> None:
    for day, family in enumerate(("pocket-near", "pocket"), start=1):
        created = f"2026-11-0{day}T00:00:00+00:00"
        store = write_results(tmp_path / family, created=created, n_cases=2, images=False)
        store.write_run_facts({**store.run_facts(), "family": family})
    page = open_view("overview", tmp_path, run="pocket-near")
    assert "Share kept in pocket\\-near" in [heading.value for heading in page.subheader]
    of_pocket, of_near, plugins = (element.value for element in page.dataframe)
    assert set(of_pocket["run"]) == {"pocket"} and set(of_near["run"]) == {"pocket-near"}
    assert of_pocket["rank"].tolist() == of_near["rank"].tolist() == [1, 2]
    assert len(plugins) == 8


def test_a_long_table_is_made_on_request(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboard.views.overview._MAX_AT_ONCE", 3)
    page = open_view("overview", results)
    assert not page.dataframe and 'data-search="ink-lora' in fragments(page)
    assert page.toggle(key="numbers").set_value(True).run().dataframe
    assert open_view("overview", results, only_kind="lora").dataframe


@pytest.mark.parametrize("view", VIEWS)
def test_no_page_names_the_retired_numbers(results: Path, view: str) -> None:
    page = open_view(view, results)
    shown = [texts(page), *(alt for alt, _ in charts(page))]
    shown += [" ".join(map(str, element.value.columns)) for element in page.dataframe]
    for words in ("quality gain", "compatibility score", "split half", "area"):
        assert words not in " ".join(shown).lower()


def test_an_old_run_beside_a_new_one_is_listed_without_rank_or_score(
    results: Path, tmp_path: Path
) -> None:
    shutil.copytree(results / "first", tmp_path / "first")
    shutil.copytree(OLD_RUN, tmp_path / "old-run")
    page = open_view("overview", tmp_path)
    assert any("old" in i.value and "for verdicts" in i.value for i in page.info)
    methods = page.dataframe[0].value.set_index(["run", "method"])
    assert methods["rank"].groupby("run").count().to_dict() == {"first": 2, "old-run": 0}
    assert methods.loc[("old-run", "X-Adapter"), "rank_reason"].startswith("made by an earlier")
    assert not page.exception and len(page.dataframe[1].value) == 8


# --- trade-off


def test_tradeoff_marks_the_setting_to_use_and_those_not_told_from_the_best(results: Path) -> None:
    page = open_view("tradeoff", results, plugin="ink-lora")
    table = page.dataframe[0].value.set_index("setting")
    assert table["mark"].to_dict() == {
        **{"X-Adapter at t0 0.9": "*", "X-Adapter at t0 0.5": "="},
        **{"SDEdit at t0 0.9": "", "SDEdit at t0 0.5": ""},
    }
    assert table.loc["X-Adapter at t0 0.9", "retention_text"] == "71 % [61, 81]"
    assert table.loc["X-Adapter at t0 0.9", "quality_text"] == "0.05 [-0.05, 0.15]"


def test_a_point_of_the_tradeoff_shows_an_image_of_its_setting(results: Path) -> None:
    alt, layers = charts(open_view("tradeoff", results, plugin="ink-lora"))[0]
    points = next(rows for rows in layers if "image" in rows).set_index("label")
    address = points.loc["SDEdit at t0 0.5", "image"]
    assert "/run-image/first/small/aaa-ink-lora-sdedit-0.5-0-0?v=" in address
    assert points.loc["X-Adapter at t0 0.9", "t0_text"] == "0.9 *"
    assert "ink-lora" in alt and "SDEdit at t0 0.5 43 % [33, 53], 0.25 [0.15, 0.35]" in alt


def test_a_distance_that_counts_the_style_is_not_drawn_and_the_page_says_why(
    tmp_path: Path,
) -> None:
    reason = "without a native plugin, the distance counts the plugin's style as a loss"
    none = {"quality_word": None, "quality_reference": "floor", "quality_reason": reason}
    edited(tmp_path, "plugin == 'ink-lora'", **none)
    page = open_view("tradeoff", tmp_path, plugin="ink-lora")
    assert charts(page) == [] and "counts the plugin" in page.info[0].value
    assert "quality_text" not in page.dataframe[0].value
    assert len(charts(open_view("tradeoff", tmp_path, plugin="canny-net"))) == 1


# --- t0


def test_t0_says_what_is_shown_of_the_plugin_and_lists_each_setting(results: Path) -> None:
    page = open_view("handover", results, plugin="canny-net")
    text = page.success[0].value.replace("\\", "").replace("\u2060", "")
    assert text.startswith("canny-net works with X-Adapter at t0 0.9: keeps 71 % (61 to 81)")
    assert "no clear winner among 2 settings" in text
    table = page.dataframe[0].value.set_index("setting")
    assert table["verdict"].to_dict() == {
        **{"X-Adapter at t0 0.9": "works", "X-Adapter at t0 0.5": "works"},
        **dict.fromkeys(("SDEdit at t0 0.9", "SDEdit at t0 0.5"), "open, about 40 more prompts"),
    }


@pytest.mark.parametrize(("verdict", "box"), [("lost", "error"), ("open", "warning")])
def test_an_answer_that_is_no_success_does_not_look_like_one(
    tmp_path: Path, verdict: str, box: str
) -> None:
    edited(tmp_path, "verdict.notna()", verdict=verdict)
    for view in ("handover", "tradeoff"):
        page = open_view(view, tmp_path, plugin="canny-net")
        assert not page.success and len(getattr(page, box)) == 1
    text = fragments(open_view("plugin", tmp_path, plugin="canny-net"))
    assert f'class="verdict is-{verdict}"' in text and "is-works" not in text


def test_a_plugin_without_quality_axis_is_judged_by_its_function_alone(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("quality", "quality_low", "quality_high", "quality_word"))
    numbers = {"retention": 1.375, "retention_low": 0.9, "retention_high": 1.9}
    edited(tmp_path, "plugin == 'ink-lora'", **nothing, quality_metric=None, **numbers)
    page = open_view("handover", tmp_path, plugin="ink-lora")
    assert "keeps 138 " in page.success[0].value
    assert "enough of the plugin" not in texts(page)
    assert "is not judged" in texts(open_view("tradeoff", tmp_path, plugin="ink-lora"))


def test_a_plugin_without_effect_is_not_shown_as_incompatible(tmp_path: Path) -> None:
    values = {"status": "no effect", "recommended": False, "among_best": False, "verdict": "open"}
    edited(tmp_path, "plugin == 'ink-lora' and verdict.notna()", **values)
    page = open_view("handover", tmp_path, plugin="ink-lora")
    assert page.info[0].value.startswith("ink\\-lora has no measurable effect")
    assert not page.success and not page.error


def test_retention_over_t0_has_its_intervals_and_the_t0_to_use(results: Path) -> None:
    page = open_view("handover", results, plugin="canny-net")
    alt, layers = charts(page)[0]
    point = layers[0].set_index("label").loc["X-Adapter at t0 0.9"]
    ends = point[["value", "low", "high"]].tolist()
    assert ends == pytest.approx([0.714, 0.614, 0.814], abs=0.001)
    levels = layers[0][layers[0]["t0"].isna()].set_index("label")["value"]
    assert levels.to_dict() == pytest.approx({"Base model": 1.0, "Without plugin": 0.0})
    assert "X-Adapter at t0 0.9 71 % [61, 81], works" in alt
    ruled = next(rows for rows in layers if set(rows.columns) == {"method", "t0"})
    assert set(ruled["t0"]) == {0.9}


def test_a_huge_interval_is_clipped_in_the_chart_and_whole_in_the_text(tmp_path: Path) -> None:
    edited(tmp_path, "method == 'sdedit'", retention_low=-40.0, retention_high=90.0)
    alt, layers = charts(open_view("handover", tmp_path, plugin="canny-net"))[0]
    drawn = layers[0].set_index("label").loc["SDEdit at t0 0.9"]
    assert (drawn["low"], drawn["high"]) == (-0.5, 1.5) and "[-4000, 9000]" in alt


def test_a_curve_has_the_band_of_the_summary(results: Path) -> None:
    page = open_view("handover", results, plugin="canny-net")
    assert page.multiselect[0].value == ["edge-f1"]
    _, (_, layers) = charts(page)
    point = layers[0].set_index("label").loc["X-Adapter at t0 0.9"]
    assert point[["value", "low", "high"]].tolist() == pytest.approx([0.7, 0.65, 0.75])


# --- plugin


def test_the_gallery_shows_24_images_a_page_with_conditions_and_scores(results: Path) -> None:
    first = open_view("plugin", results, plugin="canny-net")
    displayed = pictures(first, "small")
    assert len(displayed) == 24 == len(set(displayed))  # 6 settings of 4 cases and seeds
    assert len(pictures(first, "condition")) == 4
    assert "Images 1 to 24 of 120" in texts(first)
    assert texts(first).count("Edges found 0\\.") == 24
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


def test_an_address_has_ids_where_the_page_has_plain_words(results: Path) -> None:
    page = open_view("plugin", results, methods=["sdedit"], scores=["edge-f1"])
    methods, scores = page.multiselect(key="methods"), page.multiselect(key="scores")
    assert methods.value == ["sdedit"] and "SDEdit" in methods.options
    assert scores.value == ["edge-f1"] and scores.options == ["Edges found"]
    assert "SDEdit at t0 0" in texts(page).replace("\\", "").replace("\u2060", "")
    methods.select("xadapter").run()
    assert page.query_params["methods"] == ["sdedit", "xadapter"]
    methods.set_value([]).run()
    assert "methods" not in page.query_params


def test_an_unknown_id_of_an_address_is_ignored_and_leaves_it(results: Path) -> None:
    page = open_view("plugin", results, part="Best and worst", setting="theirs", metric="none")
    assert page.selectbox(key="setting").value == "xadapter t0 0.5"
    assert not {"setting", "metric"} & set(page.query_params)


def test_the_first_use_of_each_term_is_explained(results: Path) -> None:
    page = open_view("handover", results, plugin="canny-net")
    assert "Function" in page.multiselect(key="metrics").help
    assert "share of the plugin's effect" in page.subheader[0].help
    assert page.subheader[1].help.endswith("edge\\-f1")
    gallery = open_view("plugin", results, plugin="canny-net")
    assert "X-Adapter: " in gallery.multiselect(key="methods").help


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
    (data,) = [c.proto.json for c in page.get("bidi_component") if "/full/" in c.proto.json]
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
    assert len(pictures(open_view("plugin", Path()), "small")) >= 18
