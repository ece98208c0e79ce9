"""Images of two runs in pairs: one case (with equal prompts) and seed under the same settings.

A pair has the same plugin, settings, metric and recipe in both runs, and the same adapter where
both have several; every one is compared with a run's single adapter. Differences are signed so that
above 0 the candidate is better; a metric of unknown direction gives none. Pairs are joined inside
of the candidate's database by a 64-bit hash of what they share: of all images only the means of
prompts leave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.registry import REFERENCES, method_order
from bench.store import Row, records
from bench.store.recent import RecentItems
from leaderboard.data import Run, open_tables
from leaderboard.figures.arms import setting_label

FUNCTION = "what each plugin is for"
_FIRST = "xadapter"  # methods that depend on the adapter come first
KNOBS = ("t0", "plugin_scale", "adapter_scale", "adapter")
_OF_FUNCTION = (
    "(s.plugin, s.metric) IN (SELECT (plugin, function_metric) FROM compatibility "
    "WHERE function_metric IS NOT NULL)"
)
_VALUES = """
WITH p AS (SELECT plugin, case_id, min(base_prompt) AS prompt FROM trials GROUP BY 1, 2),
own AS (
  SELECT s.plugin, s.metric, s.case_id, s.seed, s.method, s.t0, s.plugin_scale, s.adapter_scale,
    s.adapter, s.trial_id AS trial, s.value, p.prompt,
    CASE s.better WHEN 'higher' THEN 1.0 WHEN 'lower' THEN -1.0 END AS sign,
    hash(s.plugin, s.metric, s.recipe, s.case_id, s.seed, s.method, s.t0, s.plugin_scale,
      s.adapter_scale, p.prompt) AS pair
  FROM scores s LEFT JOIN p ON p.plugin = s.plugin AND p.case_id = s.case_id
  WHERE s.level = 'image' AND s.method = $method AND isfinite(s.value) AND {wanted})
"""
# a pair that occurs twice in the baseline counts once
_BASELINE = _VALUES + (
    "SELECT pair, adapter, any_value(value) AS value, any_value(trial) AS trial, "
    "any_value(sign) AS sign FROM own GROUP BY pair, adapter HAVING any_value(sign) IS NOT NULL"
)
_PAIRS = _VALUES + (
    ", pairs AS (SELECT own.* EXCLUDE (sign, pair, value, trial, adapter), "
    "coalesce(own.adapter, other.adapter) AS adapter, own.trial AS trial_new, "
    "other.trial AS trial_old, own.value AS value_new, other.value AS value_old, other.sign, "
    "other.sign * (own.value - other.value) AS difference FROM own JOIN other USING (pair) "
    "WHERE (own.adapter = other.adapter OR own.adapter IS NULL OR other.adapter IS NULL) "
    "AND abs(other.sign * (own.value - other.value)) < 1e100) "  # its cube is a float
)
_PROMPTS = _PAIRS + (
    ", means AS (SELECT plugin, metric, {setting} coalesce(prompt, '') AS prompt, "
    "avg(difference) AS mean, sum(difference) AS total, count(*) AS n FROM pairs "
    "GROUP BY ALL) "
    "SELECT plugin, metric, {setting} list(mean ORDER BY prompt) AS means, "
    "sum(total) / sum(n) AS value, sum(n)::BIGINT AS n FROM means GROUP BY ALL"
)
_WORST = _PAIRS + (
    "SELECT * FROM pairs WHERE difference < 0 "
    "ORDER BY difference, plugin, case_id, seed, trial_new LIMIT $n"
)
_Place = tuple[str, int]
_MEANS = RecentItems[tuple[_Place, _Place, "Choice"], list[Row]](64)
_WORST_OF = RecentItems[tuple[_Place, _Place, str, str, int], list[Row]](64)
_BASELINES = RecentItems[tuple[_Place, str, str], pa.Table](2)
_SHARED = RecentItems[tuple[object, ...], list[str]](64)


@dataclass(frozen=True)
class Choice:
    """What is compared: a metric (or `FUNCTION`) of one method, over its settings or by setting."""

    method: str
    metric: str
    by_setting: bool = False

    @property
    def line_keys(self) -> tuple[str, ...]:
        """The columns that tell the lines of a comparison apart."""
        return ("plugin", "metric", *(KNOBS if self.by_setting else ("adapter",)))


def line_of(row: Row, choice: Choice) -> tuple[object, ...]:
    """Return which line of a comparison a row belongs to."""
    return tuple(row[name] for name in choice.line_keys)


def place_of(run: Run) -> _Place:
    """Return what results of a run are cached by."""
    return str(run.folder), run.stamp


def common_methods(baseline: Run, candidates: Sequence[Run]) -> list[str]:
    """Return the methods that the baseline shares.

    Those that depend on the adapter come first, and references, which keep no plugin, last.
    """
    found = _shared(baseline, candidates, "SELECT DISTINCT method AS name FROM trials")
    return sorted(
        method_order(found), key=lambda name: (not name.startswith(_FIRST), name in REFERENCES)
    )


def common_metrics(baseline: Run, candidates: Sequence[Run], method: str) -> list[str]:
    """Return the per-image metrics of a method that the baseline shares with a candidate."""
    sql = "SELECT DISTINCT metric AS name FROM scores WHERE level = 'image' AND method = ?"
    return _shared(baseline, candidates, sql, method)


def prompt_means(baseline: Run, candidate: Run, choice: Choice) -> list[Row]:
    """Return a row for each line: the mean difference of each prompt as `means`, `value`, `n`."""
    place = (place_of(baseline), place_of(candidate), choice)
    known = _MEANS.find(place)
    if known is not None:
        return known
    setting = "".join(f"{name}, " for name in choice.line_keys[2:])
    sql = _PROMPTS.replace("{setting}", setting)
    found = _beside(baseline, candidate, choice, sql)
    means = found.column("means").combine_chunks()
    # a list column is one array of values with the ends of each row
    values, ends = np.asarray(means.values, float), np.asarray(means.offsets)
    rows = found.drop_columns(["means"]).to_pylist()
    for i, row in enumerate(rows):
        row["means"] = values[ends[i] : ends[i + 1]]
    return _MEANS.add(place, rows)


def paired_images(
    baseline: Run, candidate: Run, choice: Choice, *, plugins: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one row per pair of some plugins: keys, `prompt`, both trials and values."""
    sql = _PAIRS + "SELECT * FROM pairs"
    return _beside(baseline, candidate, choice, sql, plugins=plugins).to_pandas()


