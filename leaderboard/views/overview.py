"""Overview: methods and adapters ranked by compatibility score."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st

from bench.store import records
from leaderboard.data import current_runs
from leaderboard.escape import literal, one_line
from leaderboard.figures import method_rows, open_standings, ranked
from leaderboard.figures.charts import score_chart
from leaderboard.figures.standings import as_csv, matching
from leaderboard.ui import Page, heading, interval, site_address
from leaderboard.ui.numbers import ends, known
from leaderboard.ui.page import NO_RUNS, show_problems
from leaderboard.ui.selection import choose_some

_FILTERS = {
    "run": "Run",
    "family": "Family",
    "kind": "Plugin kind",
    "condition": "Condition",
    "license": "License",
    "adapter": "Adapter version",
    "method": "Method",
}
_MAX_CHARTED = 60
_NUMBER = "%.2f"
_COLUMNS = {
    "link": st.column_config.LinkColumn("Details", display_text="open", width="small"),
    "rank": st.column_config.NumberColumn("Rank", width="small"),
    "ranks": st.column_config.TextColumn(
        "Rank interval", help="Ranks compatible with the intervals of the scores"
    ),
    "plugin": "Plugin",
    "method": "Method",
    "t0": st.column_config.NumberColumn("t0", format="%.2f", width="small"),
    "score": st.column_config.ProgressColumn(
        "Score", format=_NUMBER, min_value=0, max_value=1, color="primary"
    ),
    "scores": st.column_config.TextColumn("95 % interval"),
    "retention": st.column_config.NumberColumn("Retention", format=_NUMBER),
    "gain": st.column_config.NumberColumn("Quality gain", format=_NUMBER),
    "seconds": st.column_config.NumberColumn("s/image", format=_NUMBER),
    "n_plugins": st.column_config.NumberColumn("Plugins", width="small"),
    "n_unmeasured": "Not measured",
    "kind": "Kind",
    "condition": "Condition",
    "license": "License",
    "run": "Run",
    "adapter": "Adapter",
    "score_reason": "Why it has no score",
}


def show() -> None:
    """Draw the page."""
    heading(
        "Do plugins survive the upgrade?",
        "The compatibility score (0 to 1) measures how much of a plugin's effect and of the new "
        "model's quality a method keeps at the same time, over all t0.",
    )
    runs = current_runs()
    if not runs:
        st.info(NO_RUNS)
        return
    frames = []
    for run in runs.values():
        found, problems = open_standings(run)
        show_problems(f"{run.key}: {problem}" for problem in problems)
        frames.append(found)
    rows = pd.concat([f for f in frames if not f.empty] or frames[:1], ignore_index=True)
    if rows.empty:
        st.info("No run has a compatibility table. To make one: `xbench report RUN`.")
        return
    chosen = _filtered(rows)
    if chosen.empty:
        st.info("No plugin matches these filters.")
        return
    _chart(chosen)
    _tables(chosen)


def _filtered(rows: pd.DataFrame) -> pd.DataFrame:
    options_of = {column: sorted(set(rows[column])) for column in _FILTERS}
    several = {column: options for column, options in options_of.items() if len(options) > 1}
    wanted = {}
    with st.expander("Filters", icon=":material/filter_list:"):
        columns = st.columns(3)
        for i, (column, options) in enumerate(several.items()):
            with columns[i % 3]:
                wanted[column] = choose_some(_FILTERS[column], options, key=f"only_{column}")
        if not several:
            st.caption("Nothing to filter: all rows have the same values.")
    return matching(rows, wanted)


def _chart(rows: pd.DataFrame) -> None:
    """Draw the scores of the newest run among the rows, plugin by plugin."""
    newest = rows["run"].iloc[0]
    charted = rows.loc[(rows["run"] == newest) & rows["score"].notna()].head(_MAX_CHARTED)
    if charted.empty:
        return
    drawn = records(charted)
    for row in drawn:
        row["text"] = interval(row["score"], row["score_low"], row["score_high"])
    st.subheader(literal(f"Scores of {newest}"), anchor=False)
    alt = "; ".join(f"{row['plugin']} {row['method']} {row['text']}" for row in drawn)
    st.vega_lite_chart(score_chart(drawn), alt=one_line(f"Compatibility scores: {alt}"))


def _tables(rows: pd.DataFrame) -> None:
    st.subheader("Methods", anchor=False)
    methods = method_rows(rows)
    names = "rank ranks method score scores retention gain seconds n_plugins n_unmeasured"
    _table(methods, [*names.split(), "run", "adapter"], "Methods ranked by compatibility score")
    st.caption(
        "Means over plugins. An interval is the mean of the plugins' bounds, so it is never too "
        "narrow."
    )
    st.subheader("Plugins", anchor=False)
    plugins = ranked(rows)
    plugins["link"] = [
        site_address("plugin", run=run, plugin=plugin)
        for run, plugin in zip(plugins["run"], plugins["plugin"], strict=True)
    ]
    names = "link rank plugin method t0 score scores retention gain seconds kind condition license"
    reasons = ["score_reason"] if any(plugins["score"].isna()) else []
    columns = [*names.split(), "run", "adapter", *reasons]
    _table(plugins, columns, "Plugins ranked by compatibility score")
    _downloads(plugins.drop(columns="link"))


def _table(rows: pd.DataFrame, names: list[str], alt: str) -> None:
    frame = rows.copy()
    for name, low, high in (
        ("scores", "score_low", "score_high"),
        ("ranks", "rank_low", "rank_high"),
    ):
        bounds = zip(frame[low], frame[high], strict=True)
        frame[name] = [_ranks(a, b) if name == "ranks" else ends(a, b) for a, b in bounds]
    st.dataframe(frame[names], hide_index=True, placeholder="", column_config=_COLUMNS, alt=alt)


def _ranks(low: object, high: object) -> str:
    if not (known(low) and known(high)):
        return ""
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def _downloads(plugins: pd.DataFrame) -> None:
    parquet = io.BytesIO()
    plugins.to_parquet(parquet, index=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button("Download CSV", as_csv(plugins), "compatibility.csv")
        st.download_button("Download Parquet", parquet.getvalue(), "compatibility.parquet")
        st.caption(literal(f"{len(plugins)} rows"))


PAGE = Page("Overview", "overview", show, order=0)
