"""The table at the end of a run, at most 100 columns wide, and how numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import pandas as pd

from bench.analysis.measures import choose
from bench.analysis.summary import ARM_FIELDS, Arm, arm_of
from bench.store.rows import Row, grouped, records
from metrics.base import Role
from metrics.stats.intervals import Estimate

WIDTH = 100
_Names = Mapping[Role, str]
_N_LEFT = 4  # columns
_PLAIN: tuple[Role, ...] = ("quality", "text")


def format_summary(summary: pd.DataFrame, remarks: Mapping[str, str] | None = None) -> str:
    """Summary rows as aligned text: a block for each plugin, a line for each method and t0.

    `remarks` (plugin -> one line) stand under a plugin's name.
    """
    blocks = []
    for (plugin, kind), mine in sorted(grouped(records(summary), "plugin", "kind").items()):
        names: dict[Role, str] = {
            role: name for role in get_args(Role) if (name := choose_metric(mine, role))
        }
        remark = [clip(f"  {told}") for told in [(remarks or {}).get(plugin)] if told]
        title = _title(f"{plugin} ({kind})", mine, names)
        blocks.append("\n".join([*title, *remark, *_body(mine, names)]))
    return "\n\n".join(blocks)


def choose_metric(mine: Sequence[Row], role: Role) -> str | None:
    """The metric that stands for a role in one plugin's summary rows; None if it has none."""
    known = {row["metric"] for row in mine if row["value"] is not None}
    return choose(role, known)


def better_of(mine: Sequence[Row], metric: str) -> str:
    """The direction, higher or lower, of a metric that is among the rows."""
    return next(row["better"] for row in mine if row["metric"] == metric)


def by_arm(mine: Sequence[Row]) -> dict[Arm, dict[str, Row]]:
    """Summary rows of each arm by metric, in the summary's order."""
    groups = grouped(mine, *ARM_FIELDS).values()
    return {arm_of(rows[0]): {row["metric"]: row for row in rows} for rows in groups}


def number(value: float | None, *, digits: int = 3, signed: bool = False) -> str:
    """A number with fixed decimals, two digits where it is small, or a dash for none."""
    if value is None:
        return "-"
    digits = digits if abs(value) < 100 else min(digits, 1)
    told = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if digits >= 3 and value and abs(value) < 0.01:
        told = f"{value:+.2g}" if signed else f"{value:.2g}"
    return told if told.strip("+-0.") else told.lstrip("+-")


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
    return with_ends(value, (low, high), digits=digits, signed=signed)


def with_ends(
    value: float | None,
    ends: tuple[float | None, float | None],
    *,
    digits: int = 3,
    signed: bool = False,
) -> str:
    """A number with the ends of its interval in brackets, where it has one."""
    told = number(value, digits=digits, signed=signed)
    if None in ends:
        return told
    return f"{told} [{', '.join(number(end, digits=digits, signed=signed) for end in ends)}]"


def _title(plugin: str, mine: Sequence[Row], names: _Names) -> list[str]:
    directions: dict[str, list[str]] = {}
    for name in names.values():
        directions.setdefault(better_of(mine, name), []).append(name)
    told = "; ".join(f"{better} is better: {', '.join(n)}" for better, n in directions.items())
    title = f"{plugin}: {told or 'no scores'}"
    return [title] if len(title) <= WIDTH else [clip(plugin), clip(f"  {told}")]


def _body(mine: Sequence[Row], names: _Names) -> list[str]:
    """The block's lines, with fewer decimals where they would be too wide."""
    header = ("method", "t0", names.get("function", "function"), "difference to base")
    header = (*header, names.get("quality", "quality"), names.get("text", "text"), "s/image")
    for digits in (3, 2):
        cells = [_line(rows, names, digits=digits) for rows in by_arm(mine).values()]
        lines = aligned([header, *cells])
        if max(len(line) for line in lines) <= WIDTH:
            return lines
    return [clip(line) for line in lines]


def _line(rows: Mapping[str, Row], names: _Names, *, digits: int) -> tuple[str, ...]:
    first = next(iter(rows.values()))
    function = rows.get(names.get("function", ""))
    told = ["-", "-"]
    if function is not None:
        told = [with_interval(function, digits=digits)]
        told.append(with_interval(function, prefix="delta", signed=True, digits=digits))
    plain = [rows.get(names.get(role, "")) for role in _PLAIN]
    numbers = ["-" if row is None else number(row["value"]) for row in plain]
    return (
        _method(first),
        number(first["t0"], digits=2),
        *told,
        *numbers,
        number(first["seconds"], digits=2),
    )


def _method(row: Row) -> str:
    knobs = [("plugin_scale", "p"), ("adapter_scale", "a")]
    marks = [f"{m}{row[k]:g}" for k, m in knobs if row[k] not in (None, 1)]
    return " ".join([row["method"], *marks])


def aligned(lines: Sequence[tuple[str, ...]], *, n_left: int = _N_LEFT) -> list[str]:
    """Columns two spaces apart; words and intervals to the left, plain numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i < n_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def clip(line: str) -> str:
    """The line, cut with an ellipsis where it is wider than the table may be."""
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
