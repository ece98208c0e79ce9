"""Compatibility of drawn plugins whose truth is known, through every table and the terminal."""

import subprocess
import sys

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.analysis.compatibility import (
    COUNTS_STYLE,
    plugin_rows,
    write_compatibility,
)
from bench.analysis.measures import PluginMeasures
from bench.analysis.summary import Arm, read_run_scores
from bench.analysis.verdict_policy import SHIPPED_VERDICT_POLICY, load_thresholds
from bench.analysis.words import REFERENCES
from bench.errors import UserError
from bench.report.text import format_answers
from bench.scoring.score import score_run
from bench.store import schema
from bench.store.rows import Row, records
from bench.store.run_store import RunStore
from metrics.condition.overlap import EDGE_F1
from metrics.pocket_oracle import POCKET_STYLE_RATE
from metrics.stats.ratio import NO_EFFECT
from metrics.stats.verdicts import Thresholds
from tests.bench.drawn_run import compatible_run, draw_run


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    return compatible_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def rows(store: RunStore) -> list[Row]:
    return records(store.compatibility())


def find(rows: list[Row], **values) -> Row:
    return next(r for r in rows if all(r[k] == v for k, v in values.items()))


def test_the_table_has_exactly_the_published_columns(store: RunStore):
    path = store.tables_dir / "compatibility.parquet"
    assert pq.read_table(path).schema.equals(schema.COMPATIBILITY)
    before = path.read_bytes()
    write_compatibility(store.folder)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["compatibility", "summary"])
def test_duckdb_and_pandas_read_the_same_rows(store: RunStore, name: str):
    path = store.tables_dir / f"{name}.parquet"
    found = duckdb.sql(f"select * from '{path}'").df()
    frame = pd.read_parquet(path)
    assert list(found.columns) == list(frame.columns)
    assert len(found) == len(frame) > 10
    (n,) = duckdb.sql(f"select count(*) from '{path}' where plugin = 'pocket-idle'").fetchall()[0]
    assert n == (frame["plugin"] == "pocket-idle").sum() > 0


def test_retention_is_the_ratio_of_the_summary_values(store: RunStore, rows: list[Row]):
    summary = records(store.summary())

    def mean(method: str, metric: str, t0=None) -> float:
        values = {"plugin": "pocket-canny", "method": method, "metric": metric, "t0": t0}
        return find(summary, **values)["value"]

    f = [mean(m, "edge-f1", t0) for m, t0 in (("sdedit", 0.9), ("base", None), ("floor", None))]
    row = find(rows, level="setting", plugin="pocket-canny", method="sdedit", t0=0.9)
    assert row["retention"] == pytest.approx((f[0] - f[2]) / (f[1] - f[2]))
    assert row["retention_low"] < row["retention"] < row["retention_high"] < 1
    assert row["function"] == pytest.approx(f[0])
    assert row["quality"] == pytest.approx(mean("sdedit", "pocket-rest", 0.9))
    assert (row["seconds"], row["n"], row["n_prompts"]) == (0.5, 24, 24)


def test_references_stand_at_one_and_zero_and_are_not_judged(rows: list[Row]):
    base = find(rows, level="setting", plugin="pocket-canny", method="base")
    floor = find(rows, level="setting", plugin="pocket-canny", method="floor")
    native = find(rows, level="setting", plugin="pocket-canny", method="oracle")
    assert (base["retention"], floor["retention"]) == pytest.approx((1, 0))
    style = [r for r in rows if r["plugin"] == "pocket-outline"]  # rates of all and none
    for row in (base, floor, *(r for r in style if r["method"] in ("base", "floor"))):
        assert row["retention_low"] is None is row["retention_high"]  # by definition
    measured = find(rows, level="setting", plugin="pocket-outline", method="xadapter", t0=0.9)
    assert measured["retention_low"] < measured["retention"] < measured["retention_high"]
    assert (native["normalized_oracle"], floor["normalized_oracle"]) == pytest.approx((1, 0))
    for row in (base, floor, native):
        assert {row["verdict"], row["quality_word"], row["sort_value"]} == {None}
        assert not row["recommended"]
    assert not any(r["level"] == "method" and r["method"] in REFERENCES for r in rows)


def test_every_number_of_a_method_is_that_of_its_setting(rows: list[Row]):
    """One estimator and one sample a row: only the number for sorting is the method's own."""
    for row in rows:
        if row["level"] == "method" and row["t0"] is not None:
            keys = ("plugin", "method", "t0", "plugin_scale", "adapter_scale")
            setting = find(rows, level="setting", **{key: row[key] for key in keys})
            own = {"level", "recommended", "choice_reason"}
            own |= {key for key in row if key.startswith(("sort_", "kept"))}
            assert {k: v for k, v in row.items() if k not in own} == {
                k: v for k, v in setting.items() if k not in own
            }


def test_a_plugin_that_keeps_its_picture_works_and_one_that_loses_it_is_lost(rows: list[Row]):
    def verdict(plugin: str, method: str, t0: float) -> str:
        row = find(rows, level="setting", plugin=plugin, method=method, t0=t0)
        return row["verdict"]

    assert verdict("pocket-canny", "xadapter", 0.9) == "works"
    assert verdict("pocket-outline", "xadapter", 0.9) == "works"
    assert verdict("pocket-outline", "sdedit", 0.9) == "lost"


def test_an_open_verdict_states_how_many_more_prompts_decide(rows: list[Row]):
    for row in rows:
        if row["verdict"] == "open":
            assert row["verdict_more_prompts"] is not None or row["verdict_reason"] is not None
        elif row["verdict"] is not None:
            assert row["verdict_p"] <= 0.05


