"""The sections of a report, as blocks without markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.render import read_audits
from bench.report.blocks import Block, Bullets, Heading, Picture, Span, Strong, paragraph, table
from bench.report.cells import number
from bench.report.comparisons import of_plugin
from bench.report.sheets import heading_of
from bench.report.styles import method_order, method_style
from bench.report.text import (
    better_of,
    by_arm,
    choose_metric,
    interval_of,
    why_nothing,
    with_interval,
)
from bench.scoring import RunImages
from bench.store import Row, RunStore, grouped, records
from plugins_manifest.outputs import one_line
from plugins_manifest.schema import plugin_sets

MAX_FAILURES = 20
_LONGEST_ERROR = 500  # characters
_HOW_TO_READ: tuple[tuple[Span, ...], ...] = (
    ("A larger t0 repaints more of the image of stage 1.",),
    (
        "The ",
        Strong("function"),
        " of a plugin is what it is for: a ControlNet's condition found again in the image, a "
        "LoRA's style (the share of images drawn in it, or the cosine to base images of other "
        "prompts).",
    ),
    (
        Strong("Retention"),
        " is the share of the plugin's effect that is kept: 1 as on the base model, 0 as without "
        "the plugin. ",
        Strong("Quality gain"),
        " is the share of the upgrade's gain in quality: 0 as the base model, 1 as the native "
        "plugin's images where there are any, else as the upgraded model without plugin (which "
        "a plugin that works moves away from).",
    ),
    (
        "The ",
        Strong("score"),
        " is the area that a method's settings dominate in the plane of the two, 0 to 1. "
        "A plugin without measurable effect on the base model has none: that is not "
        "incompatibility.",
    ),
    ("Brackets hold 95 % intervals that draw whole prompts; differences pair prompt and seed.",),
    ('A dash means that there is no number; the reasons are under "Missing scores".',),
)


def heading(store: RunStore, gallery: RunImages) -> Iterator[Block]:
    """Yield the run's name and settings."""
    manifest = store.manifest()
    settings = manifest.settings
    base, upgraded = ("x".join(map(str, s)) for s in (settings.base_size, settings.upgraded_size))
    n_cases = len({s.image.case_id for s in gallery.subjects})
    n_images = len({s.image.trial_id for s in gallery.subjects if s.missing is None})
    yield Heading(1, manifest.name)
    yield paragraph(
        f"Family {manifest.family}: {n_images} images of {n_cases} prompts, "
        f"{len(manifest.seeds)} seed(s), base {base} px, upgraded {upgraded} px, "
        f"{settings.steps} steps, guidance {settings.guidance_scale:g}, preset {settings.preset}."
    )
    own = [
        (s.id, s.settings.model_dump(exclude_none=True))
        for s in plugin_sets(manifest)
        if s.settings
    ]
    if own:
        listed = (f"{i} ({', '.join(f'{k} {v}' for k, v in values.items())})" for i, values in own)
        yield paragraph(f"With other settings, their references too: {'; '.join(listed)}.")


def compatibility(rows: Sequence[Row], plots: Sequence[Picture]) -> Iterator[Block]:
    """Yield the recommended settings of each plugin, and how well they work."""
    methods = [row for row in rows if row["level"] == "method"]
    if not methods:
        return
    yield Heading(2, "Compatibility")
    yield paragraph(
        "Recommended settings were chosen on one half of the prompts; retention and quality gain "
        "were measured on the other half. The score counts all settings of a method, "
        "on all prompts; 'split half' chooses them on one half and measures on the other, which "
        "shows how much of the score is the luck of the best."
    )
    header = ("plugin", "method", "use", "t0", "retention", "quality gain", "score", "split half")
    lines = [_method_cells(row) for row in methods]
    header = (*header, "seconds", "peak MiB", "why not")
    n_columns = len(header) if any(cells[-1] for cells in lines) else len(header) - 1
    yield table(header[:n_columns], [cells[:n_columns] for cells in lines])
    yield from plots


def how_to_read(methods: Iterable[str]) -> Iterator[Block]:
    """Explain the methods of the run and the words of the report."""
    lines = [(Strong(m), f": {method_style(m).sentence}.") for m in method_order(methods)]
    yield Heading(2, "How to read this")
    yield Bullets((*lines, *_HOW_TO_READ))


def load_audit(store: RunStore) -> Iterator[Block]:
    """Yield which part of each plugin's file is in the model."""
    audits = sorted(read_audits(store).items())
    if not audits:
        return
    rows = [
        [name, f"{a.n_applied} of {a.n_expected}", f"{a.percent} %", a.why()] for name, a in audits
    ]
    yield Heading(2, "Load audit")
    yield table(("plugin", "changes applied", "share", "what is wrong"), rows)
    yield paragraph("Every module is in audit.parquet.")


