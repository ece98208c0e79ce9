"""The sections of a report, as blocks without markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.analysis.glossary import method_name
from bench.analysis.summary import arm_of
from bench.analysis.words import (
    MEANINGS,
    is_judged,
    mark_of,
    rounded,
    row_line,
    share,
    short_verdict,
    sort_text,
)
from bench.render import read_audits
from bench.report.blocks import (
    Block,
    Bullets,
    Fold,
    Heading,
    Picture,
    Span,
    Strong,
    paragraph,
    table,
)
from bench.report.cells import number, with_ends
from bench.report.comparisons import of_plugin
from bench.report.sheets import heading_of
from bench.report.styles import method_order, method_style
from bench.report.text import better_of, by_arm, headline_metrics, with_interval
from bench.scoring import RunImages
from bench.store import Row, RunStore, grouped, records
from metrics.base import Role
from plugins_manifest.outputs import one_line
from plugins_manifest.schema import plugin_sets

MAX_FAILURES = 20
_LONGEST_ERROR = 500  # characters
_JUDGED = ("verdict", "keeps", "q (lower is better)", "look", "w")
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
        Strong("Keeps"),
        " (retention) is the share of the plugin's effect that is kept: 100 % as on the base "
        "model, 0 % as on the upgraded model without the plugin; above 100 % the effect is "
        "stronger than at home.",
    ),
    *((Strong(word), f": {meaning}.") for word, meaning in MEANINGS.items()),
    (
        "Each verdict is a test over whole prompts, one-sided, corrected over the settings of its "
        "plugin; no ratio is tested. +N: about so many more prompts would decide, if means and "
        "spreads stay as they are.",
    ),
    (
        Strong("q"),
        " is the distance of the images' look to what they should look like, in the metric's own "
        "units: to everything between the upgraded model's own images and the native plugin's "
        "(method oracle), so that a style does not count as a loss; without native plugin to the "
        "former alone. ",
        Strong("w"),
        " is the place between both: 0 the upgraded model's own look, 1 the native plugin's.",
    ),
    (
        "q can be below 0: it is an unbiased estimate of a squared distance, so where there is no "
        "distance its values scatter around 0. Below 0 is as good as 0, not better.",
    ),
    (
        Strong("Like the new model"),
        ", ",
        Strong("between"),
        " and ",
        Strong("like the old model"),
        " compare q with the base model's own q, each shown by a corrected test; ",
        Strong("cannot be told"),
        " otherwise.",
    ),
    (
        "The ",
        Strong("sort value"),
        " is share kept x (1 - q / k), each between 0 and 1, k a constant of the metric. It sorts "
        "settings and claims nothing. A method's is chosen on five sixths of the prompts and "
        "measured on the rest, six times; it has an interval from 60 prompts on.",
    ),
    (
        Strong("Use"),
        " marks the setting to use: of those that are not told from the plugin's best one (=), "
        "the cheapest that works.",
    ),
    (
        "Brackets hold 95 % intervals over whole prompts, from 12 prompts on; differences pair "
        "prompt and seed. All numbers of a row are of one setting, on all its prompts.",
    ),
    ('A dash means that there is no number; the reasons are under "Missing scores".',),
)


def settings_line(store: RunStore, gallery: RunImages) -> Iterator[Block]:
    """Yield the run's settings."""
    manifest = store.manifest()
    settings = manifest.settings
    base, upgraded = ("x".join(map(str, s)) for s in (settings.base_size, settings.upgraded_size))
    n_cases = len({s.image.case_id for s in gallery.subjects})
    n_images = len({s.image.trial_id for s in gallery.subjects if s.missing is None})
    seeds = "1 seed" if len(manifest.seeds) == 1 else f"{len(manifest.seeds)} seeds"
    yield paragraph(
        f"Family {manifest.family}: {n_images} images of {n_cases} prompts, "
        f"{seeds}, base {base} px, upgraded {upgraded} px, "
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


def compatibility(
    rows: Sequence[Row], plugins: Sequence[str], plots: Sequence[Picture]
) -> Iterator[Block]:
    """Yield the setting of each plugin and method to use, and how well it works."""
    methods = [row for name in plugins for row in of_plugin(name, rows) if row["level"] == "method"]
    if not methods or not is_judged(rows):
        return
    yield Heading(2, "Compatibility")
    yield paragraph(
        "One row for each method: of its settings that are not told from its best one, the "
        "cheapest that works, measured on all prompts. Every setting is in the plugin's own part."
    )
    header = ("plugin", "method", "use", "at", *_JUDGED, "seconds", "peak MiB")
    yield table(header, [_method_cells(row) for row in methods])
    if remarks := _remarks(methods):
        yield Bullets(
            tuple(
                (f"{'All rows' if len(who) == len(methods) else ', '.join(who)}: {why}.",)
                for why, who in remarks.items()
            )
        )
    yield from plots
    yield from _sort_values(methods)


def _remarks(methods: Sequence[Row]) -> dict[str, list[str]]:
    """Return why numbers are missing or have no word -> whose they are."""
    found: dict[str, list[str]] = {}
    for row in methods:
        name = f"{row['plugin']} {method_name(row['method'])}"
        if row["verdict"] is None:  # none of the method's settings can be recommended
            found.setdefault(row["choice_reason"] or row["reason"] or "", []).append(name)
        elif row["quality_reason"] is not None:
            names = found.setdefault(f"q: {row['quality_reason']}", [])
            names += [row["plugin"]] if row["plugin"] not in names else []
    return found


def _sort_values(methods: Sequence[Row]) -> Iterator[Block]:
    """Yield the methods' number for sorting: other estimates than those of one setting."""
    known = [row for row in methods if row["sort_value"] is not None]
    if not known:
        return
    text = "For sorting methods: their sort value, with the setting chosen on other prompts."
    cells = [[row["plugin"], method_name(row_line(row)), sort_text(row)] for row in known]
    found = table(("plugin", "method", "sort value"), cells)
    yield Fold(Heading(3, "Sort values"), (paragraph(text), found))


def how_to_read(methods: Iterable[str]) -> Iterator[Block]:
    """Explain the methods of the run and the words of the report."""
    lines = [
        (Strong(method_name(m)), f": {method_style(m).sentence}.") for m in method_order(methods)
    ]
    yield Fold(Heading(2, "How to read this"), (Bullets((*lines, *_HOW_TO_READ)),))


def load_audit(store: RunStore) -> Iterator[Block]:
    """Yield which part of each plugin's file is in the model."""
    audits = sorted(read_audits(store).items())
    if not audits:
        return
    rows = [
        [name, f"{a.n_applied} of {a.n_expected}", f"{a.percent} %", a.why()] for name, a in audits
    ]
    found = table(("plugin", "changes applied", "share", "what is wrong"), rows)
    note = paragraph("Every module is in audit.parquet.")
    yield Fold(Heading(2, "Load audit"), (found, note))


def plugin_part(
    plugin: str,
    summary: Sequence[Row],
    compatibility_rows: Sequence[Row],
    pictures: Sequence[Picture],
    *,
    remark: str | None,
    sheet_rows: int,
) -> Iterator[Block]:
    """Yield one plugin: its verdicts and main metrics, its plots and image sheet, all metrics."""
    group = of_plugin(plugin, summary)
    own = of_plugin(plugin, compatibility_rows)
    settings = [row for row in own if row["level"] == "setting"]
    yield Heading(2, f"{plugin} ({group[0]['kind']})", plugin)
    if remark is not None:
        yield paragraph(Strong("Only a part of it was applied."), f" {remark}")
    if is_judged(settings):
        yield _verdict_table(settings)
    names = headline_metrics(group, settings)
    yield _main_table(group, names)
    yield from pictures
    if pictures:
        yield paragraph(f"Rows of the sheet: the first {sheet_rows} prompts, at the first seed.")
    yield from _other_table(group, names)


def _verdict_table(settings: Sequence[Row]) -> Block:
    metric = next((row["function_metric"] for row in settings if row["function_metric"]), "-")
    header = ("method", "at", "use", f"function: {metric}", *_JUDGED, "p (Holm)", "sort value")
    rows = []
    for row in settings:
        p = "-" if row["verdict_p"] is None else f"{row['verdict_p']:.3f}"
        function, sort_value = interval_of(row, "function"), number(row["sort_value"], digits=2)
        cells = (_use(row), function, *_judged_cells(row), p, sort_value)
        rows.append([*heading_of(arm_of(row)), *cells])
    return table(header, rows)


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
            f"{row['plugin'] or ''} {method_name(row_line(row))}".strip(),
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
        yield Fold(Heading(2, "Missing scores and cautions"), (Bullets(tuple(lines)),))


def recipes(summary: Sequence[Row], compatibility_rows: Sequence[Row]) -> Iterator[Block]:
    """Yield everything that changes a number."""
    unique: dict[tuple[str, str], None] = {}
    for row in sorted(summary, key=lambda row: (row["metric"], row["recipe"])):
        unique[row["metric"], row["recipe"]] = None
    for row in compatibility_rows:
        if row["level"] == "method":
            unique[row["plugin"], row["recipe"]] = None
    lines = tuple((Strong(name), f": {recipe}") for name, recipe in unique)
    text = paragraph("Everything that changes a number.")
    yield Fold(Heading(2, "Recipes"), (text, Bullets(lines)))


def _method_cells(row: Row) -> tuple[str, ...]:
    return (
        row["plugin"],
        method_name(row_line(row)),
        "yes" if row["recommended"] else "",
        heading_of(arm_of(row))[1] or "-",
        *_judged_cells(row),
        number(row["seconds"], digits=2),
        number(row["peak_memory_mib"], digits=0),
    )


def _judged_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of `_JUDGED`."""
    word, more = row["quality_word"] or "-", row["quality_more_prompts"]
    if more and word == "cannot be told":
        word += f" +{rounded(more)}"
    return (
        short_verdict(row) or "-",
        share(row) or "-",
        interval_of(row, "quality", digits=3, small_digits=2),
        word,
        interval_of(row, "place"),
    )


def _use(row: Row) -> str:
    return {"*": "yes", "=": "="}.get(mark_of(row), "")


def interval_of(row: Row, name: str, *, digits: int = 2, small_digits: int = 1) -> str:
    """Return '0.86 [0.80, 0.94]' of a quantity of a row, or a dash."""
    ends = row[f"{name}_low"], row[f"{name}_high"]
    return with_ends(row[name], ends, digits=digits, small_digits=small_digits)


def _main_table(group: Sequence[Row], chosen: Mapping[Role, str]) -> Block:
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


def _other_table(group: Sequence[Row], chosen: Mapping[Role, str]) -> Iterator[Block]:
    main = set(chosen.values())
    names = [name for name in sorted({row["metric"] for row in group}) if name not in main]
    if not names:
        return
    rows = [
        [*heading_of(arm)] + ["-" if n not in cells else with_interval(cells[n]) for n in names]
        for arm, cells in by_arm(group).items()
    ]
    found = table(["method", "at", *(f"{n} ({better_of(group, n)})" for n in names)], rows)
    yield Fold(
        Heading(3, f"{len(names)} other {'metric' if len(names) == 1 else 'metrics'}"), (found,)
    )
