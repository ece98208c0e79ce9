"""Paper mode: our numbers by the paper's references, next to the paper's numbers.

Tables 1 and 2 of X-Adapter, arXiv 2312.02238v3; printed only for the paper's pair of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.measures import choose
from bench.report.blocks import Block, Heading, paragraph, table
from bench.report.sheets import heading_of
from bench.report.text import by_arm, with_interval
from bench.store import Row, grouped
from plugins_manifest.schema import Manifest
from plugins_manifest.schema.kinds import kinds_where
from runners.families import family_traits
from runners.families.traits import PaperMetrics

PAPER_FAMILY = "sd15-sdxl"
_SOURCE = "the paper (arXiv 2312.02238v3)"
_CONDITION_KINDS = kinds_where(lambda kind: kind.needs_condition)
# the paper's table of styles has no image prompts
_STYLE_KINDS = kinds_where(lambda kind: kind.changes_style and not kind.needs_reference)
# method, FID, CLIP score, condition reconstruction / style similarity
TABLE_1 = (
    ("SD 1.5", "33.09", "0.2426", "0.33 ± 0.16"),
    ("SDEdit + SDXL", "30.86", "0.2594", "0.14 ± 0.10"),
    ("X-Adapter", "30.95", "0.2632", "0.27 ± 0.13"),
)
TABLE_2 = (
    ("SD 1.5", "32.46", "0.25", "-"),
    ("SDEdit + SDXL", "30.11", "0.2584", "0.72"),
    ("X-Adapter", "29.88", "0.2640", "0.83"),
)


def paper_part(manifest: Manifest, summary: Sequence[Row]) -> Iterator[Block]:
    """Yield both tables, over this run's plugins of each kind."""
    metrics = family_traits(manifest.family).paper_metrics
    yield Heading(2, "The paper's protocol")
    yield paragraph(
        "FID is against images of the upgraded model without plugin, CLIP a raw cosine, style "
        "similarity the cosine to the base image of the same prompt and seed (none for the base "
        "row: it would be compared with itself). The paper gives no formula for the condition."
    )
    conditions = _of_kinds(summary, _CONDITION_KINDS)
    styles = _of_kinds(summary, _STYLE_KINDS)
    known = manifest.family == PAPER_FAMILY
    if conditions:
        yield Heading(3, "Conditions (the paper's table 1)")
        yield table(
            ("plugin", "method", "at", "FID", "CLIP", "condition found again", "by metric"),
            [*_rows(conditions, metrics, None), *(_quoted(TABLE_1) if known else ())],
        )
    if styles:
        yield Heading(3, "Styles (the paper's table 2)")
        yield table(
            ("plugin", "method", "at", "FID", "CLIP", "style similarity", "by metric"),
            [*_rows(styles, metrics, metrics.style), *(_quoted(TABLE_2) if known else ())],
        )
    if known:
        yield paragraph(
            "The paper's rows: table 1 over 5,000 images of COCO val2017, canny and depth "
            "together; table 2 over two LoRAs, 20 prompts, 50 images each. Its t0 is 4/5."
        )


def _of_kinds(summary: Sequence[Row], kinds: Sequence[str]) -> list[Row]:
    return [row for row in summary if row["kind"] in kinds]


def _rows(rows: Sequence[Row], metrics: PaperMetrics, third: str | None) -> Iterator[list[str]]:
    for (plugin,), group in grouped(rows, "plugin").items():
        known = {row["metric"] for row in group if row["value"] is not None}
        edges = metrics.edges if metrics.edges in known else choose("function", known)
        wanted = third or edges or metrics.edges
        for arm, cells in by_arm(group).items():
            values = [_cell(cells.get(name)) for name in (metrics.fid, metrics.clip, wanted)]
            yield [plugin, *heading_of(arm), *values, wanted]


def _cell(row: Row | None) -> str:
    return "-" if row is None else with_interval(row, digits=4)


def _quoted(rows: Sequence[tuple[str, ...]]) -> Iterator[list[str]]:
    for method, *values in rows:
        yield [_SOURCE, method, "t0 0.8" if method != "SD 1.5" else "", *values, ""]