def worst_pairs(baseline: Run, candidate: Run, choice: Choice, *, n: int) -> list[Row]:
    """Return the pairs that got worse most, with `run`, `label` and `has_condition`.

    Pairs that did not get worse are left out.
    """
    place = (place_of(baseline), place_of(candidate), choice.method, choice.metric, n)
    known = _WORST_OF.find(place)
    if known is not None:
        return known
    return _WORST_OF.add(place, _worst_pairs(baseline, candidate, choice, n))


def _worst_pairs(baseline: Run, candidate: Run, choice: Choice, n: int) -> list[Row]:
    lost = records(_beside(baseline, candidate, choice, _WORST, n=n).to_pandas())
    conditioned = open_tables(candidate).rows(
        "SELECT trial_id FROM trials WHERE condition_path <> '' AND list_contains(?, trial_id)",
        [[row["trial_new"] for row in lost]],
    )
    known = {row["trial_id"] for row in conditioned}
    return [
        {
            **row,
            "run": candidate.key,
            "label": setting_label(row),
            "has_condition": row["trial_new"] in known,
        }
        for row in lost
    ]


def _beside(
    baseline: Run,
    candidate: Run,
    choice: Choice,
    sql: str,
    *,
    plugins: Sequence[str] | None = None,
    n: int | None = None,
) -> pa.Table:
    given: dict[str, Any] = {"method": choice.method}
    wanted = _OF_FUNCTION
    if choice.metric != FUNCTION:
        wanted, given = "s.metric = $metric", given | {"metric": choice.metric}
    old = _baseline(baseline, choice, wanted, given)
    if plugins is not None:
        wanted += " AND list_contains($plugins, s.plugin)"
        given |= {"plugins": list(plugins)}
    given |= {} if n is None else {"n": n}
    return open_tables(candidate).beside(sql.format(wanted=wanted), given, old)


def _baseline(run: Run, choice: Choice, wanted: str, given: Mapping[str, Any]) -> pa.Table:
    place = (place_of(run), choice.method, choice.metric)
    known = _BASELINES.find(place)
    if known is None:
        sql = _BASELINE.format(wanted=wanted)
        known = _BASELINES.add(place, open_tables(run).arrow(sql, given))
    return known


def _shared(baseline: Run, candidates: Sequence[Run], sql: str, *given: str) -> list[str]:
    """Return the names that the baseline shares with at least one candidate, sorted."""
    place = (*map(place_of, (baseline, *candidates)), sql, *given)
    known = _SHARED.find(place)
    if known is None:
        runs = (baseline, *candidates)
        own, *others = ({r["name"] for r in open_tables(run).rows(sql, given)} for run in runs)
        known = _SHARED.add(place, sorted(name for name in own & set().union(*others) if name))
    return known
