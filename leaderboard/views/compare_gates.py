"""What the gate found of each compared run."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from bench.store import Row
from leaderboard.data import Run
from leaderboard.escape import literal, one_line
from leaderboard.figures.gates import Verdict, gate_of
from leaderboard.ui import interval

_BOXES = {
    "pass": st.success,
    "identical": st.success,
    "real loss inside the margin": st.warning,
    "regression": st.error,
    "inconclusive": st.warning,
}
_LOSSES = ("regression", "real loss inside the margin")


def show_gates(baseline: Run, candidates: Sequence[Run]) -> None:
    """Write the verdict of the gate for each candidate, or the command that makes it."""
    st.subheader("Verdict of the gate", anchor=False)
    missing = []
    for run in candidates:
        found = gate_of(baseline, run)
        if found is None:
            missing.append(f"xbench gate {baseline.key} {run.key}")
        else:
            _verdict(found, f"{run.key}: " if len(candidates) > 1 else "")
    if missing:
        which = "this candidate" if len(candidates) == 1 else f"{len(missing)} candidates"
        commands = "; ".join(missing)
        st.info(
            literal(f"No gate compared {which} with this baseline. To get a verdict: {commands}")
        )


def _verdict(found: Verdict, name: str) -> None:
    n_lost = sum(test["verdict"] in _LOSSES for test in found.tests)
    verdict = found.verdict or "unknown"
    summary = f"{name}{verdict}: {n_lost} of {len(found.tests)} tests found a loss"
    _BOXES.get(found.verdict, st.warning)(literal(summary))
    title = f"{name}tests" if name else "Tests"
    with st.expander(literal(title), expanded=n_lost > 0, icon=":material/checklist:"):
        rows = [_test_row(test) for test in found.tests]
        st.dataframe(pd.DataFrame(rows), hide_index=True, placeholder="", alt="Tests of the gate")
        st.caption(
            literal(
                f"Made {found.created or 'at an unknown time'}. Verdicts are corrected for the "
                "number of tests and for early looks; the intervals are not."
            )
        )


def _test_row(test: Row) -> Row:
    return {
        "Plugin": one_line(test["plugin"]),
        "Metric": one_line(test["metric"]),
        "Better": one_line(test["better"]),
        "Verdict": one_line(test["verdict"]),
        "Candidate - baseline": interval(
            test["difference"], test["low"], test["high"], signed=True
        ),
        "Margin": test["margin"],
        "Prompts": test["n_prompts"],
        "In words": one_line(test["sentence"] or test["reason"]),
    }
