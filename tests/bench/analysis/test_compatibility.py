"""Compatibility of drawn plugins whose truth is known, through every table and the terminal."""

import subprocess
import sys
from dataclasses import replace

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.analysis.compatibility import halves, t0_grid, write_compatibility
from bench.analysis.measures import PluginMeasures
from bench.analysis.summary import Arm, read_run_scores
from bench.report.compatibility_text import format_compatibility
from bench.store import schema
from bench.store.rows import Row, records
from bench.store.run_store import RunStore
from metrics.stats.ratio import NO_EFFECT
from tests.bench.drawn_run import compatible_run, finished_run


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


def test_retention_and_gain_are_ratios_of_the_summary_values(store: RunStore, rows: list[Row]):
    summary = records(store.summary())

    def mean(method: str, metric: str, t0=None) -> float:
        values = {"plugin": "pocket-canny", "method": method, "metric": metric, "t0": t0}
        return find(summary, **values)["value"]

    f = [mean(m, "edge-f1", t0) for m, t0 in (("sdedit", 0.9), ("base", None), ("floor", None))]
    q = [mean(m, "pocket-kid-oracle", t0) for m, t0 in (("sdedit", 0.9), ("base", None))]
    row = find(rows, level="setting", plugin="pocket-canny", method="sdedit", t0=0.9)
    assert row["retention"] == pytest.approx((f[0] - f[2]) / (f[1] - f[2]))
    assert row["gain"] == row["gain_oracle"] == pytest.approx((q[1] - q[0]) / q[1])
    assert row["retention_low"] < row["retention"] < row["retention_high"] < 1
    assert (row["seconds"], row["n"], row["n_prompts"]) == (0.5, 12, 12)


def test_references_stand_at_one_and_zero(rows: list[Row]):
    base = find(rows, level="setting", plugin="pocket-canny", method="base")
    floor = find(rows, level="setting", plugin="pocket-canny", method="floor")
    native = find(rows, level="setting", plugin="pocket-canny", method="oracle")
    assert (base["retention"], floor["retention"]) == pytest.approx((1, 0))
    assert (base["gain"], native["gain"]) == pytest.approx((0, 1))
    assert (native["normalized_oracle"], floor["normalized_oracle"]) == pytest.approx((1, 0))


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
    assert {row["status"] for row in idle} == {"no effect"}
    assert {row["reason"] for row in idle} == {NO_EFFECT}
    assert {row["retention"] for row in idle} == {row["score"] for row in idle} == {None}
    lost = find(rows, level="setting", plugin="pocket-outline", method="sdedit", t0=0.9)
    assert (lost["status"], lost["retention"]) == ("measured", pytest.approx(0))


def test_the_recommended_setting_is_measured_on_prompts_that_did_not_choose_it(rows: list[Row]):
    row = find(rows, level="method", plugin="pocket-canny", method="sdedit")
    all_prompts = find(rows, level="setting", plugin="pocket-canny", method="sdedit", t0=0.5)
    assert row["t0"] == 0.5
    assert (row["n_prompts"], all_prompts["n_prompts"]) == (6, 12)
    assert row["retention"] != all_prompts["retention"]
    assert 0 < row["score_low"] <= row["score"] <= row["score_high"] <= 1
    assert row["score"] >= row["score_split_half"] - 0.05
    assert "t0 0.5, 0.9" in row["recipe"] and "half of the prompts" in row["recipe"]


def test_the_recommended_method_keeps_the_style_that_the_other_one_loses(rows: list[Row]):
    chosen = {r["method"] for r in rows if r["plugin"] == "pocket-outline" and r["recommended"]}
    assert chosen == {"xadapter"}
    assert not any(r["recommended"] for r in rows if r["method"] == "oracle")


def test_the_halves_depend_on_the_prompts_alone():
    prompts = [f"prompt {i}" for i in range(11)]
    choosing, measuring = halves(prompts)
    assert halves(prompts[::-1]) == (choosing, measuring)
    assert (len(choosing), len(measuring)) == (5, 6)
    assert {*choosing, *measuring} == set(prompts)


def test_too_few_prompts_give_a_reason_and_no_recommendation(tmp_path_factory):
    few = finished_run(tmp_path_factory.getbasetemp())
    rows = [r for r in records(write_compatibility(few)) if r["level"] == "method"]
    assert {row["t0"] for row in rows} == {None}
    assert all("too few" in row["gain_reason"] for row in rows)


def test_an_arm_that_was_never_rendered_has_the_reason(store: RunStore):
    scores = read_run_scores(store)
    yardstick = PluginMeasures(scores, "pocket-canny")
    unseen = Arm("pocket-canny", "controlnet", "hires", 0.5, 1.0, None)
    assert yardstick.retention(unseen).reason == "edge-f1 has no values for method hires"
    assert yardstick.gain(unseen, yardstick.headline_scale).value is None
    assert PluginMeasures(scores, "no-such-plugin").headline_scale is None


def test_the_grid_has_one_arm_for_each_t0_at_the_scale_nearest_to_one():
    arm = Arm("p", "lora", "xadapter", 0.5, 1.0, 1.5)
    arms = [arm, replace(arm, adapter_scale=1.0), replace(arm, t0=0.9, plugin_scale=0.8)]
    assert t0_grid(arms) == arms[1:]


def test_the_terminal_block_fits_and_marks_what_to_use(store: RunStore):
    text = format_compatibility(store.compatibility())
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "  pocket-idle: plugin has no measurable effect over floor (not incompatible)" in text
    assert "    xadapter *" in text and text.isascii()
    assert format_compatibility(schema.COMPATIBILITY.empty_table().to_pandas()) == ""


def test_making_the_table_loads_no_torch():
    code = "import sys, bench.analysis.compatibility; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
