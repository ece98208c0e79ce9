"""t0: metrics over the share of the noise schedule that the new model denoises again."""

from __future__ import annotations

import streamlit as st

from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.escape import literal, one_line
from leaderboard.figures import setting_label
from leaderboard.figures.charts import curve_chart
from leaderboard.figures.curves import curve_rows, metrics_of, recommendations
from leaderboard.ui import Page, choose_plugin, heading, interval
from leaderboard.ui.numbers import number

_FIRST_METRICS = 4


def show() -> None:
    """Draw the page."""
    heading(
        "How much of the schedule should the new model denoise?",
        "t0 is the share of the noise schedule that the new model denoises again. Bands are 95 % "
        "intervals; methods without t0 are dashed; dotted vertical lines mark recommended t0.",
    )
    chosen = choose_plugin()
    if chosen is None:
        return
    _run, tables, plugin = chosen
    names = metrics_of(tables, plugin)
    if not names:
        st.info("This run has no summary of this plugin. To make it: `xbench report RUN`.")
        return
    chosen_metrics = st.multiselect(
        "Metrics",
        names,
        names[:_FIRST_METRICS],
        key="metrics",
        bind="query-params",
        format_func=one_line,
    )
    recommended = recommendations(tables, plugin)
    _show_recommended(recommended)
    for i in range(0, len(chosen_metrics), 2):  # narrow screens stack columns
        for column, metric in zip(st.columns(2), chosen_metrics[i : i + 2], strict=False):
            with column:
                _curve(tables, plugin, metric, recommended)


def _show_recommended(rows: list[Row]) -> None:
    best = next((row for row in rows if row["recommended"]), None)
    if best is None:
        st.info("No setting is recommended: none keeps enough of the plugin's effect.")
        return
    score = interval(best["score"], best["score_low"], best["score_high"])
    kept = interval(best["retention"], best["retention_low"], best["retention_high"])
    gained = interval(best["gain"], best["gain_low"], best["gain_high"])
    text = (
        f"Recommended: {setting_label(best)}, score {score}: keeps {kept} of the plugin and "
        f"reaches {gained} of the gain in quality (chosen on half of the prompts, measured on "
        "the other half)."
    )
    if (best["retention"] or 0) > 0 and (best["gain"] or 0) > 0:
        st.success(literal(text), icon=":material/recommend:")
    else:
        text += " The other half does not confirm the choice: take more prompts before using it."
        st.warning(literal(text), icon=":material/warning:")


def _curve(tables: RunTables, plugin: str, metric: str, recommended: list[Row]) -> None:
    rows = curve_rows(tables, plugin, metric)
    if not rows:
        st.info(literal(f"{metric}: no values"))
        return
    for row in rows:
        row["text"] = interval(row["value"], row["low"], row["high"])
    better = rows[0]["better"]
    st.subheader(literal(metric), anchor=False)
    st.caption(literal(f"{better} is better" if better else ""))
    alt = f"{metric} of {plugin} over t0: " + "; ".join(
        f"{row['label']} {number(row['value'])}" for row in rows
    )
    st.vega_lite_chart(
        curve_chart(rows, title=one_line(metric), recommended=recommended), alt=one_line(alt)
    )


PAGE = Page("t0", "t0", show, order=2)
