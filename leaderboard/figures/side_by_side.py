"""The images of one plugin and setting in several runs, a row for each prompt and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis import Arm
from bench.site.views import detail
from bench.store import Row, records
from bench.store.recent import RecentItems
from leaderboard.data import Run, open_tables
from leaderboard.figures.differences import Comparison
from leaderboard.figures.pairs import KNOBS, paired_images, place_of
from leaderboard.figures.verdicts import compatibility_of

_MAX_IMAGES = 20_000
# a run's single adapter is beside every one of another run
_SAME = " AND ".join(f"{name} IS NOT DISTINCT FROM ${name}" for name in KNOBS[:-1])
_SAME += " AND (adapter = $adapter OR adapter IS NULL)"
_Key = tuple[str, int, str]  # case, seed, prompt
Knobs = Mapping[str, Any]


_ROWS = RecentItems[tuple[object, ...], "list[PromptRow]"](16)


@dataclass(frozen=True)
class PromptRow:
    """One prompt and seed: the image of each run that has one, and the largest loss."""

    prompt: str
    seed: int
    images: Mapping[str, Row]
    scores: Mapping[str, float]
    difference: float | None


def settings_of_plugin(
    baseline: Run, candidates: Sequence[Run], plugin: str, method: str
) -> dict[str, Knobs]:
    """Return the baseline's settings of a method by name, the one to use first.

    Where it has a single adapter and others have several, a setting for each of theirs.
    """
    tables = open_tables(baseline)
    found = _settings(baseline, plugin, method)
    to_use = [
        tuple(row[name] for name in KNOBS)
        for row in compatibility_of(tables, plugin)
        if row["level"] == "method" and row["method"] == method
    ]
    found.sort(key=lambda row: tuple(row[name] for name in KNOBS) not in to_use)
    theirs = [row["adapter"] for run in candidates for row in _settings(run, plugin, method)]
    several = list(dict.fromkeys(adapter for adapter in theirs if adapter is not None))
    own = [row["adapter"] for row in found if row["adapter"] is not None]
    if several and not own:
        found = [{**row, "adapter": adapter} for row in found for adapter in several]
    return {_name(row): row for row in found}


def _settings(run: Run, plugin: str, method: str) -> list[Row]:
    sql = f"SELECT DISTINCT {', '.join(KNOBS)} FROM trials WHERE plugin = ? AND method = ? "
    return open_tables(run).rows(sql + "ORDER BY ALL", [plugin, method])


def prompt_rows(
    baseline: Run, candidates: Sequence[Run], comparison: Comparison, plugin: str, knobs: Knobs
) -> list[PromptRow]:
    """Return the prompts of a plugin at a setting, the largest loss first."""
    runs = tuple(map(place_of, (baseline, *candidates)))
    place = (runs, comparison.choice, plugin, *(knobs[name] for name in KNOBS))
    known = _ROWS.find(place)
    if known is not None:
        return known
    return _ROWS.add(place, _prompt_rows(baseline, candidates, comparison, plugin, knobs))


def _prompt_rows(
    baseline: Run, candidates: Sequence[Run], comparison: Comparison, plugin: str, knobs: Knobs
) -> list[PromptRow]:
    images: dict[_Key, dict[str, Row]] = {}
    for run in (baseline, *candidates):
        for key, row in _images(run, plugin, comparison.choice.method, knobs):
            images.setdefault(key, {})[run.key] = row
    scores: dict[tuple[str, str], float] = {}
    losses: dict[tuple[str, int], float] = {}  # the prompt of a pair may lack the trigger
    for run in candidates:
        if run.key not in comparison.compared:
            continue
        pairs = records(paired_images(baseline, run, comparison.choice, plugins=[plugin]))
        for row in (r for r in pairs if all(r[name] == knobs[name] for name in KNOBS)):
            scores[(baseline.key, row["trial_old"])] = row["value_old"]
            scores[(run.key, row["trial_new"])] = row["value_new"]
            key = _key(row)[:2]
            losses[key] = min(losses.get(key, row["difference"]), row["difference"])
    rows = []
    for key in sorted(images, key=lambda key: (losses.get(key[:2], float("inf")), key)):
        own = images[key]
        known = {
            run: scores[(run, row["trial_id"])]
            for run, row in own.items()
            if (run, row["trial_id"]) in scores
        }
        rows.append(PromptRow(key[2], key[1], own, known, losses.get(key[:2])))
    return rows


def _images(run: Run, plugin: str, method: str, knobs: Knobs) -> list[tuple[_Key, Row]]:
    given: dict[str, Any] = {"plugin": plugin, "method": method, **knobs}
    rows = open_tables(run).rows(
        "SELECT trial_id, case_id, seed, base_prompt AS prompt, condition_path, image_sha256, "
        f"status, error FROM images WHERE plugin = $plugin AND method = $method AND {_SAME} "
        f"ORDER BY case_id, seed, trial_id LIMIT {_MAX_IMAGES}",
        given,
    )
    return [(_key(row), row) for row in rows]


def _key(row: Row) -> _Key:
    return row["case_id"] or "", int(row["seed"] or 0), row["prompt"] or ""


def _name(row: Row) -> str:
    label = detail(Arm("", "", "", row["t0"], row["plugin_scale"], row["adapter_scale"]))
    own = "" if row["adapter"] is None else f"adapter {row['adapter']}"
    return ", ".join(part for part in (label, own) if part) or "the only setting"
