"""Runs as the static site shows them, read from their untrusted tables.

Plugins, words and cards are those of `bench.site`; prompts and images are read when a page shows
them, the typical prompts of several plugins in one query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.analysis import Arm, arm_order
from bench.analysis.summary import arm_of
from bench.errors import UserError
from bench.publish.select import is_finished
from bench.render import audits_of
from bench.site import SitePlugin, SiteRun
from bench.site.examples import Example, Pair, Scores, Shot, base_of
from bench.site.runs import site_plugins
from bench.store import Row
from bench.store.files import decode_image
from bench.store.recent import RecentItems
from bench.store.status import n_to_make
from leaderboard.data import Run, RunTables, open_tables
from leaderboard.data.catalog import text_of
from leaderboard.data.isolation import isolated
from leaderboard.data.run_files import RunFiles
from leaderboard.escape import one_line
from leaderboard.figures.verdicts import compatibility_of

_FACTS = ("command", "manifest", "finished", "created", "run_id", "family", "status")
_KNOBS = ("method", "t0", "plugin_scale", "adapter_scale", "adapter")
_MAX_PIXELS = 4096 * 4096
_MAX_PAIRS = 20_000  # of one plugin: more prompts are not compared with each other
_IMAGE = (
    "i.trial_id, i.case_id, i.seed, i.method, i.t0, i.plugin_scale, i.adapter_scale, "
    "i.adapter, i.base_prompt AS prompt, i.condition_path, i.image, i.image_sha256, i.status, "
    "i.error"
)
_WANTED = (
    "(?::VARCHAR, ?::VARCHAR, ?::DOUBLE, ?::VARCHAR, ?::DOUBLE, ?::DOUBLE, ?::DOUBLE, ?::VARCHAR, "
    "?::DOUBLE)"
)
# the middle of each plugin's order by `bench.site.examples.worst_first`
_TYPICAL = """
WITH w(plugin, metric, sign, method, t0, plugin_scale, adapter_scale, adapter, base_scale) AS (
  VALUES {wanted}),
v AS (
  SELECT w.plugin, w.sign, i.case_id, coalesce(i.seed, 0) AS seed, s.value,
    i.method IS NOT DISTINCT FROM w.method AND i.t0 IS NOT DISTINCT FROM w.t0
      AND i.plugin_scale IS NOT DISTINCT FROM w.plugin_scale
      AND i.adapter_scale IS NOT DISTINCT FROM w.adapter_scale
      AND i.adapter IS NOT DISTINCT FROM w.adapter AS own,
    i.method = 'base' AND i.plugin_scale IS NOT DISTINCT FROM w.base_scale AS base
  FROM w JOIN scores s ON s.plugin = w.plugin AND s.metric = w.metric
  JOIN images i USING (trial_id)
  WHERE s.level = 'image' AND isfinite(s.value) AND i.case_id IS NOT NULL),
g AS (
  SELECT plugin, case_id, seed, any_value(sign) * (max(value) FILTER (WHERE own)
    - coalesce(max(value) FILTER (WHERE base), 0)) AS gain
  FROM v GROUP BY plugin, case_id, seed HAVING count(*) FILTER (WHERE own) > 0)
SELECT plugin, case_id, seed FROM g
QUALIFY row_number() OVER (PARTITION BY plugin ORDER BY gain, case_id, seed) - 1
  = count(*) OVER (PARTITION BY plugin) // 2
"""
_RUNS = RecentItems[tuple[str, int], SiteRun](64)  # by folder and stamp


def open_site_run(run: Run) -> SiteRun:
    """Return a run with its judged plugins; cached while the run is unchanged.

    A run that is not finished has no plugins, so it ranks nowhere.
    """
    place = (str(run.folder), run.stamp)
    known = _RUNS.find(place)
    if known is not None:
        return known
    tables = open_tables(run)
    empty = partial(_site_run, run, rows=(), plugins=(), counts={})
    found = isolated(lambda: _read(run, tables), lambda _: empty(), run=run.key)
    return _RUNS.add(place, found) if tuple(tables.problems) == run.problems else found


def read_typical(plugins: Sequence[SitePlugin]) -> None:
    """Read the typical prompts of plugins of one run in one query, before they are shown."""
    scenes = plugins[0].scenes if plugins else None
    if isinstance(scenes, TableScenes):
        scenes.prefetch([plugin.shown for plugin in plugins])


def _read(run: Run, tables: RunTables) -> SiteRun:
    counts = tables.rows(
        "SELECT count(*) AS n_trials, count(status) AS n_done, count(DISTINCT seed) AS n_seeds "
        "FROM images"
    )[0]
    if not is_finished(run.facts):
        return _site_run(run, rows=(), plugins=(), counts=counts)
    rows = compatibility_of(tables)
    scenes = TableScenes(run, {row["plugin"]: row["kind"] for row in rows})
    plugins = site_plugins(rows, run.manifest, scenes, partial(_audit, run))
    return _site_run(run, rows=rows, plugins=plugins, counts=counts)


def _site_run(
    run: Run, *, rows: Sequence[Row], plugins: Sequence[SitePlugin], counts: Mapping[str, Any]
) -> SiteRun:
    facts = {name: text for name in _FACTS if (text := text_of(run.facts.get(name)))}
    return SiteRun(
        key=run.key,
        title=one_line(text_of(run.manifest.get("name")) or run.key),
        facts=facts,
        is_finished=is_finished(run.facts),
        n_done=counts.get("n_done", 0),
        n_trials=n_to_make(run.facts, counts.get("n_trials", 0)),
        n_prompts=max((row["n_prompts"] or 0 for row in rows), default=0),
        n_seeds=counts.get("n_seeds", 0),
        rows=rows,
        plugins=plugins,
    )


def _audit(run: Run, plugin: str) -> str | None:
    """Return a plugin's load audit in one line; None without one."""
    rows = open_tables(run).rows("SELECT * FROM audit WHERE plugin = ?", [plugin])
    found = isolated(lambda: audits_of(rows).get(plugin), lambda _: None, run=run.key)
    return None if found is None else isolated(found.summary, lambda _: None, run=run.key)


