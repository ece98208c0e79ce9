"""The tables at the end of a run as text, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import pandas as pd

from bench.analysis import Arm, arm_of
from bench.analysis.measures import choose
from bench.analysis.summary import ARM_FIELDS
from bench.report.cells import aligned, number, with_ends
from bench.store import Row, grouped, records
from metrics.base import Role
from metrics.stats import Estimate
from plugins_manifest.outputs import terminal_line

WIDTH = 100
TITLE = "compatibility after the upgrade (t0 chosen on half of the prompts, measured on the rest)"
NO_EFFECT_NOTE = "not incompatible"
_Names = Mapping[Role, str]
_PLAIN: tuple[Role, ...] = ("quality", "text")
_COMPATIBILITY = ("  method", "t0", "retention", "quality gain", "score", "split", "s/image")


# --- the summary


def format_summary(summary: pd.DataFrame, remarks: Mapping[str, str] | None = None) -> str:
    """Return summary rows as aligned text: a block for each plugin, a line for each method and t0.

    `remarks` (plugin -> one line) follow the plugin's name.
    """
    blocks = []
    for (plugin, kind), rows in sorted(grouped(records(summary), "plugin", "kind").items()):
        names: dict[Role, str] = {
            role: name for role in get_args(Role) if (name := choose_metric(rows, role))
        }
        remark = [clip(f"  {text}") for text in [(remarks or {}).get(plugin)] if text]
        title = _title(f"{plugin} ({kind})", rows, names)
        blocks.append("\n".join([*title, *remark, *_body(rows, names)]))
    return "\n\n".join(blocks)


def choose_metric(rows: Sequence[Row], role: Role) -> str | None:
    """Return the metric of a role in one plugin's summary rows; None if it has none."""
    known = {row["metric"] for row in rows if row["value"] is not None}
    return choose(role, known)


def better_of(rows: Sequence[Row], metric: str) -> str:
    """Return the direction, higher or lower, of a metric that is among the rows."""
    return next(row["better"] for row in rows if row["metric"] == metric)


def by_arm(rows: Sequence[Row]) -> dict[Arm, dict[str, Row]]:
    """Return the summary rows of each arm by metric, in the summary's order."""
    groups = grouped(rows, *ARM_FIELDS).values()
    return {arm_of(group[0]): {row["metric"]: row for row in group} for group in groups}


def with_interval(
    row: Estimate | Row,
    *,
    prefix: Literal["value", "delta"] = "value",
    signed: bool = False,
    digits: int = 3,
) -> str:
    """Return '0.512 [0.480, 0.541]' of an estimate, or of a summary row's value or delta."""
    if isinstance(row, Estimate):
        value, low, high = row.value, row.low, row.high
    elif prefix == "delta":
        value, low, high = row["delta_to_base"], row["delta_low"], row["delta_high"]
    else:
        value, low, high = row["value"], row["low"], row["high"]
    return with_ends(value, (low, high), digits=digits, signed=signed)


def _title(plugin: str, rows: Sequence[Row], names: _Names) -> list[str]:
    directions: dict[str, list[str]] = {}
    for name in names.values():
        directions.setdefault(better_of(rows, name), []).append(name)
    text = "; ".join(f"{better} is better: {', '.join(n)}" for better, n in directions.items())
    title = f"{plugin}: {text or 'no scores'}"
    return [clip(title)] if len(title) <= WIDTH else [clip(plugin), clip(f"  {text}")]


def _body(rows: Sequence[Row], names: _Names) -> list[str]:
    """Return the block's lines, with fewer decimals if they would be too wide."""
    header = ("method", "t0", names.get("function", "function"), "difference to base")
    header = (*header, names.get("quality", "quality"), names.get("text", "text"), "s/image")
    for digits in (3, 2):
        cells = [_line(arm_rows, names, digits=digits) for arm_rows in by_arm(rows).values()]
        lines = aligned([header, *cells], n_left=4, indent="  ")
        if max(len(line) for line in lines) <= WIDTH:
            return lines
    return [clip(line) for line in lines]


def _line(rows: Mapping[str, Row], names: _Names, *, digits: int) -> tuple[str, ...]:
    first = next(iter(rows.values()))
    function = rows.get(names.get("function", ""))
    cells = ["-", "-"]
    if function is not None:
        cells = [with_interval(function, digits=digits)]
        cells.append(with_interval(function, prefix="delta", signed=True, digits=digits))
    plain = [rows.get(names.get(role, "")) for role in _PLAIN]
    numbers = ["-" if row is None else number(row["value"]) for row in plain]
    return (
        _method(first),
        number(first["t0"], digits=2),
        *cells,
        *numbers,
        number(first["seconds"], digits=2),
    )


def _method(row: Row) -> str:
    scales = [("plugin_scale", "p"), ("adapter_scale", "a")]
    marks = [f"{m}{row[k]:g}" for k, m in scales if row[k] not in (None, 1)]
    return " ".join([row["method"], *marks])


# --- the compatibility table


def format_compatibility(table: pd.DataFrame) -> str:
    """Return rows of `schema.COMPATIBILITY` as aligned text, a line for each plugin and method."""
    rows = [row for row in records(table) if row["level"] == "method"]
    if not rows:
        return ""
    plugins = grouped(rows, "plugin")
    displayed = {key: [row for row in part if _has_numbers(row)] for key, part in plugins.items()}
    cells = [
        _COMPATIBILITY,
        *(_method_line(row) for part in displayed.values() for row in part),
    ]
    header, *lines = aligned(cells, n_left=5, indent="  ")
    text, rest = [TITLE, header], iter(lines)
    for key, part in plugins.items():
        why = "" if displayed[key] else f": {why_nothing(part[0])}"
        text += [f"  {key[0]}{why}", *(next(rest) for _ in displayed[key])]
    note = "  *: the method to use; split: the score with settings chosen on the other half"
    return "\n".join(clip(line) for line in [*text, note])


def why_nothing(row: Row) -> str:
    """Return the reason why a method row has no score."""
    if row["status"] == "no effect":
        return f"{row['reason']} ({NO_EFFECT_NOTE})"
    return str(row["reason"] or row["score_reason"] or row["gain_reason"] or "not measured")


def interval_of(row: Row, name: str, *, digits: int = 2) -> str:
    """Return '0.86 [0.80, 0.94]' of a quantity of a row, or a dash."""
    return with_ends(row[name], (row[f"{name}_low"], row[f"{name}_high"]), digits=digits)


def _has_numbers(row: Row) -> bool:
    return row["score"] is not None or row["t0"] is not None


def _method_line(row: Row) -> tuple[str, ...]:
    mark = " *" if row["recommended"] else ""
    return (
        f"  {row['method']}{mark}",
        number(row["t0"], digits=2),
        *(interval_of(row, name) for name in ("retention", "gain", "score")),
        number(row["score_split_half"], digits=2),
        number(row["seconds"], digits=2),
    )


def clip(line: str) -> str:
    """Cut a line that is wider than the table may be, with an ellipsis."""
    line = terminal_line(line)
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
