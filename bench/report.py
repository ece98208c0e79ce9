"""The report of a run: tables/report.md with image sheets, and a table for the terminal.

Prompts, plugin names and error texts come from outside: they are escaped, and no HTML is written.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.audit import read_audits, remarks
from bench.console import (
    better_of,
    by_arm,
    choose_metric,
    format_summary,
    number,
    with_interval,
)
from bench.files import write_bytes
from bench.gallery import Gallery, read_gallery
from bench.rows import Row, grouped, records
from bench.sheets import MAX_ROWS, heading_of, write_sheets
from bench.store import RunStore
from bench.summary import Arm, Scores, read_run_scores, summarise
from metrics.stats import Estimate, holm

MAX_FAILURES = 20
_PUNCTUATION = str.maketrans({c: f"\\{c}" for c in string.punctuation if c not in ",'.:-;%+=()/"})
_HOW_TO_READ = """\
- **base**: base model with the plugin, the plugin at home. **floor**: upgraded model without it.
- **sdedit**: the base picture, noised to t0 and finished by the upgraded model. **xadapter**: the
  same start, with the mapper handing the plugin's features over. A larger t0 repaints more.
- The **function** of a plugin is what it is for: a ControlNet's condition found again in the image
  (edge-f1, mask-iou), a LoRA's style (the share of images drawn in it, or the cosine to base
  images of other prompts).
- **Quality** is the kernel distance to held-out images of the upgraded model without plugin: lower
  is better; a plugin that works moves it as well. **Text** is the raw cosine of image and prompt.
- Brackets hold 95 % intervals that draw whole prompts. Differences are paired by prompt and seed.
- A dash means that there is no number; the reasons stand under "Missing scores".
"""


@dataclass(frozen=True)
class _Duel:
    """X-Adapter against SDEdit at one t0 and plugin scale, in the plugin's function."""

    adapter: Arm
    sdedit: Arm
    metric: str
    better: str
    difference: Estimate
    p_value: float | None


def write_report(run: RunStore | Path) -> Path:
    """Write tables/report.md and its image sheets; returns the report's path.

    Makes the summary first where there is none.
    """
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    summary = records(store.summary()) or records(summarise(store))
    scores, gallery = read_run_scores(store), read_gallery(store)
    sheets, partial = write_sheets(gallery, store.tables_dir), remarks(store)
    parts = [
        _heading(store, gallery),
        _headline(scores, summary),
        "## How to read this\n\n" + _HOW_TO_READ,
        _load_audit(store),
        *(
            _plugin_part(name, summary, sheets.get(name), remark=partial.get(name))
            for name in _plugins(summary)
        ),
        _failures(store),
        _missing(store),
        _recipes(summary),
    ]
    path = store.tables_dir / "report.md"
    write_bytes(path, ("\n".join(part for part in parts if part)).encode())
    return path


def console_table(run: RunStore | Path | pd.DataFrame) -> str:
    """The summary of a run, or a summary's rows, as aligned text for a terminal."""
    if isinstance(run, pd.DataFrame):
        return format_summary(run)
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    return format_summary(store.summary(), remarks(store))


def escape(text: str) -> str:
    """Text as Markdown shows it literally: one line, punctuation escaped, no control characters."""
    plain = "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in text)
    literal = " ".join(plain.split()).translate(_PUNCTUATION)
    # both would become links without any brackets
    return literal.replace("://", ":\\/\\/").replace("www.", "www\\.")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells must be escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _plugins(summary: Sequence[Row]) -> list[str]:
    return sorted({row["plugin"] for row in summary})


def _of(plugin: str, summary: Sequence[Row]) -> list[Row]:
    return [row for row in summary if row["plugin"] == plugin]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _heading(store: RunStore, gallery: Gallery) -> str:
    manifest = store.manifest()
    settings = manifest.settings
    base, upgraded = ("x".join(map(str, s)) for s in (settings.base_size, settings.upgraded_size))
    n_cases = len({s.image.case_id for s in gallery.subjects})
    n_images = len({s.image.trial_id for s in gallery.subjects if s.missing is None})
    return (
        f"# {escape(manifest.name)}\n\n"
        f"Family {escape(manifest.family)}: {n_images} images of {n_cases} prompts, "
        f"{len(manifest.seeds)} seed(s), base {base} px, upgraded {upgraded} px, "
        f"{settings.steps} steps, guidance {settings.guidance_scale:g}, preset {settings.preset}.\n"
    )


