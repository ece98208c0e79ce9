"""Tables on which earlier verdicts contradicted each other: damaged mappers, ties, lost answers.

Each is a run's scores, built from the means and spreads that were recorded; no images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.analysis import Scores, answers
from bench.analysis.verdict_policy import load_thresholds
from bench.gate.verdict import Rules, Sample, decide_gate
from bench.report.blocks import Bullets
from metrics.stats.verdicts import Thresholds
from tests.bench.analysis.recorded import (
    arm,
    find,
    image_rows,
    rate,
    row_of,
    scores_of,
    set_row,
    spread_out,
    table,
)

CANNY, STYLE = ("pocket-canny", "controlnet", "edge-f1-1px"), ("pocket-hatched", "lora", "")
RATE = "pocket-style-rate"
AXIS, FLOOR_AXIS = "pocket-rest", "pocket-kid-floor"


# --- a mapper with halved convolutions loses .17 of edge F1 and comes nearer to plain images


def mapper_scores(f1: float, rest: float, n: int = 60) -> Scores:
    plugin, kind, metric = CANNY
    means = {"base": 0.913, "floor": 0.138, "oracle": 0.937, "xadapter": f1}
    distances = {"base": 0.255, "floor": 0.0, "oracle": 0.0, "xadapter": rest}
    rows = []
    for seed, (method, mean) in enumerate(means.items()):
        of = arm(plugin, kind, method, 0.7 if method == "xadapter" else None)
        rows += image_rows(of, metric, spread_out(mean, 0.12, n=n, seed=seed))
        rows += set_row(of, AXIS, distances[method], 0.1, n=n, seed=10 + seed)
    return scores_of(rows, n)


def test_a_damaged_mapper_stands_below_the_one_that_the_gate_prefers():
    good, damaged = mapper_scores(0.789, 0.004), mapper_scores(0.619, 0.0)
    values = [
        find(table(scores, CANNY[0]), level="method", method="xadapter")["sort_value"]
        for scores in (good, damaged)
    ]
    pairs = [
        next(c for (a, m), c in s.cells.items() if (a.method, m) == ("xadapter", CANNY[2])).by_pair
        for s in (good, damaged)
    ]
    differences = np.array([pairs[1][pair] - pairs[0][pair] for pair in sorted(pairs[0])])
    sample = Sample(CANNY[0], CANNY[2], "higher", 0.02, (differences,), (1.0,), 1.0)
    assert decide_gate([sample], Rules()).verdict == "regression"
    assert values[0] > values[1] + 0.1


# --- an exact tie of clipped scores was broken by the order in the manifest


def tied_scores(n: int = 24) -> Scores:
    """hires is told from base by its look alone; SDEdit keeps .88: both were .00 after clipping."""
    plugin, kind, _ = STYLE
    rates = {"base": 21, "floor": 3, "hires": 20, "sdedit": 19, "xadapter": 20}
    rows = []
    for seed, (method, hits) in enumerate(rates.items()):
        of = arm(plugin, kind, method, None if method in ("base", "floor") else 0.5)
        rows += image_rows(of, RATE, rate(hits, n, seed=0))
        rows += set_row(of, FLOOR_AXIS, 0.3, 0.2, n=n, seed=seed)
    return scores_of(rows, n)


@pytest.mark.parametrize("cheapest", ["hires", "sdedit", "xadapter"])
def test_a_tie_is_decided_by_cost_and_never_by_the_order(cheapest: str):
    methods = ("hires", "sdedit", "xadapter")
    seconds = {name: 0.1 if name == cheapest else 0.4 for name in methods}
    rows = table(tied_scores(), STYLE[0], seconds)
    chosen = {r["method"] for r in rows if r["level"] == "setting" and r["recommended"]}
    equal = {r["method"] for r in rows if r["level"] == "setting" and r["among_best"]}
    assert chosen == {cheapest} and equal == set(methods)


def test_a_setting_without_a_shown_effect_is_never_recommended():
    plugin, kind, _ = STYLE
    n = 24
    hits = {"base": 21, "floor": 3, "hires": 3, "sdedit": 19}
    rows = []
    for method, count in hits.items():
        of = arm(plugin, kind, method, None if method in ("base", "floor") else 0.5)
        rows += image_rows(of, RATE, rate(count, n))
    found = table(scores_of(rows, n), plugin, {"hires": 0.1, "sdedit": 0.9})
    chosen = {r["method"] for r in found if r["level"] == "setting" and r["recommended"]}
    assert chosen == {"sdedit"}


# --- a quality axis that cannot be scaled erased a known answer


def outline_scores(*, with_quality: bool, n: int = 60) -> Scores:
    """Retention 1.375, and a base model whose images are not told from the reference's."""
    plugin, kind, _ = STYLE
    means = {"base": 0.40, "floor": 0.0, "xadapter": 0.55, "oracle": 0.5}
    rows = []
    for seed, (method, mean) in enumerate(means.items()):
        of = arm(plugin, kind, method, 0.7 if method == "xadapter" else None)
        rows += image_rows(of, RATE, rate(round(mean * n), n))
        if with_quality:
            rows += set_row(of, AXIS, 0.001, 0.4, n=n, seed=seed)
    return scores_of(rows, n)


