"""t0: what is kept, and metrics, over how much the new model redraws."""

from __future__ import annotations

from functools import partial

import streamlit as st

from bench.analysis.glossary import meaning_of, meanings_of, metric_meaning, metric_name
from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.escape import literal, one_line
from leaderboard.figures.charts import curve_chart
from leaderboard.figures.curves import curve_rows, metrics_of
from leaderboard.figures.tradeoff import why_no_tradeoff
from leaderboard.figures.verdicts import (
    compatibility_of,
    has_judged_look,
    is_judged,
    retention_rows,
)
from leaderboard.ui import Page, choose_plugin, heading, interval
from leaderboard.ui.named import choose_some_named
from leaderboard.ui.numbers import number
from leaderboard.views.answers import show_answer, show_settings

_FIRST_METRICS = 3


def show() -> None:
    """Draw the page."""
    heading(
        "How much should the new model redraw?",
        "t0 is how much the new model redraws: the share of the noise schedule that it denoises "
        "again. Bands are 95 % intervals; methods without t0 are dashed; dotted vertical lines "
        "mark each method's t0 to use.",
    )
    chosen = choose_plugin()
    if chosen is None:
        return
    _run, tables, plugin = chosen
    rows = compatibility_of(tables, plugin)
    show_answer(tables, rows)
    show_settings(rows)
    if is_judged(rows) and not any(has_judged_look(row) for row in rows):
        st.caption(literal(why_no_tradeoff(rows)))
    to_use = [row for row in rows if row["level"] == "method" and row["verdict"] is not None]
    curves = [partial(_retention, plugin, rows, to_use)]
    curves += [partial(_curve, tables, plugin, name, to_use) for name in _metrics(tables, plugin)]
    for i in range(0, len(curves), 2):  # narrow screens stack columns
        for column, draw in zip(st.columns(2), curves[i : i + 2], strict=False):
            with column:
                draw()


def _metrics(tables: RunTables, plugin: str) -> list[str]:
    """Let the reader choose metrics of a plugin's summary."""
    names = metrics_of(tables, plugin)
    if not names:
        st.info("This run has no summary of this plugin. To make it: `xbench report RUN`.")
        return []
    return choose_some_named(
        "Metrics",
        {name: metric_name(name) for name in names},
        key="metrics",
        default=names[:_FIRST_METRICS],
        explanation=meanings_of(["Function", "Distance of the look"]),
    )


def _retention(plugin: str, rows: list[Row], to_use: list[Row]) -> None:
    drawn = retention_rows(rows)
    st.subheader("Share of the effect kept", anchor=False, help=meaning_of("Keeps"))
    if not drawn:
        reasons = [row["reason"] for row in rows if row["reason"]]
        why = reasons[0] if reasons else "not in the tables"
        st.info(literal(f"The share kept is not known: {why}."))
        return
    st.caption("100 % as on the base model, 0 % as without the plugin")
    for row in drawn:
        row["text"] = ", ".join(part for part in (row["share"], row["verdict"]) if part)
    alt = f"Share of the effect of {plugin} that is kept, over t0: " + "; ".join(
        f"{row['label']} {row['text']}" for row in drawn
    )
    chart = curve_chart(drawn, title="share kept", recommended=to_use, is_share=True)
    st.vega_lite_chart(chart, alt=one_line(alt))


def _curve(tables: RunTables, plugin: str, metric: str, recommended: list[Row]) -> None:
    rows = curve_rows(tables, plugin, metric)
    if not rows:
        st.info(literal(f"{metric_name(metric)}: no values"))
        return
    for row in rows:
        row["text"] = interval(row["value"], row["low"], row["high"])
    better = rows[0]["better"]
    name = metric_name(metric)
    st.subheader(literal(name), anchor=False, help=literal(metric_meaning(metric)))
    st.caption(literal(f"{better} is better" if better else ""))
    alt = f"{name} of {plugin} over t0: " + "; ".join(
        f"{row['label']} {number(row['value'])}" for row in rows
    )
    st.vega_lite_chart(
        curve_chart(rows, title=one_line(name), recommended=recommended), alt=one_line(alt)
    )


PAGE = Page("t0", "t0", show, order=12, is_listed=False)
