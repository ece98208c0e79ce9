"""Paper mode: our numbers by the paper's references, next to the paper's numbers.

Tables 1 and 2 of X-Adapter, arXiv 2312.02238v3; printed only for the paper's pair of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.analysis import Arm, Scores
from bench.analysis.measures import choose
from bench.report.blocks import Block, Bullets, Heading, paragraph, table
from bench.report.sheets import heading_of
from bench.report.text import by_arm, with_interval
from bench.store import Row, grouped
from metrics.stats import clustered_mean
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


_LOWER, _HIGHER = "lower is better", "higher is better"
# of table 1, together; of table 2 all LoRAs
_POOLED_CONDITIONS = ("canny", "depth")


@dataclass(frozen=True)
class _Part:
    """One of both tables: its plugins' rows, those pooled, and the metric of its third column."""

    title: str
    third: str  # header of the third column
    rows: Sequence[Row]
    pooled: Sequence[str]  # plugins
    metric: str | None  # None: by plugin
    quoted: Sequence[tuple[str, ...]]


def paper_part(manifest: Manifest, summary: Sequence[Row], scores: Scores) -> Iterator[Block]:
    """Yield both tables, over this run's plugins of each kind, then over all of a kind together."""
    metrics = family_traits(manifest.family).paper_metrics
    is_papers = manifest.family == PAPER_FAMILY
    yield Heading(2, "The paper's protocol")
    yield paragraph(
        "CLIP is a raw cosine, style similarity the cosine to the base image of the same prompt "
        "and seed (none for the base row: it would be compared with itself). The paper gives no "
        "formula for the condition."
    )
    parts = [part for part in _parts(manifest, summary, metrics) if part.rows]
    for part in parts:
        yield Heading(3, part.title)
        header = (f"FID ({_LOWER})", f"CLIP ({_HIGHER})", part.third, "by metric")
        rows = [*_rows(part, metrics), *_pooled(part, metrics, scores)]
        quoted = _quoted(part.quoted) if is_papers else ()
        yield table(("plugin", "method", "at", *header), [*rows, *quoted])
    yield Bullets(tuple((note,) for note in _notes(parts, metrics, is_papers=is_papers)))


def _parts(
    manifest: Manifest, summary: Sequence[Row], metrics: PaperMetrics
) -> tuple[_Part, _Part]:
    conditions, styles = (_of_kinds(summary, kinds) for kinds in (_CONDITION_KINDS, _STYLE_KINDS))
    named = {spec.condition: spec.id for spec in manifest.plugins if spec.side == "base"}
    both = [named[name] for name in _POOLED_CONDITIONS if name in named]
    loras = sorted({row["plugin"] for row in styles if row["kind"] == "lora"})
    return (
        _Part(
            "Conditions (the paper's table 1)",
            "condition found again",
            conditions,
            both if len(both) == len(_POOLED_CONDITIONS) else (),
            None,
            TABLE_1,
        ),
        _Part(
            "Styles (the paper's table 2)",
            f"style similarity ({_HIGHER})",
            styles,
            loras if len(loras) > 1 else (),
            metrics.style,
            TABLE_2,
        ),
    )


def _of_kinds(summary: Sequence[Row], kinds: Sequence[str]) -> list[Row]:
    return [row for row in summary if row["kind"] in kinds]


def _rows(part: _Part, metrics: PaperMetrics) -> Iterator[list[str]]:
    for (plugin,), group in grouped(part.rows, "plugin").items():
        wanted = part.metric or _condition_metric(group, metrics)
        for arm, cells in by_arm(group).items():
            fid, third = cells.get(metrics.fid), cells.get(wanted)
            values = [_cell(cells.get(metrics.clip)), _cell(third)]
            yield [plugin, *heading_of(arm), _fid(fid), *values, _by(wanted, third)]


def _condition_metric(group: Sequence[Row], metrics: PaperMetrics) -> str:
    """Return the metric of a plugin's condition: the paper's for edges, else its function."""
    known = {row["metric"] for row in group if row["value"] is not None}
    edges = metrics.edges if metrics.edges in known else choose("function", known)
    return edges or metrics.edges


def _pooled(part: _Part, metrics: PaperMetrics, scores: Scores) -> Iterator[list[str]]:
    """Yield the means over the images of all pooled plugins, for settings that all of them have."""
    groups = [[row for row in part.rows if row["plugin"] == name] for name in part.pooled]
    if not groups:
        return
    wanted = {part.metric or _condition_metric(group, metrics) for group in groups}
    metric = wanted.pop() if len(wanted) == 1 else None  # means over two metrics mean nothing
    for place in by_arm(groups[0]):
        arms = [
            a for a in scores.arms if a.plugin in part.pooled and _setting(a) == _setting(place)
        ]
        if len(arms) < len(part.pooled):
            continue
        clip = _together(scores, arms, metrics.clip)
        third = _together(scores, arms, metric) if metric else "-"
        yield [" + ".join(part.pooled), *heading_of(place), "-", clip, third, metric or ""]


def _setting(arm: Arm) -> tuple[object, ...]:
    return arm.method, arm.t0, arm.plugin_scale, arm.adapter_scale, arm.adapter


def _together(scores: Scores, arms: Sequence[Arm], metric: str) -> str:
    """Return the mean over the images of several plugins, with an interval over their prompts."""
    cells = [scores.cells.get((arm, metric)) for arm in arms]
    if any(cell is None or not cell.by_pair for cell in cells):
        return "-"
    pairs = [pair for cell in cells if cell for pair in cell.by_pair.items()]
    found = [(value, scores.prompt_of[case_id]) for (case_id, _), value in pairs]
    values, prompts = [value for value, _ in found], [prompt for _, prompt in found]
    return with_interval(clustered_mean(values, prompts), digits=4)


def _notes(parts: Sequence[_Part], metrics: PaperMetrics, *, is_papers: bool) -> Iterator[str]:
    recipes = {row["recipe"] for part in parts for row in part.rows if row["metric"] == metrics.fid}
    yield (
        "FID is biased: with fewer images it is higher, so only values at equal numbers of images "
        "compare, and none with the paper's 5,000."
    )
    yield from (f"FID by {metrics.fid}: {recipe}." for recipe in sorted(recipes))
    if any(part.pooled for part in parts):
        yield (
            "Rows of several plugins are means over the images of all of them. They have no FID: "
            "it is a distance of one set of images, and distances are not averaged; nor are "
            "different metrics of the condition."
        )
    yield "Brackets are 95 % intervals of our means over prompts."
    if is_papers:
        yield (
            "The paper's rows: table 1 over 5,000 images of COCO val2017, canny and depth "
            "together; table 2 over two LoRAs, 20 prompts, 50 images each. Its t0 is 4/5. Its ± "
            "is the standard deviation over images, not an interval of the mean. Its FID is "
            "against images of the upgraded model without plugin, the condition and the style "
            f"similarity: {_HIGHER}."
        )


def _by(metric: str, row: Row | None) -> str:
    return metric if row is None else f"{metric} ({row['better']} is better)"


def _fid(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    return f"{with_interval(row, digits=2)} (n = {row['n']})"


def _cell(row: Row | None) -> str:
    return "-" if row is None else with_interval(row, digits=4)


def _quoted(rows: Sequence[tuple[str, ...]]) -> Iterator[list[str]]:
    for method, *values in rows:
        yield [_SOURCE, method, "t0 0.8" if method != "SD 1.5" else "", *values, ""]
