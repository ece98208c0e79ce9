import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench.analysis.summary import Arm, Scores, read_run_scores, summarise
from bench.scoring.score import score_run
from bench.store import schema
from bench.store.rows import Row, records
from bench.store.run_store import RunStore
from tests.bench.drawn_run import draw_run, drawn_metrics, finished_run


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    return finished_run(tmp_path_factory.getbasetemp())


def find(rows: list[Row], **values) -> Row:
    return next(r for r in rows if all(r[k] == v for k, v in values.items()))


def score_rows(metric: str, method: str, values: dict[tuple[str, int], float]) -> list[Row]:
    return [
        {
            "trial_id": f"{method}-{case_id}-{seed}",
            "plugin": "p",
            "kind": "lora",
            "method": method,
            "t0": None,
            "plugin_scale": 1.0,
            "adapter_scale": None,
            "adapter": None,
            "case_id": case_id,
            "seed": seed,
            "metric": metric,
            "recipe": "r",
            "better": "higher",
            "level": "image",
            "value": value,
            "reason": None,
            "n": 1,
            "leave_one_out": None,
        }
        for (case_id, seed), value in values.items()
    ]


def test_the_table_has_exactly_the_published_columns(store: RunStore):
    path = store.tables_dir / "summary.parquet"
    assert pq.read_table(path).schema.equals(schema.SUMMARY)


def test_the_same_scores_give_the_same_table_bit_by_bit(store: RunStore):
    path = store.tables_dir / "summary.parquet"
    before = path.read_bytes()
    summarise(store.folder)
    assert path.read_bytes() == before


def test_values_are_means_of_the_scores(store: RunStore):
    rows = records(store.summary())
    row = find(rows, plugin="pocket-canny", method="sdedit", t0=0.9, metric="edge-f1")
    scores = store.scores()
    mine = scores[(scores["metric"] == "edge-f1") & (scores["method"] == "sdedit")]
    values = mine.loc[mine["t0"] == 0.9, "value"]
    assert row["value"] == pytest.approx(values.mean())
    assert row["n"] == len(values) == 12
    assert row["low"] < row["value"] < row["high"]


def test_differences_to_base_pair_case_and_seed(store: RunStore):
    rows = records(store.summary())
    base = find(rows, plugin="pocket-canny", method="base", metric="edge-f1")
    floor = find(rows, plugin="pocket-canny", method="floor", metric="edge-f1")
    assert base["delta_to_base"] is None
    assert floor["delta_to_base"] == pytest.approx(floor["value"] - base["value"])
    assert floor["delta_low"] <= floor["delta_to_base"] <= floor["delta_high"] < 0


def test_set_metrics_have_intervals_where_they_can(store: RunStore):
    rows = records(store.summary())
    kid = find(rows, plugin="pocket-canny", method="floor", metric="pocket-kid")
    fid = find(rows, plugin="pocket-canny", method="floor", metric="pocket-fid")
    assert kid["low"] < kid["value"] < kid["high"]
    assert kid["delta_low"] < kid["delta_to_base"] < kid["delta_high"]
    assert fid["value"] is not None
    assert fid["low"] is None


def test_a_metric_without_values_is_null_and_never_zero(store: RunStore):
    row = find(records(store.summary()), method="base", metric="pocket-lpips")
    assert (row["value"], row["low"], row["high"], row["n"]) == (None, None, None, 0)


def test_costs_stand_beside_every_row(store: RunStore):
    rows = records(store.summary())
    assert {r["seconds"] for r in rows if r["method"] == "base"} == {0.25}
    assert {r["seconds"] for r in rows if r["method"] == "floor"} == {0.5}
    assert {r["peak_memory_mib"] for r in rows} == {900.0}


def test_pairing_finds_a_small_difference_under_a_large_spread():
    rng = np.random.default_rng(0)
    hard = {(f"c{i}", s): float(rng.normal()) for i in range(12) for s in (0, 1)}
    better = {k: v + 0.05 + 0.02 * float(rng.normal()) for k, v in hard.items()}
    rows = score_rows("m", "base", hard) + score_rows("m", "xadapter", better)
    scores = Scores(rows, {f"c{i}": f"prompt {i}" for i in range(12)})
    base, adapter = scores.arms
    found = scores.difference(adapter, base, "m")
    assert found.low is not None
    assert found.low > 0
    p = scores.p_value(adapter, base, "m")
    assert p is not None
    assert p < 0.01
    assert scores.base_of(adapter) == base


def test_scales_pair_with_the_base_of_the_same_scale():
    def arm(method, plugin_scale):
        return {"method": method, "plugin_scale": plugin_scale}

    rows = []
    for i, change in enumerate([arm("base", 1.0), arm("base", 1.5), arm("xadapter", 1.5)]):
        rows += [{**r, **change} for r in score_rows("m", "any", {("c", 0): float(i)})]
    rows += [{**r, **arm("floor", None)} for r in score_rows("m", "any", {("c", 0): 9.0})]
    scores = Scores(rows, {"c": "prompt"})
    by_method = {(a.method, a.plugin_scale): a for a in scores.arms}
    assert scores.base_of(by_method["xadapter", 1.5]) == by_method["base", 1.5]
    assert scores.base_of(by_method["floor", None]) == by_method["base", 1.0]


def test_scores_of_trials_that_left_the_plan_are_not_counted(store: RunStore, tmp_path: Path):
    other = draw_run(tmp_path / "run", n_cases=2, t0s=(0.5,))
    score_run(other, drawn_metrics()[:1])
    trials = other.trials()
    other.write_trials(trials[trials["case_id"] == "case-00"].to_dict("records"))
    scores = read_run_scores(other)
    arm = Arm("pocket-canny", "controlnet", "base", None, 1.0, None)
    assert scores.cells[arm, "edge-f1"].n == 1


def test_summarising_loads_no_torch():
    code = (
        "import sys, bench.analysis.summary, metrics.stats.intervals; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