@pytest.mark.parametrize("with_quality", [True, False])
def test_a_known_answer_stays_where_quality_is_not_known(with_quality: bool):
    rows = table(outline_scores(with_quality=with_quality), STYLE[0])
    row = find(rows, level="setting", method="xadapter")
    assert row["retention"] == pytest.approx(1.375)
    assert row["verdict"] == "works" and row["recommended"] is True
    if with_quality:
        assert row["quality_word"] == "cannot be told"
    (answer,) = answers(rows)
    assert answer.word == "works"
    assert "keeps 138 %" in answer.sentence or "keeps 137 %" in answer.sentence


# --- a gain of -11.6 [-65.6, -4.9] had a denominator whose interval includes 0


@pytest.mark.parametrize("effect", [0.057, 0.0, -0.1])
def test_no_ratio_is_shown_whose_denominator_is_not_told_from_zero(effect: float):
    plugin, kind, metric = CANNY
    n = 24
    means = {"base": 0.2 + effect, "floor": 0.2, "oracle": 0.2 + effect, "xadapter": 0.25}
    rows = []
    for seed, (method, mean) in enumerate(means.items()):
        of = arm(plugin, kind, method, 0.7 if method == "xadapter" else None)
        rows += image_rows(of, metric, spread_out(mean, 0.15, n=n, seed=seed))
    found = [r for r in table(scores_of(rows, n), plugin) if r["level"] == "setting"]
    assert {r["retention"] for r in found} == {r["normalized_oracle"] for r in found} == {None}
    assert {r["status"] for r in found} == {"no effect"}


def test_all_numbers_of_a_row_are_of_one_sample_and_one_setting():
    rows = table(mapper_scores(0.789, 0.004), CANNY[0])
    setting, method = (
        find(rows, level=level, method="xadapter") for level in ("setting", "method")
    )
    same = ("t0", "n", "n_prompts", "function", "retention", "quality", "verdict")
    assert [setting[name] for name in same] == [method[name] for name in same]
    factors = min(setting["retention"], 1.0), 1.0
    assert setting["sort_value"] <= min(factors) + 1e-12


# --- "keeps more than SDEdit" with Holm's p above .05


def rival_scores(gains: Sequence[float], spread: float, n: int = 24) -> Scores:
    """X-Adapter beats SDEdit by each gain at one t0; both have their floor and base."""
    plugin, kind, metric = CANNY
    rows = image_rows(arm(plugin, kind, "base"), metric, spread_out(0.9, 0.1, n=n, seed=1))
    rows += image_rows(arm(plugin, kind, "floor"), metric, spread_out(0.1, 0.1, n=n, seed=2))
    for i, gain in enumerate(gains):
        t0 = round(0.3 + 0.1 * i, 1)
        rival = spread_out(0.6, 0.1, n=n, seed=10 + i)
        better = rival + spread_out(gain, spread, n=n, seed=20 + i)
        rows += image_rows(arm(plugin, kind, "sdedit", t0), metric, rival)
        rows += image_rows(arm(plugin, kind, "xadapter", t0), metric, better)
    return scores_of(rows, n)


def claims(scores: Scores) -> str:
    """Return what the report claims of X-Adapter against SDEdit, in words."""
    from bench.report.comparisons import against_sdedit

    summary = [
        {**row_of(a, m, "image", "higher"), "value": scores.estimate(a, m).value}
        for a, m in scores.cells
    ]
    bullets = [
        block for block in against_sdedit(scores, summary, [CANNY[0]]) if isinstance(block, Bullets)
    ]
    return "\n".join(str(span) for block in bullets for item in block.items for span in item)


def test_more_than_sdedit_is_claimed_only_after_the_correction():
    # each interval excludes 0 (p about .03), none of four does after Holm's correction
    assert "keeps more than" not in claims(rival_scores([0.045] * 4, 0.095))
    assert "keeps more than" in claims(rival_scores([0.1] * 4, 0.095))


def test_the_thresholds_of_these_tables_are_the_shipped_ones():
    assert load_thresholds() == Thresholds()
