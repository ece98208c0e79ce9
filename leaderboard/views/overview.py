"""The first page: which plugins of a run keep working; below, all runs in order."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.analysis.glossary import kind_name
from bench.analysis.words import look, method_name, share, verdict_of
from bench.registry import line_of
from bench.store import Row, records
from leaderboard.data import Run, current_runs
from leaderboard.escape import literal, one_line
from leaderboard.figures import method_rows, open_standings
from leaderboard.figures.charts import retention_chart
from leaderboard.figures.standings import (
    as_csv,
    by_family,
    common_plugins,
    matching,
    with_ranks,
)
from leaderboard.figures.verdicts import EARLIER
from leaderboard.ui import Page, page_title, site_address
from leaderboard.ui.named import choose_some_named
from leaderboard.ui.numbers import ends, known
from leaderboard.ui.page import show_problems
from leaderboard.views.answers import HOW_SORTED, meanings
from leaderboard.views.first_page import show_first_page

_FILTERS = {
    "run": "Run",
    "family": "Family",
    "plugin": "Plugin",
    "kind": "Plugin kind",
    "condition": "Condition",
    "license": "License",
    "adapter": "Adapter version",
    "method": "Method",
}
_NAMES_OF = {"method": method_name, "kind": kind_name}
HOW_RANKED = (
    "Kept: mean over plugins and t0 of the share kept, each limited to 0 to 1. Ranks are within a "
    "family: an easier upgrade is not a better method."
)
_MAX_CHARTED, _MAX_LISTED, _MAX_AT_ONCE = 60, 25, 1000
_NUMBER = "%.2f"
_SORT_NUMBER = st.column_config.NumberColumn("For sorting", format=_NUMBER, help=HOW_SORTED)
_PLUGIN_TABLE = {
    "link": st.column_config.LinkColumn("Details", display_text="open", width="small"),
    "plugin": "Plugin",
    "method": "Method",
    "t0": st.column_config.NumberColumn("t0", format=_NUMBER, width="small"),
    "verdict_text": "Verdict",
    "retention_text": st.column_config.TextColumn(
        "Keeps [95 %]", help="100 %: as on the old model, 0: as without the plugin"
    ),
    "look": st.column_config.TextColumn("Images", width="medium"),
    "recommended": st.column_config.CheckboxColumn("Use it", width="small"),
    "seconds": st.column_config.NumberColumn("s/image", format=_NUMBER),
    "sort_value": _SORT_NUMBER,
    "kind": "Kind",
    "condition": "Condition",
    "license": "License",
    "run": "Run",
    "adapter": "Adapter",
    "note": "Note",
}
_METHOD_TABLE = {
    "rank": st.column_config.NumberColumn("Rank", width="small"),
    "ranks": st.column_config.TextColumn(
        "Rank interval", help="Ranks compatible with the intervals of the shares kept"
    ),
    "method": "Method",
    "verdicts": "Verdicts",
    "kept": st.column_config.NumberColumn("Kept", format=_NUMBER, help=HOW_RANKED),
    "kept_ends": st.column_config.TextColumn("95 % interval"),
    "seconds": st.column_config.NumberColumn("s/image", format=_NUMBER),
    "n_plugins": st.column_config.NumberColumn("Plugins", width="small"),
    "run": "Run",
    "adapter": "Adapter",
    "rank_reason": "Why it has no rank",
}


def show() -> None:
    """Draw the page."""
    page_title("Do plugins survive the upgrade?")
    shown = show_first_page()
    # runs in progress rank nowhere; those that cannot be read are named
    listed = {k: run for k, run in current_runs().items() if run.is_finished or not run.facts}
    if shown is not None and listed:
        _all_runs(listed, shown)


def _all_runs(runs: Mapping[str, Run], shown: str) -> None:
    st.subheader("All numbers, of all runs", anchor=False)
    frames = []
    for run in runs.values():
        found, problems = open_standings(run)
        if run.key != shown:
            show_problems(f"{run.key}: {problem}" for problem in problems)
        frames.append(found)
    rows = pd.concat([f for f in frames if not f.empty] or frames[:1], ignore_index=True)
    if rows.empty:
        st.info("No run has a compatibility table. To make one: `xbench report RUN`.")
        return
    if len(rows) > _MAX_AT_ONCE and not _is_requested(len(rows)):
        return
    chosen = _filtered(rows)
    if chosen.empty:
        st.info("No plugin matches these filters.")
        return
    _earlier(chosen)
    _chart(chosen, shown)
    _methods(chosen)
    _plugins(chosen)


def _is_requested(n_rows: int) -> bool:
    """Return whether to make and send a long table: chosen, or by a link with filters."""
    is_filtered = any(name.startswith("only_") for name in st.query_params)
    return st.toggle(f"Show {n_rows:,} rows", is_filtered, key="numbers", bind="query-params")


def _filtered(rows: pd.DataFrame) -> pd.DataFrame:
    options_of = {column: sorted(set(rows[column])) for column in _FILTERS}
    several = {column: options for column, options in options_of.items() if len(options) > 1}
    wanted = {}
    with st.expander("Filters", icon=":material/filter_list:"):
        columns = st.columns(3)
        for i, (column, options) in enumerate(several.items()):
            with columns[i % 3]:
                name = _NAMES_OF.get(column, str)
                names = {option: name(option) for option in options}
                chosen = choose_some_named(_FILTERS[column], names, key=f"only_{column}")
                wanted[column] = chosen or options
        if not several:
            st.caption("Nothing to filter: all rows have the same values.")
    return matching(rows, wanted)


def _earlier(rows: pd.DataFrame) -> None:
    """Name the runs whose tables have no verdicts."""
    earlier = list(dict.fromkeys(rows.loc[rows["note"] == EARLIER, "run"]))
    if earlier:
        st.info(f"{literal(_names(earlier))}: {EARLIER}.", icon=":material/history:")


def _chart(rows: pd.DataFrame, shown: str) -> None:
    """Draw the retention of the page's run, or else the newest among the rows, by plugin."""
    run = shown if shown in set(rows["run"]) else rows["run"].iloc[0]
    charted = rows.loc[(rows["run"] == run) & rows["retention"].notna()].head(_MAX_CHARTED)
    if charted.empty:
        return
    drawn = records(charted)
    adapters = {(row["method"], row["adapter"]) for row in drawn}
    several = {m for m, n in Counter(method for method, _ in adapters).items() if n > 1}
    for row in drawn:
        if row["method"] in several:
            row["method"] = line_of(row["method"], row["adapter"])
        row["text"], row["verdict"] = share(row), verdict_of(row)
    st.subheader(literal(f"Share kept in {run}"), anchor=False)
    st.caption("100 %: as on the old model; 0: as without the plugin; lines are 95 % intervals")
    alt = "; ".join(f"{row['plugin']} {method_name(row['method'])} {share(row)}" for row in drawn)
    st.vega_lite_chart(retention_chart(drawn), alt=one_line(f"Share kept: {alt}"))


