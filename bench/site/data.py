"""Data for scripts: results.json of a site, of a run and of a plugin, and the table as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from bench.site.runs import SitePlugin, SiteRun
from bench.store import Row
from bench.store.files import json_bytes
from plugins_manifest.outputs import csv_cell

_FORMAT = "xbench-results-1"


def site_results(runs: Sequence[SiteRun]) -> bytes:
    """Return the answers of all runs."""
    return json_bytes({"format": _FORMAT, "runs": [run_data(run) for run in runs]})


def run_results(run: SiteRun) -> bytes:
    """Return one run: its facts and answers, and the whole compatibility table."""
    return json_bytes({"format": _FORMAT, **run_data(run), "table": list(run.rows)})


def plugin_results(run: SiteRun, plugin: SitePlugin) -> bytes:
    """Return one plugin: its answer and all of its rows."""
    rows = [*plugin.settings, *plugin.methods]
    facts = {"run": run.key, "manifest": run.title, "run_id": run.facts.get("run_id")}
    data = {**facts, **plugin.answer.as_data(), "facts": dict(plugin.facts), "table": rows}
    return json_bytes({"format": _FORMAT, **data})


def run_data(run: SiteRun) -> dict[str, Any]:
    """Return the facts and answers of one run; of an unfinished one without answers."""
    return {
        "run": run.key,
        "manifest": run.title,
        "is_finished": run.is_finished,
        "sentence": run.sentence,
        "n_prompts": run.n_prompts,
        "n_seeds": run.n_seeds,
        "facts": dict(run.facts),
        "answers": [answer.as_data() for answer in run.answers],
    }


def results_csv(runs: Sequence[SiteRun]) -> str:
    """Return the compatibility tables of all runs as one CSV file."""
    rows: list[Row] = [{"run": run.key, **row} for run in runs for row in run.rows]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = list(rows[0]) if rows else ["run"]
    writer.writerow(header)
    writer.writerows(
        [csv_cell("" if row[name] is None else row[name]) for name in header] for row in rows
    )
    return buffer.getvalue()
