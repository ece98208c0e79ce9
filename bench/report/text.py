"""What is printed at the end of a run: the answers in words, and a table for each plugin.

Lines have at most 100 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import pandas as pd

from bench.analysis import Arm, answers, run_sentence
from bench.analysis.measures import PLAIN_KINDS, choose, quality_axis
from bench.analysis.summary import ARM_FIELDS, arm_of
from bench.analysis.words import (
    MEANINGS,
    REFERENCES,
    WORDS,
    is_judged,
    mark_of,
    row_line,
    share,
    short_verdict,
)
from bench.report.cells import aligned, number, with_ends
from bench.store import Row, grouped, records
from metrics.base import Role
from metrics.stats import Estimate
from plugins_manifest.outputs import terminal_line

WIDTH = 100
NO_VERDICTS = "No verdicts: these tables are of an earlier version; xbench report RUN writes them."
_Names = Mapping[Role, str]
_HEADER = ("  method", "t0", "verdict", "function", "keeps", "distance", "text", "s")
_COLUMNS: Mapping[Role, str] = {"function": "function", "quality": "distance", "text": "text"}


def format_answers(compatibility: pd.DataFrame, *, width: int = WIDTH) -> str:
    """Return how many plugins keep working, then one sentence for each of them, worst first."""
    rows = records(compatibility)
    if not is_judged(rows):
        return NO_VERDICTS if any(row["method"] not in REFERENCES for row in rows) else ""
    found = answers(rows)
    lines = textwrap.wrap(run_sentence(found), width, subsequent_indent="  ")
    for answer in found:
        sentence = terminal_line(f"{answer.sentence}.")
        lines += _wrapped(sentence, hanging="    ", width=width)
    return "\n".join(lines)


def format_summary(
    summary: pd.DataFrame,
    remarks: Mapping[str, str] | None = None,
    compatibility: pd.DataFrame | None = None,
) -> str:
    """Return a table for each plugin, in the order of the answers: a line for each setting.

    `remarks` (plugin -> one line) follow the plugin's name.
    """
    judged = [] if compatibility is None else records(compatibility)
    settings = [row for row in judged if row["level"] == "setting"] if is_judged(judged) else []
    groups = {plugin: rows for (plugin,), rows in grouped(records(summary), "plugin").items()}
    blocks = []
    for plugin in worst_first(groups, judged):
        rows, own = groups[plugin], [row for row in settings if row["plugin"] == plugin]
        names = headline_metrics(rows, own)
        caution = next((row["quality_reason"] for row in own if row["quality"] is not None), None)
        found = [(remarks or {}).get(plugin), caution and f"distance: {caution}"]
        remark = [clip(f"  {text}") for text in found if text]
        title = _title(f"{plugin} ({rows[0]['kind']})", rows, names)
        verdicts = {arm_of(row): row for row in own}
        blocks.append("\n".join([*title, *remark, *_body(rows, names, verdicts)]))
    return "\n\n".join([*blocks, *_legend(settings)])


def worst_first(plugins: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """Return plugins in the order of the answers of rows of `schema.COMPATIBILITY`."""
    order = {answer.plugin: place for place, answer in enumerate(answers(rows))}
    return sorted(plugins, key=lambda name: (order.get(name, len(order)), name))


def headline_metrics(rows: Sequence[Row], settings: Sequence[Row]) -> dict[Role, str]:
    """Return the metric that a plugin's table displays for each role.

    Quality is a kernel distance to the upgraded model's own images, which has intervals; where the
    plugin changes the style and the run has a native plugin, it is the distance without style.
    """
    names: dict[Role, str] = {
        role: name for role in get_args(Role) if (name := choose_metric(rows, role))
    }
    known = {row["metric"] for row in rows if row["value"] is not None}
    if axis := quality_axis(known, "floor"):
        names["quality"] = axis[0]
    segment = next((row for row in settings if row["quality_reference"] == "segment"), None)
    if segment is not None and (segment["kind"] not in PLAIN_KINDS or axis is None):
        names["quality"] = segment["quality_metric"]
    return names


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
    for role, name in names.items():
        directions.setdefault(better_of(rows, name), []).append(f"{_COLUMNS[role]} {name}")
    text = "; ".join(f"{better} is better: {', '.join(n)}" for better, n in directions.items())
    text = terminal_line(text or "no scores")
    return [clip(plugin), *_wrapped(text, hanging="  ")]


def _wrapped(text: str, *, hanging: str, width: int = WIDTH) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent="  ", subsequent_indent=hanging, break_on_hyphens=False
    )


def _body(rows: Sequence[Row], names: _Names, verdicts: Mapping[Arm, Row]) -> list[str]:
    """Return the block's lines, with fewer columns if they would be too wide."""
    cells = [_line(arm, there, names, verdicts.get(arm)) for arm, there in by_arm(rows).items()]
    lines: list[str] = []
    for n_columns in (8, 7, 6):
        lines = aligned([line[:n_columns] for line in (_HEADER, *cells)], n_left=6)
        if max(len(line) for line in lines) <= WIDTH:
            return lines
    return [clip(line) for line in lines]


def _line(arm: Arm, rows: Mapping[str, Row], names: _Names, judged: Row | None) -> tuple[str, ...]:
    function, quality = (rows.get(names.get(role, "")) for role in ("function", "quality"))
    text = rows.get(names.get("text", ""))
    first = next(iter(rows.values()))
    return (
        f"{'' if judged is None else mark_of(judged):1} {_method(first)}",
        "-" if arm.t0 is None else f"{arm.t0:g}",
        "-" if judged is None else short_verdict(judged) or "-",
        _cell(function),
        "-" if judged is None else share(judged) or "-",
        _cell(quality),
        "-" if text is None else number(text["value"], digits=2),
        number(first["seconds"], digits=2),
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return with_ends(row["value"], (row["low"], row["high"]), digits=2, small_digits=1)


def _method(row: Row) -> str:
    scales = [("plugin_scale", "p"), ("adapter_scale", "a")]
    marks = [f"{m}{row[k]:g}" for k, m in scales if row[k] not in (None, 1)]
    return " ".join([row_line(row), *marks])


def _legend(settings: Sequence[Row]) -> list[str]:
    """Return the meanings of the words and marks that occur."""
    if not settings:
        return []
    used = {short_verdict(row).split(" +")[0] for row in settings}
    meanings = [f"{word}: {MEANINGS[word]}" for word in WORDS if word in used]
    lines = [
        "*: the setting to use; =: not told from the plugin's best setting",
        *(
            f"{text}; +N: about N more prompts decide" if text.startswith("open") else text
            for text in meanings
        ),
        "keeps: share of the plugin's effect on the base model; [ ]: 95 % intervals over prompts",
        "distance: of the look to the new model's images; below 0 by chance, where there is none",
        "s: seconds an image",
    ]
    return ["\n".join(f"  {line}" for line in lines)]


def clip(line: str) -> str:
    """Cut a line that is wider than the table may be, with an ellipsis."""
    line = terminal_line(line)
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