def _methods(rows: pd.DataFrame) -> None:
    st.subheader("Methods", anchor=False)
    families = by_family(rows)
    for own in families:
        if len(families) > 1:
            st.markdown(f"**{literal(own['family'].iloc[0] or 'Unknown family')}**")
        _methods_of_family(own)
    st.caption(HOW_RANKED)


def _methods_of_family(rows: pd.DataFrame) -> None:
    methods = method_rows(rows)
    frame = methods.copy()
    frame["method"] = [method_name(name) for name in frame["method"]]
    bounds = zip(frame["kept_low"], frame["kept_high"], strict=True)
    frame["kept_ends"] = [ends(*pair) if known(pair[0]) else "" for pair in bounds]
    bounds = zip(frame["rank_low"], frame["rank_high"], strict=True)
    frame["ranks"] = [_ranks(low, high) for low, high in bounds]
    _table(frame, _METHOD_TABLE, "Methods by the share of the plugins' effects that they keep")
    st.caption(literal(_how_ranked(rows, methods)))


def _how_ranked(rows: pd.DataFrame, methods: pd.DataFrame) -> str:
    common = common_plugins(rows)
    if not len(rows["kept"].dropna()):
        return "No method has a rank: no row has a share kept."
    if not common:
        return (
            "No method has a rank: the rows have no plugin in common. Choose runs with the same "
            "plugins, or plugins that all runs have, under Filters."
        )
    text = f"Ranked by the mean over the plugins that all ranked rows have: {_names(common)}."
    if not len(methods["rank_low"].dropna()):
        text += " Intervals exist from 12 prompts on: without them the order is not a finding."
    return text


def _plugins(rows: pd.DataFrame) -> None:
    st.subheader("Plugins", anchor=False)
    listed = records(rows)
    for row in listed:
        row["link"] = site_address("plugin", run=row["run"], plugin=row["plugin"])
        row["verdict_text"], row["look"] = one_line(_verdict_text(row)), look(row)
        row["retention_text"] = share(row)
        row["method"] = method_name(row["method"])
    alt = "Plugins, those that lose most first"
    _table(pd.DataFrame(listed), _PLUGIN_TABLE, alt)
    st.caption(literal(meanings(rows["verdict"])))
    _downloads(with_ranks(rows, method_rows(rows)))


def _verdict_text(row: Row) -> str:
    is_earlier = row["note"] == EARLIER
    return verdict_of(row) or ("" if is_earlier else "no setting to use")


def _table(frame: pd.DataFrame, titles: Mapping[str, Any], alt: str) -> None:
    """Write a table without the columns that have no value."""
    used = [name for name in titles if any(v != "" for v in frame[name].dropna())]
    st.dataframe(frame[used], hide_index=True, placeholder="", column_config=titles, alt=alt)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


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


PAGE = Page("Plugins", "overview", show, order=0)
