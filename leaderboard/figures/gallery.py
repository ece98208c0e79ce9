"""A plugin's images: pages, best and worst ones, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.figures.arms import OF_PLUGIN, Setting

PER_PAGE = 24
_COLUMNS = (
    "i.trial_id, i.plugin, i.setting, i.case_id, i.seed, i.base_prompt AS prompt, "
    "i.condition_path, i.image_sha256, i.status, i.error"
)


@dataclass(frozen=True)
class Scene:
    """One case and seed of a plugin with some of its images."""

    case_id: str
    seed: int
    prompt: str
    images: Sequence[Row]

    @property
    def condition_trial(self) -> str | None:
        """A trial with the condition image; None if the plugin takes no condition."""
        return next((r["trial_id"] for r in self.images if r["condition_path"]), None)


def images_per_page(n_settings: int) -> int:
    """Return the page size: at most `PER_PAGE`, whole cases if their images fit on a page."""
    return PER_PAGE // n_settings * n_settings if 0 < n_settings <= PER_PAGE else PER_PAGE


def count_images(tables: RunTables, plugin: str, settings: Sequence[Setting]) -> int:
    """Return the number of a plugin's images with these settings."""
    found = tables.rows(
        f"SELECT count(*) AS n FROM images i WHERE {OF_PLUGIN} "
        "AND list_contains($numbers, i.setting)",
        {"plugin": plugin, "numbers": _numbers(settings)},
    )
    return int(found[0]["n"])


def read_page(
    tables: RunTables, plugin: str, settings: Sequence[Setting], *, page: int, per_page: int
) -> list[Scene]:
    """Return the images of one page (from 0) by case and seed, in the order of the settings."""
    rows = tables.rows(
        f"SELECT {_COLUMNS} FROM images i WHERE {OF_PLUGIN} "
        "AND list_contains($numbers, i.setting) "
        "ORDER BY i.case_id, i.seed, list_position($numbers, i.setting), i.trial_id "
        f"LIMIT {int(per_page)} OFFSET {int(page) * int(per_page)}",
        {"plugin": plugin, "numbers": _numbers(settings)},
    )
    return _scenes(rows)


def read_scene(
    tables: RunTables, plugin: str, settings: Sequence[Setting], *, case_id: str, seed: int
) -> Scene | None:
    """Return the images of one case and seed."""
    rows = tables.rows(
        f"SELECT {_COLUMNS} FROM images i WHERE {OF_PLUGIN} AND i.case_id = $case_id "
        "AND i.seed = $seed AND list_contains($numbers, i.setting) "
        "ORDER BY list_position($numbers, i.setting)",
        {"plugin": plugin, "case_id": case_id, "seed": seed, "numbers": _numbers(settings)},
    )
    return next(iter(_scenes(rows)), None)


def case_ids(tables: RunTables, plugin: str, *, most: int) -> dict[str, str]:
    """Return at most `most` of the plugin's cases with their prompts."""
    rows = tables.rows(
        "SELECT case_id, any_value(base_prompt) AS prompt FROM images WHERE plugin = $plugin "
        f"GROUP BY case_id ORDER BY case_id LIMIT {int(most)}",
        {"plugin": plugin},
    )
    return {row["case_id"]: row["prompt"] or "" for row in rows if row["case_id"]}


def seeds_of(tables: RunTables, plugin: str) -> list[int]:
    """Return the plugin's seeds."""
    rows = tables.rows("SELECT DISTINCT seed FROM images WHERE plugin = ? ORDER BY seed", [plugin])
    return [int(row["seed"]) for row in rows if row["seed"] is not None]


def image_metrics(tables: RunTables, plugin: str) -> dict[str, str]:
    """Return the per-image metrics of a plugin with their direction."""
    rows = tables.rows(
        "SELECT metric, any_value(better) AS better FROM scores WHERE plugin = ? "
        "AND level = 'image' GROUP BY metric ORDER BY metric",
        [plugin],
    )
    return {row["metric"]: row["better"] or "" for row in rows if row["metric"]}


def scores_of(
    tables: RunTables, trial_ids: Sequence[str], metrics: Sequence[str], *, plugin: str
) -> dict[str, dict[str, float | None]]:
    """Return the scores of some images: trial id -> metric -> value."""
    rows = tables.rows(
        "SELECT trial_id, metric, value FROM scores WHERE level = 'image' "
        "AND plugin IN ($plugin, '') "
        "AND list_contains($metrics, metric) AND list_contains($trials, trial_id)",
        {"metrics": list(metrics), "trials": list(trial_ids), "plugin": plugin},
    )
    found: dict[str, dict[str, float | None]] = {}
    for row in rows:
        found.setdefault(row["trial_id"], {})[row["metric"]] = row["value"]
    places = {metric: i for i, metric in enumerate(metrics)}
    return {
        trial: dict(sorted(scores.items(), key=lambda item: places[item[0]]))
        for trial, scores in found.items()
    }


def extreme_images(
    tables: RunTables,
    plugin: str,
    setting: Setting,
    *,
    metric: str,
    better: str,
    end: Literal["best", "worst"],
    n: int,
) -> list[Row]:
    """Return the best or worst images of a setting, the most extreme first."""
    falls = (better == "higher") == (end == "best")
    rows = tables.rows(
        f"SELECT {_COLUMNS}, s.value FROM images i JOIN scores s USING (trial_id) "
        "WHERE i.plugin = $plugin AND i.setting = $setting AND s.plugin = $plugin "
        "AND s.metric = $metric AND s.value IS NOT NULL "
        f"ORDER BY s.value {'DESC' if falls else 'ASC'}, i.case_id, i.seed LIMIT {int(n)}",
        {"plugin": plugin, "setting": setting.number, "metric": metric},
    )
    return rows


def _scenes(rows: Sequence[Row]) -> list[Scene]:
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["case_id"] or "", int(row["seed"] or 0)), []).append(row)
    return [
        Scene(case_id, seed, next((r["prompt"] for r in images if r["prompt"]), ""), images)
        for (case_id, seed), images in groups.items()
    ]


def _numbers(settings: Sequence[Setting]) -> list[int]:
    return [setting.number for setting in settings]
