"""Trade-off: the share of a plugin's effect kept against what the images look like."""

from __future__ import annotations

import streamlit as st

from bench.analysis.glossary import meanings_of, metric_name
from bench.store import Row
from leaderboard.data import Run
from leaderboard.escape import literal, one_line
from leaderboard.figures import tradeoff_rows
from leaderboard.figures.charts import tradeoff_chart
from leaderboard.figures.tradeoff import why_no_tradeoff
from leaderboard.figures.verdicts import compatibility_of
from leaderboard.ui import Page, choose_plugin, heading
from leaderboard.views.answers import described, interval_of, show_answer, show_settings
from leaderboard.web import picture_address


def show() -> None:
    """Draw the page."""
    heading(
        "What does quality cost?",
        "Each point is a setting: further right it keeps more of the plugin, further down its "
        "images are nearer to what they should look like. Numbers next to points are t0 (how much "
        "the new model redraws), with * for the setting to use and = for those that are not told "
        "from the best.",
    )
    chosen = choose_plugin()
    if chosen is None:
        return
    run, tables, plugin = chosen
    rows = compatibility_of(tables, plugin)
    show_answer(tables, rows)
    points = [_described(run, row) for row in tradeoff_rows(tables, plugin)]
    if not points:
        st.info(literal(why_no_tradeoff(rows)))
    else:
        st.subheader(
            "Share kept against the look of the images",
            anchor=False,
            help=meanings_of(["Setting", "Keeps", "Distance of the look"]),
        )
        alt = f"Share kept against the distance of the look of {plugin}: " + "; ".join(
            f"{row['label']} {row['retention_text']}, {row['quality_text']}" for row in points
        )
        metric = one_line(metric_name(points[0]["quality_metric"] or ""))
        chart = tradeoff_chart(points, title=metric)
        st.vega_lite_chart(chart, alt=one_line(alt))
        st.caption(literal(_how_measured(points[0])))
    show_settings(rows)


def _described(run: Run, row: Row) -> Row:
    """Add texts and an example image for the chart."""
    trial = row["trial_id"]
    image = picture_address(run, "small", trial, version=row["image_sha256"]) if trial else None
    return {**described(row), "quality_text": interval_of(row, "quality"), "image": image}


def _how_measured(row: Row) -> str:
    target = {
        "segment": "whatever lies between the new model's own images and those of a plugin made "
        "for it",
        "floor": "the new model's own images without the plugin",
    }
    return (
        f"The share kept is by {_with_id(row['function_metric'])}: 0 % is the new model without "
        f"the plugin, 100 % the base model with it. The distance is by "
        f"{_with_id(row['quality_metric'])}, to "
        f"{target.get(row['quality_reference'] or '', 'the reference')}; it is estimated without "
        "bias, so values near 0 may be below 0."
    )


def _with_id(metric: str | None) -> str:
    name = metric_name(metric or "")
    return f"“{name}”" if name == metric else f"“{name}” ({metric})"


PAGE = Page("Trade-off", "tradeoff", show, order=11, is_listed=False)
