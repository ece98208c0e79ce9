"""The compatibility of each plugin after a run, at most 100 columns wide."""

from __future__ import annotations

import pandas as pd

from bench.report.text import aligned, clip, number, with_ends
from bench.store.rows import Row, grouped, records

TITLE = "compatibility after the upgrade (t0 chosen on half of the prompts, measured on the rest)"
NO_EFFECT_NOTE = "not incompatible"
_HEADER = ("  method", "t0", "retention", "quality gain", "score", "split", "s/image")


def format_compatibility(table: pd.DataFrame) -> str:
    """Rows of `schema.COMPATIBILITY` as aligned text: a line for each plugin and method."""
    rows = [row for row in records(table) if row["level"] == "method"]
    if not rows:
        return ""
    plugins = grouped(rows, "plugin")
    shown = {key: [row for row in mine if _has_numbers(row)] for key, mine in plugins.items()}
    cells = [_HEADER, *(_line(row) for mine in shown.values() for row in mine)]
    header, *lines = aligned(cells, n_left=5)
    told, rest = [TITLE, header], iter(lines)
    for key, mine in plugins.items():
        why = "" if shown[key] else f": {why_nothing(mine[0])}"
        told += [f"  {key[0]}{why}", *(next(rest) for _ in shown[key])]
    note = "  *: the method to use; split: the score with settings chosen on the other half"
    return "\n".join(clip(line.rstrip()) for line in [*told, note])


def why_nothing(row: Row) -> str:
    """Why a method row has no score, in words."""
    if row["status"] == "no effect":
        return f"{row['reason']} ({NO_EFFECT_NOTE})"
    return str(row["reason"] or row["score_reason"] or row["gain_reason"] or "not measured")


def _has_numbers(row: Row) -> bool:
    return row["score"] is not None or row["t0"] is not None


def _line(row: Row) -> tuple[str, ...]:
    mark = " *" if row["recommended"] else ""
    return (
        f"  {row['method']}{mark}",
        number(row["t0"], digits=2),
        *(interval_of(row, name) for name in ("retention", "gain", "score")),
        number(row["score_split_half"], digits=2),
        number(row["seconds"], digits=2),
    )


def interval_of(row: Row, name: str, *, digits: int = 2) -> str:
    """'0.86 [0.80, 0.94]' of a quantity of a row, or a dash."""
    ends = (row[f"{name}_low"], row[f"{name}_high"])
    return with_ends(row[name], ends, digits=digits)
