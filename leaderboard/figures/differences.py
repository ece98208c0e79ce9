"""Two runs side by side: paired differences of each plugin, and the images that lost most.

A pair is one case (with equal prompts) and seed of one plugin under the same settings, metric and
recipe in both runs. Differences are signed so that above 0 the candidate is better.
Words about them are tests, corrected by Holm over all that are displayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from bench.report.styles import method_order
from bench.store import Row, records
from leaderboard.data import Run, RunTables
from leaderboard.data.catalog import text_of
from leaderboard.figures.arms import setting_label
from metrics.stats import MIN_CLUSTERS, Estimate, holm, paired_difference
from metrics.stats.intervals import MIN_PROMPTS, sign_flip_p
from metrics.stats.margin import within_margin_p

FUNCTION = "what each plugin is for"
FEW_PROMPTS = f"not tested (fewer than {MIN_PROMPTS} prompts)"
DIFFERENCE_WORDS = ("worse", FEW_PROMPTS, "not told apart", "better")
_LEVEL = 0.05
_MAX_FLIPPED = 200
_MAX_NAMES = 8
# methods that depend on the adapter come first
_FIRST = "xadapter"
_KEYS = ["plugin", "metric", "recipe", "case_id", "seed", "method", "t0", "plugin_scale"]
_KEYS += ["adapter_scale"]
_SIGNS = {"higher": 1.0, "lower": -1.0}
_HUGE = 1e300  # JSON allows integers beyond the range of a float


def common_methods(a: RunTables, b: RunTables) -> list[str]:
    """Return the methods of both runs, those that depend on the adapter first."""
    sets = [
        {row["method"] for row in tables.rows("SELECT DISTINCT method FROM trials")}
        for tables in (a, b)
    ]
    methods = method_order(method for method in sets[0] & sets[1] if method)
    return sorted(methods, key=lambda name: not name.startswith(_FIRST))


def common_metrics(a: RunTables, b: RunTables, method: str) -> list[str]:
    """Return the per-image metrics that both runs have for a method."""
    sql = "SELECT DISTINCT metric FROM scores WHERE level = 'image' AND method = ?"
    sets = [{row["metric"] for row in tables.rows(sql, [method])} for tables in (a, b)]
    return sorted(name for name in sets[0] & sets[1] if name)


@lru_cache(maxsize=8)
def paired_images(a: RunTables, b: RunTables, *, metric: str, method: str) -> pd.DataFrame:
    """Return one row per pair: keys, `prompt`, both trials and values, `difference`.

    `metric` may be `FUNCTION`: the function metric of each plugin.
    """
    old, new = (_values(tables, metric=metric, method=method) for tables in (a, b))
    pairs = old.merge(new.drop(columns="better"), on=_KEYS, suffixes=("_old", "_new"))
    # a metric of unknown direction gives no signed difference
    sign = pd.Series([_SIGNS.get(better) for better in pairs["better"]], pairs.index, dtype=float)
    pairs["difference"] = sign * (pairs["value_new"] - pairs["value_old"])
    # cases of the same name may have different prompts
    left, right = [_prompts(tables) for tables in (a, b)]
    scenes = list(zip(pairs["plugin"], pairs["case_id"], strict=True))
    same = [left.get(scene) == right.get(scene) for scene in scenes]
    pairs = pairs.loc[pairs["difference"].notna() & pd.Series(same, pairs.index, dtype=bool)]
    prompts = b.query("SELECT case_id, any_value(base_prompt) AS prompt FROM trials GROUP BY 1")
    return pairs.merge(prompts, on="case_id", how="left")


def plugin_differences(pairs: pd.DataFrame) -> list[Row]:
    """Return the mean difference of each plugin and metric, those shown to be worse first.

    Each has a 95 % interval over whole prompts, `p` (two-sided, Holm's over all rows) and what may
    be claimed of it, `word`; none of them below 12 prompts.
    """
    rows = []
    for key, part in pairs.groupby(["plugin", "metric"], sort=True):
        plugin, metric = key if isinstance(key, tuple) else (key, None)
        found = _difference(part)
        row: Row = {"plugin": plugin, "metric": metric, "value": found.value}
        row |= {"low": found.low, "high": found.high, "n": found.n, "n_prompts": found.n_clusters}
        rows.append({**row, "reason": found.reason, "p": _p_value(part)})
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = p
    for row in rows:
        row["word"] = _word_of(row["value"], row["p"])
    return sorted(rows, key=lambda row: (DIFFERENCE_WORDS.index(row["word"]), row["value"]))


def differences_sentence(rows: Sequence[Row]) -> str:
    """Return how many of the displayed differences are shown, and of which plugins."""
    several = len({row["metric"] for row in rows}) > 1
    parts = []
    for word in DIFFERENCE_WORDS:
        found = [row for row in rows if row["word"] == word]
        names = [f"{r['plugin']} ({r['metric']})" if several else str(r["plugin"]) for r in found]
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        if found:
            parts.append(f"{len(found)} {word}: {', '.join(names[:_MAX_NAMES])}{more}")
    n = "1 comparison" if len(rows) == 1 else f"{len(rows)} comparisons"
    return f"Of {n}, {'; '.join(parts)}."


def _difference(part: pd.DataFrame) -> Estimate:
    """Return the mean of one plugin's differences; rates get the interval of paired rates."""
    # above 0 is better: a metric whose lower values are better is subtracted the other way round
    flips = bool((part["better"] == "lower").any())
    left, right = ("value_old", "value_new") if flips else ("value_new", "value_old")
    pairs = [(str(i), 0) for i in range(len(part))]  # one key a pair: settings share case and seed
    sides = (dict(zip(pairs, part[side].tolist(), strict=True)) for side in (left, right))
    prompts = part["prompt"].fillna("").tolist()
    cluster_of = {name: prompt for (name, _), prompt in zip(pairs, prompts, strict=True)}
    return paired_difference(*sides, cluster_of=cluster_of)


def _p_value(part: pd.DataFrame) -> float | None:
    """Return the two-sided p that the mean difference over prompts is 0; None if they are few."""
    x = np.asarray(part.groupby(part["prompt"].fillna(""))["difference"].mean(), float)
    if len(x) < MIN_PROMPTS:
        return None
    one_sided = [within_margin_p(x, 0.0), within_margin_p(-x, 0.0)]
    p = 2 * min(side for side in one_sided if side is not None)
    # where few prompts change, Student's t finds too much; flipped signs do not
    changed = x[x != 0]
    if len(changed) < MIN_CLUSTERS:
        return min(max(p, 2.0 ** (1 - len(changed))), 1.0)
    if len(changed) <= _MAX_FLIPPED:
        flipped = sign_flip_p(changed.tolist(), [str(i) for i in range(len(changed))])
        p = p if flipped is None else max(p, flipped)
    return min(p, 1.0)


def _word_of(value: float, p: float | None) -> str:
    if p is None:
        return FEW_PROMPTS
    if p > _LEVEL:
        return "not told apart"
    return "worse" if value < 0 else "better"


def worst_pairs(pairs: pd.DataFrame, new: RunTables, *, n: int) -> list[Row]:
    """Return the pairs that got worse most, with `label` and `has_condition`.

    Pairs that did not get worse are left out.
    """
    lost = pairs.loc[pairs["difference"] < 0].sort_values("difference", kind="stable").head(n)
    conditioned = new.rows(
        "SELECT trial_id FROM trials WHERE condition_path <> '' AND list_contains(?, trial_id)",
        [lost["trial_new"].tolist()],
    )
    known = {row["trial_id"] for row in conditioned}
    return [
        {**row, "label": setting_label(row), "has_condition": row["trial_new"] in known}
        for row in records(lost)
    ]


@dataclass(frozen=True)
class Verdict:
    """Outcome of a gate; all values are text or numbers from its file."""

    verdict: str
    reason: str
    created: str
    tests: tuple[Row, ...]


def gate_of(baseline: Run, candidate: Run) -> Verdict | None:
    """Return the gate outcome of these two runs; None if no gate compared them."""
    facts = candidate.gate or {}
    compared = facts.get("baseline")
    own = text_of(baseline.facts.get("run_id"))
    if not isinstance(compared, Mapping) or not own or compared.get("run_id") != own:
        return None
    tests = facts.get("tests")
    listed = tests if isinstance(tests, list) else []
    return Verdict(
        verdict=text_of(facts.get("verdict")),
        reason=text_of(facts.get("reason")),
        created=text_of(facts.get("created")),
        tests=tuple(_test(test) for test in listed if isinstance(test, dict)),
    )


def first_pair(runs: Mapping[str, Run]) -> tuple[str, str]:
    """Return the default baseline and candidate: the newest gate's, else the two newest runs.

    Finished runs come before others.
    """
    for candidate in runs.values():
        for baseline in runs.values():
            if baseline.key != candidate.key and gate_of(baseline, candidate) is not None:
                return baseline.key, candidate.key
    keys = sorted(runs, key=lambda key: not runs[key].is_finished)
    return keys[1], keys[0]


def _test(test: Mapping[str, Any]) -> Row:
    names = ("plugin", "metric", "verdict", "better", "reason", "sentence")
    words = {name: text_of(test.get(name)) for name in names}
    numbers = {
        name: _finite(test.get(name))
        for name in ("difference", "low", "high", "margin", "n_prompts", "further_images")
    }
    return {**words, **numbers}


def _prompts(tables: RunTables) -> dict[tuple[Any, Any], Any]:
    """Return the prompt of each (plugin, case)."""
    rows = tables.rows("SELECT plugin, case_id, min(base_prompt) AS p FROM trials GROUP BY 1, 2")
    return {(row["plugin"], row["case_id"]): row["p"] for row in rows}


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < _HUGE else None


def _values(tables: RunTables, *, metric: str, method: str) -> pd.DataFrame:
    wanted = "s.metric = $metric"
    if metric == FUNCTION:
        wanted = (
            "(s.plugin, s.metric) IN (SELECT (plugin, function_metric) FROM compatibility "
            "WHERE function_metric IS NOT NULL)"
        )
    given = {"method": method} | ({"metric": metric} if metric != FUNCTION else {})
    return tables.query(
        "SELECT s.plugin, s.metric, s.recipe, s.case_id, s.seed, s.method, "
        "coalesce(s.t0, -1) AS t0, coalesce(s.plugin_scale, -1) AS plugin_scale, "
        "coalesce(s.adapter_scale, -1) AS adapter_scale, s.trial_id AS trial, s.value, s.better "
        f"FROM scores s WHERE s.level = 'image' AND s.method = $method AND {wanted} "
        "AND isfinite(s.value)",
        given,
    )