class TableScenes:
    """The prompts of a run's plugins in its tables, which are opened when they are read.

    A run that is kept does not keep its tables open.
    """

    def __init__(self, run: Run, kinds: Mapping[str, str]) -> None:
        """`kinds` are those of the plugins by id."""
        self._run, self._kinds = run, kinds
        self._typical: dict[str, Example | None] = {}

    @property
    def _tables(self) -> RunTables:
        return open_tables(self._run)

    def pairs(self, plugin: str) -> list[Pair]:
        """Return a plugin's first prompts and seeds, sorted."""
        rows = self._tables.rows(
            "SELECT DISTINCT case_id, seed FROM images WHERE plugin = ? AND case_id IS NOT NULL "
            "ORDER BY case_id, seed LIMIT 3",
            [plugin],
        )
        return [(row["case_id"], int(row["seed"] or 0)) for row in rows]

    def scores(self, plugin: str, metric: str) -> Scores:
        """Return a metric by prompt and seed, then by setting."""
        rows = self._tables.rows(
            "SELECT i.case_id, coalesce(i.seed, 0) AS seed, i.method, i.t0, i.plugin_scale, "
            "i.adapter_scale, i.adapter, s.value FROM scores s JOIN images i USING (trial_id) "
            "WHERE s.level = 'image' AND s.plugin = $plugin AND s.metric = $metric "
            f"AND isfinite(s.value) AND i.case_id IS NOT NULL LIMIT {30 * _MAX_PAIRS}",
            {"plugin": plugin, "metric": metric},
        )
        found: dict[Pair, dict[Arm, float]] = {}
        arms: dict[tuple[Any, ...], Arm] = {}
        for row in rows:
            knobs = tuple(row[name] for name in _KNOBS)
            arm = arms.setdefault(knobs, self._arm(plugin, row))
            found.setdefault((row["case_id"], row["seed"]), {})[arm] = row["value"]
        return found

    def examples(
        self, plugin: str, metric: str | None, chosen: Mapping[Pair, tuple[str, ...]]
    ) -> list[Example]:
        """Return examples of some prompts and seeds, in their order."""
        wanted = [(plugin, metric, pair, titles) for pair, titles in chosen.items()]
        return [example for example in self._examples(wanted) if example is not None]

    def typical(self, shown: Row) -> Example | None:
        """Return the first of a plugin's examples; None if it has no images."""
        if shown["plugin"] not in self._typical:
            self.prefetch([shown])
        return self._typical[shown["plugin"]]

    def prefetch(self, shown: Sequence[Row]) -> None:
        """Read the typical prompts of the plugins of these rows that are not read yet."""
        rows = [row for row in shown if row["plugin"] not in self._typical]
        if not rows:
            return
        pairs = self._typical_pairs([row for row in rows if row["function_metric"]])
        wanted = []
        for row in rows:
            plugin, metric = row["plugin"], row["function_metric"]
            if plugin in pairs:
                wanted.append((plugin, metric, pairs[plugin], ("Typical prompt",)))
            elif first := self.pairs(plugin)[:1]:
                wanted.append((plugin, metric, first[0], ("Prompt 1",)))
        found = self._examples(wanted)
        self._typical |= dict.fromkeys(row["plugin"] for row in rows)
        self._typical |= {entry[0]: example for entry, example in zip(wanted, found, strict=True)}

    def _typical_pairs(self, shown: Sequence[Row]) -> dict[str, Pair]:
        """Return the middle of each plugin's order by `bench.site.examples.worst_first`."""
        bases = self._bases([row["plugin"] for row in shown])
        values: list[Any] = []
        for row in shown:
            base = base_of(bases.get(row["plugin"], ()), arm_of(row))
            scale = None if base is None else base.plugin_scale
            sign = -1.0 if row["function_better"] == "lower" else 1.0
            values += [
                row["plugin"],
                row["function_metric"],
                sign,
                *(row[k] for k in _KNOBS),
                scale,
            ]
        if not values:
            return {}
        wanted = ", ".join([_WANTED] * len(shown))
        sql = _TYPICAL.format(wanted=wanted)
        rows = self._tables.rows(sql, values)
        return {row["plugin"]: (row["case_id"], int(row["seed"])) for row in rows}

    def _bases(self, plugins: Sequence[str]) -> dict[str, list[Arm]]:
        rows = self._tables.rows(
            "SELECT DISTINCT plugin, method, t0, plugin_scale, adapter_scale, adapter FROM trials "
            "WHERE method = 'base' AND list_contains($plugins, plugin)",
            {"plugins": list(plugins)},
        )
        found: dict[str, list[Arm]] = {}
        for row in rows:
            found.setdefault(row["plugin"], []).append(self._arm(row["plugin"], row))
        return found

    def _examples(
        self, wanted: Sequence[tuple[str, str | None, Pair, tuple[str, ...]]]
    ) -> list[Example | None]:
        """Return an example for each plugin, metric and prompt; None where there is no image."""
        if not wanted:
            return []
        images = self._images([(plugin, pair) for plugin, _, pair, _ in wanted])
        trials = sorted({row["trial_id"] for rows in images.values() for row in rows})
        metrics = sorted({metric for _, metric, _, _ in wanted if metric})
        scored = self._tables.rows(
            "SELECT plugin, trial_id, metric, value FROM scores WHERE level = 'image' AND "
            "list_contains($metrics, metric) AND list_contains($trials, trial_id) AND "
            "isfinite(value)",
            {"metrics": metrics, "trials": trials},
        )
        values = {(row["plugin"], row["trial_id"], row["metric"]): row["value"] for row in scored}
        return [
            self._example(plugin, titles, images[(plugin, pair)], values, m)
            if images.get((plugin, pair))
            else None
            for plugin, m, pair, titles in wanted
        ]

    def _images(self, wanted: Sequence[tuple[str, Pair]]) -> dict[tuple[str, Pair], list[Row]]:
        """Return the images of plugins' prompts, with those of their references.

        References are without any plugin: those of the same prompt, steps, guidance and sampler.
        """
        rows = self._tables.rows(
            f"SELECT {_IMAGE}, coalesce(i.plugin, '') AS plugin, coalesce(i.settings, '') AS knobs "
            "FROM images i WHERE list_contains($cases, i.case_id) AND "
            "(i.plugin = '' OR list_contains($plugins, i.plugin)) ORDER BY i.trial_id",
            {
                "plugins": sorted({plugin for plugin, _ in wanted}),
                "cases": sorted({case for _, (case, _) in wanted}),
            },
        )
        by_pair: dict[tuple[str, Pair], list[Row]] = {}
        for row in rows:
            pair = (row["case_id"], int(row["seed"] or 0))
            by_pair.setdefault((row["plugin"], pair), []).append(row)
        found = {}
        for plugin, pair in wanted:
            own = by_pair.get((plugin, pair), [])
            knobs = {row["knobs"] for row in own}
            shared = [row for row in by_pair.get(("", pair), []) if row["knobs"] in knobs]
            found[(plugin, pair)] = [*own, *shared] if plugin else own
        return found

    def _example(
        self,
        plugin: str,
        titles: tuple[str, ...],
        rows: Sequence[Row],
        values: Mapping[tuple[str, str, str], float],
        metric: str | None,
    ) -> Example:
        files = self._run.files
        by_arm = {self._arm(plugin, row): row for row in rows}
        shots = tuple(
            Shot(
                arm=arm,
                run=self._run.key,
                trial_id=row["trial_id"],
                load=_loader(files, row["image"]),
                missing=_why_missing(row),
                score=values.get((plugin, row["trial_id"], metric or "")),
                version=row["image_sha256"],
            )
            for arm, row in sorted(by_arm.items(), key=lambda item: arm_order(item[0]))
        )
        condition = next((row["condition_path"] for row in rows if row["condition_path"]), None)
        load = _loader(files, condition) if condition else None
        # prompts of the plugin's images have its trigger words, those of its references have not
        prompt = min((row["prompt"] for row in rows if row["prompt"]), key=len, default="")
        return Example(titles, prompt, int(rows[0]["seed"] or 0), load, shots)

    def _arm(self, plugin: str, row: Row) -> Arm:
        method = row["method"] or ""
        knobs = (row["t0"], row["plugin_scale"], row["adapter_scale"], row["adapter"])
        return Arm(plugin, self._kinds.get(plugin, ""), method, *knobs)


def _loader(files: RunFiles, name: str | None) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        content = files.read(name) if name else None
        if content is None:
            raise UserError("the picture cannot be read")
        return decode_image(content, name="picture", max_pixels=_MAX_PIXELS)

    return load


def _why_missing(row: Row) -> str | None:
    if row["status"] == "ok":
        return None
    return one_line(f"{row['status']}: {row['error'] or ''}" if row["status"] else "not rendered")