def _headline(scores: Scores, summary: Sequence[Row]) -> str:
    duels = [duel for plugin in _plugins(summary) for duel in _duels(scores, summary, plugin)]
    lines = ["## In words\n"]
    lines += [_in_words(plugin, scores, summary, duels) for plugin in _plugins(summary)]
    if not duels:
        return "\n".join(lines) + "\n"
    known = [duel.p_value for duel in duels if duel.p_value is not None]
    adjusted = iter(holm(known))
    rows = []
    for duel in duels:
        p = "-" if duel.p_value is None else _p(next(adjusted))
        values = [
            with_interval(scores.estimate(a, duel.metric)) for a in (duel.sdedit, duel.adapter)
        ]
        label = escape(heading_of(duel.adapter)[1])
        difference = with_interval(duel.difference, signed=True)
        rows.append([escape(duel.adapter.plugin), duel.metric, label, *values, difference, p])
    header = ["plugin", "function", "at", "sdedit", "xadapter", "xadapter - sdedit", "p (Holm)"]
    note = (
        f"\np: sign flips of whole prompts, two-sided, Holm-corrected over the {len(known)} tests "
        "of this table.\n"
    )
    return "\n".join(lines) + "\n\n### X-Adapter against SDEdit\n\n" + table(header, rows) + note


def _duels(scores: Scores, summary: Sequence[Row], plugin: str) -> list[_Duel]:
    metric = choose_metric(_of(plugin, summary), "function")
    if metric is None:
        return []
    arms = [arm for arm in scores.arms if arm.plugin == plugin and (arm, metric) in scores.cells]
    sdedit = {(arm.t0, arm.plugin_scale): arm for arm in arms if arm.method == "sdedit"}
    duels = []
    for arm in arms:
        other = sdedit.get((arm.t0, arm.plugin_scale))
        if arm.method == "xadapter" and other is not None:
            better = scores.cells[arm, metric].better
            difference = scores.difference(arm, other, metric)
            p_value = scores.p_value(arm, other, metric)
            duels.append(_Duel(arm, other, metric, better, difference, p_value))
    return duels


def _in_words(plugin: str, scores: Scores, summary: Sequence[Row], duels: Sequence[_Duel]) -> str:
    metric = choose_metric(_of(plugin, summary), "function")
    if metric is None:
        return f"- **{escape(plugin)}**: no metric of this run measures what it is for."
    arms = {arm.method: arm for arm in scores.arms if arm.plugin == plugin}
    base, floor = arms.get("base"), arms.get("floor")
    told = [
        f"{name} {with_interval(scores.estimate(arm, metric))}"
        for name, arm in (("base", base), ("floor", floor))
        if arm is not None and (arm, metric) in scores.cells
    ]
    sentence = f"- **{escape(plugin)}** ({metric}): {', '.join(told)}."
    if base is not None and floor is not None:
        sentence += _effect(scores.difference(base, floor, metric))
    verdicts = _verdicts([duel for duel in duels if duel.adapter.plugin == plugin])
    return sentence + (f" X-Adapter {verdicts}." if verdicts else "")


def _effect(difference: Estimate) -> str:
    if difference.low is None:
        return ""
    if difference.low <= 0:
        told = with_interval(difference, signed=True)
        return f" The plugin has no measurable effect over floor (base - floor {told})."
    return ""


def _verdicts(duels: Sequence[_Duel]) -> str:
    """'is above SDEdit at t0 0.7, 0.9; ...', by whether each interval excludes 0."""
    places: dict[str, list[str]] = {}
    for duel in duels:
        low, high = duel.difference.low, duel.difference.high
        if duel.difference.value == 0:
            verdict = "equals SDEdit"
        elif low is None or high is None:
            verdict = "cannot be told from SDEdit (no interval)"
        elif low > 0 or high < 0:
            good = (low > 0) == (duel.better == "higher")
            verdict = "keeps more than SDEdit" if good else "keeps less than SDEdit"
        else:
            verdict = "does not differ clearly from SDEdit"
        places.setdefault(verdict, []).append(escape(heading_of(duel.adapter)[1]))
    return "; ".join(f"{verdict} at {', '.join(at)}" for verdict, at in places.items())


