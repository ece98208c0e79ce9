"""The table at the end of a run, at most 100 columns wide, and how numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from bench.rows import Row, grouped, records
from bench.summary import ARM_FIELDS, Arm, arm_of
from metrics.stats import Estimate

Role = Literal["function", "quality", "text"]
# first in the list that a plugin has numbers for; a plugin has one function
_CHOICES: dict[Role, tuple[str, ...]] = {
    "function": ("edge-f1", "mask-iou", "pocket-style"),
    "quality": ("pocket-kid", "pocket-fid"),
    "text": ("clip-score", "pocket-clip"),
}
_HEADER = ("method", "t0", "function", "difference to base", "quality", "text", "s/image")


def format_summary(summary: pd.DataFrame) -> str:
    """Summary rows as aligned text: a block for each plugin, a line for each method and t0."""
    blocks = []
    for (plugin, kind), mine in sorted(grouped(records(summary), "plugin", "kind").items()):
        names: dict[Role, str | None] = {role: choose_metric(mine, role) for role in _CHOICES}
        lines = [_line(rows, names) for rows in by_arm(mine).values()]
        told = [f"{role} {name} ({better_of(mine, name)})" for role, name in names.items() if name]
        title = f"{plugin} ({kind}): {', '.join(told) or 'no scores'}"
        blocks.append("\n".join([_clip(title), *_aligned([_HEADER, *lines])]))
    return "\n\n".join(blocks)


def choose_metric(mine: Sequence[Row], role: Role) -> str | None:
    """The metric that stands for a role in one plugin's summary rows; None if it has none."""
    known = {row["metric"] for row in mine if row["value"] is not None}
    return next((name for name in _CHOICES[role] if name in known), None)


def better_of(mine: Sequence[Row], metric: str) -> str:
    """The direction, higher or lower, of a metric that is among the rows."""
    return next(row["better"] for row in mine if row["metric"] == metric)


def by_arm(mine: Sequence[Row]) -> dict[Arm, dict[str, Row]]:
    """Summary rows of each arm by metric, in the summary's order."""
    groups = grouped(mine, *ARM_FIELDS).values()
    return {arm_of(rows[0]): {row["metric"]: row for row in rows} for rows in groups}


def number(value: float | None, *, digits: int = 3, signed: bool = False) -> str:
    """A number with fixed decimals, or a dash for none."""
    if value is None:
        return "-"
    digits = digits if abs(value) < 100 else min(digits, 1)
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def with_interval(
    row: Estimate | Row,
    *,
    prefix: Literal["value", "delta"] = "value",
    signed: bool = False,
    digits: int = 3,
) -> str:
    """'0.512 [0.480, 0.541]' of an estimate, or of a summary row's value or delta."""
    if isinstance(row, Estimate):
        value, low, high = row.value, row.low, row.high
    elif prefix == "delta":
        value, low, high = row["delta_to_base"], row["delta_low"], row["delta_high"]
    else:
        value, low, high = row["value"], row["low"], row["high"]
    told = number(value, digits=digits, signed=signed)
    if low is None or high is None:
        return told
    ends = ", ".join(number(end, digits=digits, signed=signed) for end in (low, high))
    return f"{told} [{ends}]"


def _line(rows: Mapping[str, Row], names: Mapping[Role, str | None]) -> tuple[str, ...]:
    first = next(iter(rows.values()))
    function = rows.get(names["function"] or "")
    plain = [rows.get(names[role] or "") for role in ("quality", "text")]
    return (
        _method(first),
        number(first["t0"], digits=2),
        "-" if function is None else with_interval(function),
        "-" if function is None else with_interval(function, prefix="delta", signed=True),
        *("-" if row is None else number(row["value"]) for row in plain),
        number(first["seconds"], digits=2),
    )


def _method(row: Row) -> str:
    knobs = [("plugin_scale", "p"), ("adapter_scale", "a")]
    marks = [f"{m}{row[k]:g}" for k, m in knobs if row[k] not in (None, 1)]
    return " ".join([row["method"], *marks])


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    """Columns two spaces apart; the first is left-aligned, t0 too, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    out = []
    for line in lines:
        cells = [
            cell.ljust(width) if i < 4 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append(_clip("  " + "  ".join(cells).rstrip()))
    return out


def _clip(line: str) -> str:
    return line if len(line) <= 100 else line[:97] + "..."