def test_the_retired_columns_are_empty(rows: list[Row]):
    for name in ("score", "score_split_half", "gain", "gain_oracle", "score_reason"):
        assert {row[name] for row in rows} == {None}


def test_the_source_pictures_ceiling_is_published_for_conditions_only(rows: list[Row]):
    """The condition was read off the source picture, which agrees with it wholly: (f-0)/(1-0)."""
    row = find(rows, level="setting", plugin="pocket-canny", method="xadapter", t0=0.9)
    floor = find(rows, level="setting", plugin="pocket-canny", method="floor")["function"]
    expected = (row["function"] - floor) / (1 - floor)
    assert row["normalized_source"] == pytest.approx(expected)
    lora = find(rows, level="setting", plugin="pocket-outline", method="xadapter", t0=0.9)
    assert lora["normalized_source"] is None
    assert lora["normalized_oracle"] == pytest.approx(1)


def test_a_plugin_without_effect_is_distinguished_from_an_incompatible_one(rows: list[Row]):
    idle = [row for row in rows if row["plugin"] == "pocket-idle"]
    judged = [row for row in idle if row["method"] not in REFERENCES]
    assert {row["status"] for row in judged} == {"no effect"}
    assert {row["reason"] for row in judged} == {NO_EFFECT}
    assert {row["retention"] for row in judged} == {row["sort_value"] for row in judged} == {None}
    assert {row["verdict"] for row in judged if row["level"] == "setting"} == {"open"}
    lost = find(rows, level="setting", plugin="pocket-outline", method="sdedit", t0=0.9)
    assert (lost["status"], lost["retention"]) == ("measured", pytest.approx(0))


def test_what_is_recommended_keeps_the_style_that_the_other_method_loses(rows: list[Row]):
    chosen = [r for r in rows if r["plugin"] == "pocket-outline" and r["recommended"]]
    assert {r["method"] for r in chosen} == {"xadapter"}
    assert {r["verdict"] for r in chosen} == {"works"}
    assert all(r["among_best"] for r in chosen)


def test_a_setting_whose_effect_is_not_shown_is_never_recommended(rows: list[Row]):
    lost = find(rows, level="method", plugin="pocket-outline", method="sdedit")
    assert not lost["recommended"]


def test_too_few_prompts_leave_everything_open_with_the_reason(tmp_path):
    few = draw_run(tmp_path / "few", n_cases=6)
    score_run(few, [EDGE_F1, POCKET_STYLE_RATE])
    rows = records(write_compatibility(few))
    judged = [row for row in rows if row["method"] not in REFERENCES]
    assert {row["verdict"] for row in judged if row["level"] == "setting"} == {"open"}
    assert {row["retention_low"] for row in judged} == {None}
    assert all("too few" in row["reason"] for row in judged)
    canny = find(rows, level="setting", plugin="pocket-canny", method="xadapter", t0=0.9)
    outline = find(rows, level="setting", plugin="pocket-outline", method="xadapter", t0=0.9)
    assert (canny["verdict_more_prompts"], outline["verdict_more_prompts"]) == (6, 18)


def test_without_a_native_plugin_a_style_is_judged_by_its_function_alone(store: RunStore):
    scores = read_run_scores(store)
    kept = [m for m in scores.metrics if m not in ("pocket-rest", "pocket-place")]
    scores.metrics = kept
    scores.cells = {key: cell for key, cell in scores.cells.items() if key[1] in kept}
    rows = records(
        pd.DataFrame(
            plugin_rows(PluginMeasures(scores, "pocket-outline"), {}, load_thresholds())
        ).reindex(columns=schema.COMPATIBILITY.names)
    )
    row = find(rows, level="setting", method="xadapter", t0=0.9)
    assert (row["quality_reference"], row["quality_word"]) == ("floor", None)
    assert row["quality"] is not None and row["quality_reason"] == COUNTS_STYLE
    assert row["sort_value"] == pytest.approx(min(max(row["retention"], 0), 1))
    assert row["verdict"] == "works" and any(r["recommended"] for r in rows)


def test_thresholds_of_a_policy_decide(store: RunStore, tmp_path):
    scores = read_run_scores(store)
    strict = Thresholds(works=0.999, lost=0.99)
    measures = PluginMeasures(scores, "pocket-canny")
    row = find(plugin_rows(measures, {}, strict), level="setting", method="sdedit", t0=0.9)
    assert row["verdict"] == "lost" and "works > 0.999" in row["recipe"]
    path = tmp_path / "policy.yaml"
    path.write_text(SHIPPED_VERDICT_POLICY.read_text().replace("lost: 0.4", "lost: 0.9"))
    with pytest.raises(UserError, match=r"lost is 0\.9 and works 0\.8"):
        load_thresholds(path)
    path.write_text("schema: 1\nworks: 2\n")
    with pytest.raises(UserError) as caught:
        load_thresholds(path)
    assert len(caught.value.problems) >= 6  # all at once


def test_an_arm_that_was_never_rendered_has_the_reason(store: RunStore):
    scores = read_run_scores(store)
    yardstick = PluginMeasures(scores, "pocket-canny")
    unseen = Arm("pocket-canny", "controlnet", "hires", 0.5, 1.0, None)
    assert yardstick.retention(unseen).reason == "edge-f1 has no values for method hires"
    assert yardstick.quality(unseen).value is None
    assert PluginMeasures(scores, "no-such-plugin").axis is None


def test_the_answers_of_a_drawn_run_fit_and_an_empty_table_has_none(store: RunStore):
    text = format_answers(store.compatibility())
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.isascii() and "pocket-outline" in text
    assert "pocket" not in format_answers(schema.COMPATIBILITY.empty_table().to_pandas())


def test_making_the_table_loads_no_torch():
    code = "import sys, bench.analysis.compatibility; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