def _load_audit(store: RunStore) -> str:
    """What of each plugin's file is in the model."""
    audits = sorted(read_audits(store).items())
    rows = [
        [escape(name), f"{a.n_applied} of {a.n_expected}", f"{a.percent} %", escape(a.why())]
        for name, a in audits
    ]
    header = ["plugin", "changes applied", "share", "what is wrong"]
    note = "\nEvery module is in audit.parquet.\n"
    return "" if not rows else "## Load audit\n\n" + table(header, rows) + note


def _plugin_part(
    plugin: str, summary: Sequence[Row], sheet: Path | None, *, remark: str | None
) -> str:
    mine = _of(plugin, summary)
    kind = mine[0]["kind"]
    parts = [f"## {escape(plugin)} ({escape(kind)})\n", _main_table(mine)]
    if remark is not None:
        parts.insert(1, f"**Only a part of it was applied.** {escape(remark)}\n")
    if sheet is not None:
        parts.append(f"![{escape(plugin)}: prompts by methods]({sheet.name})\n")
        parts.append(f"Rows: the first {MAX_ROWS} prompts at most, at the first seed.\n")
    others = _other_table(mine)
    if others:
        parts.append("All other metrics:\n\n" + others)
    return "\n".join(parts)


def _main_table(mine: Sequence[Row]) -> str:
    names = {role: choose_metric(mine, role) for role in ("function", "quality", "text")}
    chosen = {role: name for role, name in names.items() if name is not None}
    header = ["method", "at"]
    for role, name in chosen.items():
        better = better_of(mine, name)
        header.append(f"{role}: {name} ({better} is better)")
        if role == "function":
            header.append("difference to base")
    rows = []
    for arm, cells in by_arm(mine).items():
        row = [escape(text) for text in heading_of(arm)]
        for role, name in chosen.items():
            cell = cells.get(name)
            row.append("-" if cell is None else with_interval(cell))
            if role == "function":
                row.append(
                    "-" if cell is None else with_interval(cell, prefix="delta", signed=True)
                )
        first = next(iter(cells.values()))
        rows.append([*row, number(first["seconds"]), number(first["peak_memory_mib"], digits=0)])
    return table([*header, "seconds per image", "peak MiB"], rows)


def _other_table(mine: Sequence[Row]) -> str:
    shown = {choose_metric(mine, role) for role in ("function", "quality", "text")}
    names = [name for name in sorted({row["metric"] for row in mine}) if name not in shown]
    if not names:
        return ""
    marks = {n: better_of(mine, n) for n in names}
    rows = [
        [*(escape(text) for text in heading_of(arm))]
        + ["-" if n not in cells else with_interval(cells[n]) for n in names]
        for arm, cells in by_arm(mine).items()
    ]
    return table(["method", "at", *(f"{n} ({marks[n]})" for n in names)], rows)


def _failures(store: RunStore) -> str:
    rows = records(store.trials().merge(store.results(), on="trial_id"))
    failed = [row for row in rows if row["status"] == "failed"]
    if not failed:
        return "## Failures\n\nNone.\n"
    shown = [
        [
            escape(f"{row['plugin']} {row['method']}"),
            number(row["t0"]),
            escape(row["case_id"]),
            str(row["seed"]),
            escape(row["error"] or ""),
        ]
        for row in failed[:MAX_FAILURES]
    ]
    more = len(failed) - len(shown)
    note = f"\n{more} more are in results/.\n" if more else ""
    body = table(["trial", "t0", "case", "seed", "error"], shown)
    return f"## Failures\n\n{len(failed)} of {len(rows)} trials failed.\n\n{body}{note}"


def _missing(store: RunStore) -> str:
    remarks = [row for row in records(store.scores()) if row["reason"] is not None]
    lines = []
    for key, rows in sorted(grouped(remarks, "metric", "method", "reason").items()):
        metric, method, reason = (escape(text) for text in key)
        n_missing = sum(row["value"] is None for row in rows)
        what = f"{n_missing} missing" if n_missing else f"{len(rows)} with a caution"
        lines.append(f"- {metric}, {method}: {what}: {reason}")
    return "" if not lines else "## Missing scores and cautions\n\n" + "\n".join(lines) + "\n"


def _recipes(summary: Sequence[Row]) -> str:
    unique = sorted({(row["metric"], row["recipe"]) for row in summary})
    lines = [f"- **{escape(metric)}**: {escape(recipe)}" for metric, recipe in unique]
    return "## Recipes\n\nEverything that changes a number.\n\n" + "\n".join(lines) + "\n"
