"""Compare X-Adapter with SDEdit: in words and as paired tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.analysis import Arm, Scores
from bench.report.blocks import Block, Bullets, Heading, Span, Strong, paragraph, table
from bench.report.sheets import heading_of
from bench.report.text import choose_metric, with_interval
from bench.store import Row
from metrics.stats import Estimate, holm


@dataclass(frozen=True)
class _Comparison:
    """X-Adapter and SDEdit at one t0 and plugin scale, in the plugin's function."""

    adapter: Arm
    sdedit: Arm
    metric: str
    better: str
    difference: Estimate
    p_value: float | None


def headline(scores: Scores, summary: Sequence[Row]) -> Iterator[Block]:
    """Yield the findings, in words and as paired tests."""
    plugins = plugins_of(summary)
    compared = [pair for plugin in plugins for pair in _comparisons(scores, summary, plugin)]
    yield Heading(2, "In words")
    yield Bullets(tuple(_in_words(p, scores, summary, compared) for p in plugins))
    if not compared:
        return
    known = [pair.p_value for pair in compared if pair.p_value is not None]
    adjusted = iter(holm(known))
    rows = []
    for pair in compared:
        p = "-" if pair.p_value is None else _p(next(adjusted))
        values = [
            with_interval(scores.estimate(a, pair.metric)) for a in (pair.sdedit, pair.adapter)
        ]
        difference = with_interval(pair.difference, signed=True)
        label = heading_of(pair.adapter)[1]
        rows.append([pair.adapter.plugin, pair.metric, label, *values, difference, p])
    yield Heading(3, "X-Adapter against SDEdit")
    header = ("plugin", "function", "at", "sdedit", "xadapter", "xadapter - sdedit", "p (Holm)")
    yield table(header, rows)
    yield paragraph(
        f"p: sign flips of whole prompts, two-sided, Holm-corrected over the {len(known)} tests of "
        "this table."
    )


def plugins_of(summary: Sequence[Row]) -> list[str]:
    """Return the plugins of a summary, in order."""
    return sorted({row["plugin"] for row in summary})


def of_plugin(plugin: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one plugin."""
    return [row for row in rows if row["plugin"] == plugin]


def _comparisons(scores: Scores, summary: Sequence[Row], plugin: str) -> list[_Comparison]:
    metric = choose_metric(of_plugin(plugin, summary), "function")
    if metric is None:
        return []
    arms = [arm for arm in scores.arms if arm.plugin == plugin and (arm, metric) in scores.cells]
    sdedit = {(arm.t0, arm.plugin_scale): arm for arm in arms if arm.method == "sdedit"}
    compared = []
    for arm in arms:
        other = sdedit.get((arm.t0, arm.plugin_scale))
        if arm.method == "xadapter" and other is not None:
            better = scores.cells[arm, metric].better
            difference = scores.difference(arm, other, metric)
            p_value = scores.p_value(arm, other, metric)
            compared.append(_Comparison(arm, other, metric, better, difference, p_value))
    return compared


def _in_words(
    plugin: str, scores: Scores, summary: Sequence[Row], compared: Sequence[_Comparison]
) -> tuple[Span, ...]:
    metric = choose_metric(of_plugin(plugin, summary), "function")
    if metric is None:
        return (Strong(plugin), ": no metric of this run measures its function.")
    arms = {arm.method: arm for arm in scores.arms if arm.plugin == plugin}
    base, floor = arms.get("base"), arms.get("floor")
    values = [
        f"{name} {with_interval(scores.estimate(arm, metric))}"
        for name, arm in (("base", base), ("floor", floor))
        if arm is not None and (arm, metric) in scores.cells
    ]
    sentence = f" ({metric}): {', '.join(values)}."
    if base is not None and floor is not None:
        better = scores.cells[base, metric].better if (base, metric) in scores.cells else "higher"
        sentence += _effect(scores.difference(base, floor, metric), better)
    verdicts = _verdicts([pair for pair in compared if pair.adapter.plugin == plugin])
    return (Strong(plugin), sentence + (f" X-Adapter {verdicts}." if verdicts else ""))


def _effect(difference: Estimate, better: str) -> str:
    if difference.low is None or difference.high is None:
        return ""
    if difference.low <= 0 if better == "higher" else difference.high >= 0:
        text = with_interval(difference, signed=True)
        return f" The plugin has no measurable effect over floor (base - floor {text})."
    return ""


def _verdicts(compared: Sequence[_Comparison]) -> str:
    """Return 'keeps more than SDEdit at t0 0.7, 0.9; ...', by whether each interval excludes 0."""
    places: dict[str, list[str]] = {}
    for pair in compared:
        low, high = pair.difference.low, pair.difference.high
        if pair.difference.value == 0:
            verdict = "equals SDEdit"
        elif low is None or high is None:
            verdict = "cannot be distinguished from SDEdit (no interval)"
        elif low > 0 or high < 0:
            good = (low > 0) == (pair.better == "higher")
            verdict = "keeps more than SDEdit" if good else "keeps less than SDEdit"
        else:
            verdict = "does not differ clearly from SDEdit"
        places.setdefault(verdict, []).append(heading_of(pair.adapter)[1])
    return "; ".join(f"{verdict} at {', '.join(at)}" for verdict, at in places.items())


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
