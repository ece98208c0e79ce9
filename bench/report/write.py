"""Write the report of a run: tables/report.md and report.html with image sheets and plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.analysis import Scores, read_run_scores, summarise, write_compatibility
from bench.analysis.words import is_judged
from bench.plan.metrics import Mode
from bench.publish.redaction import Privacy
from bench.render import read_audits, remarks
from bench.report import comparisons
from bench.report import sections as parts
from bench.report.blocks import Block, Cards, Heading, Picture
from bench.report.comparisons import plugins_of
from bench.report.paper import paper_part
from bench.report.plots import Plot, write_plots
from bench.report.sheets import MAX_ROWS, write_sheets
from bench.report.text import worst_first
from bench.report.writers import to_html, to_markdown
from bench.scoring import RunImages, read_images, read_scores
from bench.site import SitePlugin
from bench.site.gallery import Gallery
from bench.site.runs import site_plugins
from bench.store import Row, RunStore, records

MAX_PICTURED = 60  # plugins, worst first: a file with the pictures of more is too large to open


def write_report(
    run: RunStore | Path,
    scores: Scores | None = None,
    *,
    mode: Mode | None = None,
    png: bool = True,
) -> Path:
    """Write tables/report.md, report.html, image sheets and plots; return report.md's path.

    Missing tables are written first. `mode` None is the manifest's. Plots are SVG files, and PNG
    files too if `png`.
    """
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    scores = scores or read_run_scores(store)
    blocks = list(_blocks(store, scores, mode or store.manifest().mode, png=png))
    store.write_file(store.report_path("html"), to_html(blocks, store.manifest().name).encode())
    path = store.report_path("md")
    store.write_file(path, to_markdown(blocks, path.parent).encode())
    return path


def _blocks(store: RunStore, scores: Scores, mode: Mode, *, png: bool) -> Iterator[Block]:
    summary = records(store.summary()) or records(summarise(store, scores))
    found = records(store.compatibility()) or records(write_compatibility(store, scores))
    gallery, partial = read_images(store), remarks(store)
    with ThreadPoolExecutor(1) as pool:  # Pillow works outside Python's lock, matplotlib inside
        drawing = pool.submit(write_sheets, gallery, store)
        plots = _pictures(write_plots(found, store, png=png), store, "png" if png else "svg")
        sheets = drawing.result()
    plugins = worst_first(plugins_of(summary), found)
    yield Heading(1, store.manifest().name)
    yield comparisons.lead(found)
    yield from parts.settings_line(store, gallery)
    if is_judged(found):
        yield Cards(tuple(_carded(store, found, gallery)), MAX_PICTURED)
    yield from comparisons.in_words(found)
    yield from parts.compatibility(found, plugins, plots.get("", ()))
    yield from comparisons.against_sdedit(scores, summary, plugins)
    if mode == "paper":
        yield from paper_part(store.manifest(), summary, scores)
    yield from parts.how_to_read(row["method"] for row in summary)
    yield from parts.load_audit(store)
    for place, plugin in enumerate(plugins):
        pictures = [*plots.get(plugin, ()), *_sheet(plugin, sheets)]
        yield from parts.plugin_part(
            plugin,
            summary,
            found,
            [replace(picture, is_embedded=place < MAX_PICTURED) for picture in pictures],
            remark=partial.get(plugin),
            sheet_rows=MAX_ROWS,
        )
    yield from parts.failures(store)
    yield from parts.missing(store)
    yield from parts.recipes(summary, found)


def _carded(store: RunStore, found: Sequence[Row], images: RunImages) -> list[SitePlugin]:
    """Return the plugins of a run as cards, worst first."""
    gallery = Gallery(images, read_scores(store), Privacy(), run="")
    audits = {name: audit.summary() for name, audit in read_audits(store).items()}
    return site_plugins(found, store.manifest().as_data(), gallery, audits.get)


def _pictures(
    plots: Mapping[str, Sequence[Plot]], store: RunStore, suffix: str
) -> dict[str, list[Picture]]:
    return {
        plugin: [Picture(store.plots_dir / f"{p.name}.{suffix}", p.alt, p.svg) for p in group]
        for plugin, group in plots.items()
    }


def _sheet(plugin: str, sheets: Mapping[str, Path]) -> list[Picture]:
    alt = f"{plugin}: images, prompts by methods and t0"
    return [Picture(sheets[plugin], alt)] if plugin in sheets else []
