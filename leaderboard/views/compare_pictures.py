"""The pictures of compared runs: those that lost most, and each prompt side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from bench.analysis.glossary import method_name
from bench.publish.select import is_finished
from bench.site.rendering import part
from bench.store import Row
from leaderboard.data import Run, open_tables, plugins_of
from leaderboard.escape import literal, one_line
from leaderboard.figures.arms import setting_id
from leaderboard.figures.differences import Comparison, Line
from leaderboard.figures.pairs import worst_pairs
from leaderboard.figures.side_by_side import PromptRow, prompt_rows, settings_of_plugin
from leaderboard.ui.fragments import show_fragment
from leaderboard.ui.numbers import number
from leaderboard.ui.selection import choose_one, choose_page
from leaderboard.web import picture_address
from leaderboard.web.pictures import SMALL_PX, What

_N_WORST = 8
_PROMPTS_PER_PAGE = 6
View = dict[str, Any]


def show_losses(baseline: Run, candidates: Sequence[Run], comparison: Comparison) -> None:
    """Write the images that lost most against the baseline's, over all compared runs."""
    st.subheader("Images that lost most", anchor=False)
    runs = {run.key: run for run in candidates if run.key in comparison.compared}
    found = [
        row
        for run in runs.values()
        for row in worst_pairs(baseline, run, comparison.choice, n=_N_WORST)
    ]
    worst = sorted(found, key=lambda row: row["difference"])[:_N_WORST]
    if not worst:
        st.info("No image got worse.")
        return
    losses = [_loss(row, baseline, runs[row["run"]]) for row in worst]
    show_fragment(part("comparison_losses", losses=losses))


def show_pictures(
    baseline: Run, candidates: Sequence[Run], comparison: Comparison, lines: Sequence[Line]
) -> None:
    """Write a row of pictures for each prompt of a plugin: the baseline's and those of all runs."""
    first = list(dict.fromkeys(str(line[0] or "") for line in lines))
    plugins = first + [name for name in plugins_of(open_tables(baseline)) if name not in first]
    st.subheader("Side by side", anchor=False)
    if not plugins:
        st.info("The baseline has no plugins.")
        return
    left, right = st.columns(2)
    with left:
        plugin = choose_one("Plugin", sorted(plugins), key="pictured", default=plugins[0])
    settings = settings_of_plugin(baseline, candidates, plugin, comparison.choice.method)
    if not settings:
        st.info("The baseline has no images of this plugin with this method.")
        return
    with right:
        title = f"Setting of {method_name(comparison.choice.method)}"
        setting = choose_one(one_line(title), list(settings), key="pictured_setting")
    rows = prompt_rows(baseline, candidates, comparison, plugin, settings[setting])
    page = choose_page(len(rows), per_page=_PROMPTS_PER_PAGE, key="prompts_page")
    visible = rows[page * _PROMPTS_PER_PAGE : (page + 1) * _PROMPTS_PER_PAGE]
    runs = (baseline, *candidates)
    strip = {
        "runs": [{"name": run.key, "detail": _detail(run, baseline)} for run in runs],
        "with_condition": any(_condition(row, runs) for row in visible),
        "rows": [_strip_row(row, runs) for row in visible],
    }
    show_fragment(part("comparison_pictures", strip=strip))
    st.caption(literal("The largest loss comes first. A number is the picture's own score."))


def _loss(row: Row, baseline: Run, run: Run) -> View:
    condition = _picture(run, "condition", row["trial_new"]) if row["has_condition"] else None
    return {
        "name": f"{row['plugin']}, {method_name(row['method'])} {_knobs(row)}".strip(),
        "metric": row["metric"],
        "change": number(row["difference"], signed=True),
        "prompt": row["prompt"] or "",
        "condition": condition,
        "old": _shot(baseline, row["trial_old"], row["value_old"]),
        "new": _shot(run, row["trial_new"], row["value_new"]),
    }


def _knobs(row: Row) -> str:
    return setting_id({**row, "method": ""}).strip()


def _strip_row(row: PromptRow, runs: Sequence[Run]) -> View:
    cells = []
    for run in runs:
        image = row.images.get(run.key)
        cells.append(None if image is None else _cell(run, image, row.scores.get(run.key)))
    return {
        "prompt": row.prompt,
        "seed": row.seed,
        "change": "" if row.difference is None else number(row.difference, signed=True),
        "condition": _condition(row, runs),
        "cells": cells,
    }


def _cell(run: Run, image: Row, score: float | None) -> View:
    if image["status"] != "ok":
        why = f"{image['status']}: {image['error'] or ''}" if image["status"] else "not rendered"
        return {"src": None, "missing": one_line(why)}
    return _shot(run, image["trial_id"], score, version=image["image_sha256"])


def _shot(run: Run, trial: str, score: float | None, *, version: str | None = None) -> View:
    return {
        **_picture(run, "small", trial, version=version),
        "full": picture_address(run, "full", trial, version=version),
        "title": run.key,
        "run": run.key,
        "trial": trial,
        "score": "" if score is None else number(score),
    }


def _condition(row: PromptRow, runs: Sequence[Run]) -> View | None:
    for run in runs:
        image = row.images.get(run.key)
        if image is not None and image["condition_path"]:
            return _picture(run, "condition", image["trial_id"])
    return None


def _picture(run: Run, what: What, trial: str, *, version: str | None = None) -> View:
    address = picture_address(run, what, trial, version=version)
    return {"src": address, "full": address, "width": SMALL_PX, "height": SMALL_PX}


def _detail(run: Run, baseline: Run) -> str:
    words = ["baseline"] if run.key == baseline.key else []
    return ", ".join([*words, *([] if is_finished(run.facts) else ["unfinished"])])