def plugin_part(
    plugin: str,
    summary: Sequence[Row],
    pictures: Sequence[Picture],
    *,
    remark: str | None,
    sheet_rows: int,
) -> Iterator[Block]:
    """Yield one plugin: its main table, its plots and image sheet, all other metrics."""
    group = of_plugin(plugin, summary)
    yield Heading(2, f"{plugin} ({group[0]['kind']})")
    if remark is not None:
        yield paragraph(Strong("Only a part of it was applied."), f" {remark}")
    yield _main_table(group)
    yield from pictures
    if pictures:
        yield paragraph(f"Rows of the sheet: the first {sheet_rows} prompts, at the first seed.")
    yield from _other_table(group)


def failures(store: RunStore) -> Iterator[Block]:
    """Yield the trials without an image."""
    rows = records(store.trials().merge(store.results(), on="trial_id"))
    failed = [row for row in rows if row["status"] == "failed"]
    yield Heading(2, "Failures")
    if not failed:
        yield paragraph("None.")
        return
    yield paragraph(f"{len(failed)} of {len(rows)} trials failed.")
    listed = [
        (
            f"{row['plugin']} {row['method']}",
            number(row["t0"]),
            row["case_id"],
            str(row["seed"]),
            one_line(row["error"] or "", longest=_LONGEST_ERROR),
        )
        for row in failed[:MAX_FAILURES]
    ]
    yield table(("trial", "t0", "case", "seed", "error"), listed)
    if len(failed) > len(listed):
        yield paragraph(f"{len(failed) - len(listed)} more are in results/.")


def missing(store: RunStore) -> Iterator[Block]:
    """Yield missing scores and cautions with their reasons."""
    remarks = [row for row in records(store.scores()) if row["reason"] is not None]
    lines: list[tuple[Span, ...]] = []
    for key, rows in sorted(grouped(remarks, "metric", "method", "reason").items()):
        metric, method, reason = key
        n_missing = sum(row["value"] is None for row in rows)
        what = f"{n_missing} missing" if n_missing else f"{len(rows)} with a caution"
        lines.append((f"{metric}, {method}: {what}: {reason}",))
    if lines:
        yield Heading(2, "Missing scores and cautions")
        yield Bullets(tuple(lines))


def recipes(summary: Sequence[Row], compatibility_rows: Sequence[Row]) -> Iterator[Block]:
    """Yield everything that changes a number."""
    yield Heading(2, "Recipes")
    yield paragraph("Everything that changes a number.")
    unique: dict[tuple[str, str], None] = {}
    for row in sorted(summary, key=lambda row: (row["metric"], row["recipe"])):
        unique[row["metric"], row["recipe"]] = None
    for row in compatibility_rows:
        if row["level"] == "method":
            unique[f"{row['plugin']}, {row['method']}", row["recipe"]] = None
    yield Bullets(tuple((Strong(name), f": {recipe}") for name, recipe in unique))


def _method_cells(row: Row) -> tuple[str, ...]:
    has_number = row["score"] is not None or row["t0"] is not None
    return (
        row["plugin"],
        row["method"],
        "yes" if row["recommended"] else "",
        number(row["t0"], digits=2),
        *(interval_of(row, name) for name in ("retention", "gain", "score")),
        number(row["score_split_half"], digits=2),
        number(row["seconds"], digits=2),
        number(row["peak_memory_mib"], digits=0),
        "" if has_number else why_nothing(row),
    )


def _main_table(group: Sequence[Row]) -> Block:
    names = {role: choose_metric(group, role) for role in ("function", "quality", "text")}
    chosen = {role: name for role, name in names.items() if name is not None}
    header = ["method", "at"]
    for role, name in chosen.items():
        header.append(f"{role}: {name} ({better_of(group, name)} is better)")
        if role == "function":
            header.append("difference to base")
    rows = []
    for arm, cells in by_arm(group).items():
        row = [*heading_of(arm)]
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


def _other_table(group: Sequence[Row]) -> Iterator[Block]:
    main = {choose_metric(group, role) for role in ("function", "quality", "text")}
    names = [name for name in sorted({row["metric"] for row in group}) if name not in main]
    if not names:
        return
    yield paragraph("All other metrics:")
    rows = [
        [*heading_of(arm)] + ["-" if n not in cells else with_interval(cells[n]) for n in names]
        for arm, cells in by_arm(group).items()
    ]
    yield table(["method", "at", *(f"{n} ({better_of(group, n)})" for n in names)], rows)
