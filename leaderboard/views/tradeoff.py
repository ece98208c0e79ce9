"""Trade-off: retention of a plugin's effect against gain in quality, per setting."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.store import Row
from leaderboard.data import Run
from leaderboard.escape import literal, one_line
from leaderboard.figures import front_of, tradeoff_rows
from leaderboard.figures.charts import tradeoff_chart
from leaderboard.figures.tradeoff import ENDS
from leaderboard.ui import Page, choose_plugin, heading, interval
from leaderboard.web import picture_address

_COLUMNS = {
    "label": "Setting",
    "retention_text": "Retention [95 %]",
    "gain_text": "Quality gain [95 %]",
    "seconds": st.column_config.NumberColumn("s/image", format="%.2f"),
    "on_front": st.column_config.CheckboxColumn("On the front"),
}


def show() -> None:
    """Draw the page."""
    heading(
        "What does quality cost?",
        "Each point is a setting: further right it keeps more of the plugin, further up it has "
        "more of the new model's quality. Numbers next to points are t0; the thick gray line "
        "joins the settings that no other setting beats in both.",
    )
    chosen = choose_plugin()
    if chosen is None:
        return
    run, tables, plugin = chosen
    rows = tradeoff_rows(tables, plugin)
    if not rows:
        st.info("This plugin has no setting with both retention and quality gain.")
        return
    for row in rows:
        _describe(run, row)
    alt = f"Retention against quality gain of {one_line(plugin)}: " + "; ".join(
        f"{row['label']} {row['retention_text']}, {row['gain_text']}" for row in rows
    )
    st.vega_lite_chart(tradeoff_chart(rows, front_of(rows)), alt=alt)
    st.caption(literal(_how_measured(rows[0])))
    frame = pd.DataFrame(rows)[list(_COLUMNS)]
    st.dataframe(
        frame,
        hide_index=True,
        placeholder="",
        column_config=_COLUMNS,
        alt="The settings as a table",
    )


def _describe(run: Run, row: Row) -> None:
    """Add texts and an example image for the chart and the table."""
    for name in ENDS:
        row[f"{name}_text"] = interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
    trial = row["trial_id"]
    row["image"] = (
        picture_address(run, "small", trial, version=row["image_sha256"]) if trial else None
    )


def _how_measured(row: Row) -> str:
    reference = {"oracle": "a plugin made for the new model", "upgraded": "the new model alone"}
    return (
        f"Retention by {row['function_metric']}: 0 is the new model without the plugin, 1 the old "
        f"model with it. Quality gain by {row['gain_metric']}: 0 is the old model, 1 is "
        f"{reference.get(row['gain_reference'] or '', 'the reference')}."
    )


PAGE = Page("Trade-off", "tradeoff", show, order=1)
