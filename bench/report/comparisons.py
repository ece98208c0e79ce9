"""The findings of a run: the answers in words, and X-Adapter against SDEdit as paired tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.analysis import Arm, Scores, answers, run_sentence
from bench.analysis.glossary import method_name
from bench.analysis.words import compared, is_judged
from bench.report.blocks import Block, Bullets, Fold, Heading, Lead, Span, Strong, paragraph, table
from bench.report.sheets import heading_of
from bench.report.text import NO_VERDICTS, choose_metric, with_interval
from bench.store import Row
from metrics.stats import Estimate, holm


@dataclass(frozen=True)
class _Comparison:
    """X-Adapter and SDEdit at one t0 and plugin scale, in the plugin's function.

    `p` is Holm's over all comparisons of the run; None with too few prompts.
    """

    adapter: Arm
    sdedit: Arm
    metric: str
    better: str
    difference: Estimate
    p: float | None

    @property
    def at(self) -> str:
        """The setting of both, and the adapter where the run has several."""
        adapter, at = self.adapter.adapter, heading_of(self.adapter)[1]
        return at if adapter is None else f"{at} ({adapter})"

    @property
    def claim(self) -> str:
        """Return what the corrected test allows to say."""
        return compared(self.difference.value, self.p, better=self.better)


def lead(rows: Sequence[Row]) -> Lead:
    """Return the sentence of a run's rows of `schema.COMPATIBILITY`."""
    if is_judged(rows) or not rows:
        return Lead(run_sentence(answers(rows)))
    return Lead(NO_VERDICTS)


def in_words(rows: Sequence[Row]) -> Iterator[Block]:
    """Yield the answer for each plugin of rows of `schema.COMPATIBILITY`, worst first."""
    if is_judged(rows):
        found = answers(rows)
        lines = tuple((Strong(answer.plugin), f" {answer.summary}.") for answer in found)
        yield Fold(Heading(2, "In words"), (Bullets(lines),))


def against_sdedit(
    scores: Scores, summary: Sequence[Row], plugins: Sequence[str]
) -> Iterator[Block]:
    """Yield X-Adapter's paired comparisons with SDEdit: a claim only where its test allows it."""
    pairs = _corrected([pair for plugin in plugins for pair in _pairs(scores, summary, plugin)])
    if not pairs:
        return
    yield Heading(2, "X-Adapter against SDEdit")
    by_plugin = [(name, [p for p in pairs if p.adapter.plugin == name]) for name in plugins]
    yield Bullets(tuple(_claims(name, group) for name, group in by_plugin if group))
    rows = []
    for pair in pairs:
        values = [
            with_interval(scores.estimate(a, pair.metric)) for a in (pair.sdedit, pair.adapter)
        ]
        difference = with_interval(pair.difference, signed=True)
        metric, at = f"{pair.metric} ({pair.better} is better)", pair.at
        rows.append([pair.adapter.plugin, metric, at, *values, difference, _p(pair.p)])
    names = method_name("sdedit"), method_name("xadapter")
    header = ("plugin", "function", "at", *names, f"{names[1]} - {names[0]}", "p (Holm)")
    yield table(header, rows)
    n_tests = sum(pair.p is not None for pair in pairs)
    yield paragraph(
        f"p: sign flips of whole prompts, two-sided, Holm-corrected over the {n_tests} tests of "
        "this table; a difference is claimed where p is at most .05. An interval is of its row "
        "alone, so it may exclude 0 where p does not allow a claim."
    )


def plugins_of(summary: Sequence[Row]) -> list[str]:
    """Return the plugins of a summary, in order."""
    return sorted({row["plugin"] for row in summary})


def of_plugin(plugin: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one plugin."""
    return [row for row in rows if row["plugin"] == plugin]


def _pairs(scores: Scores, summary: Sequence[Row], plugin: str) -> list[_Comparison]:
    """Return the comparisons of one plugin, with p before the correction."""
    metric = choose_metric(of_plugin(plugin, summary), "function")
    if metric is None:
        return []
    arms = [arm for arm in scores.arms if arm.plugin == plugin and (arm, metric) in scores.cells]
    sdedit = {(arm.t0, arm.plugin_scale): arm for arm in arms if arm.method == "sdedit"}
    pairs = []
    for arm in arms:
        other = sdedit.get((arm.t0, arm.plugin_scale))
        if arm.method == "xadapter" and other is not None:
            better = scores.cells[arm, metric].better
            difference = scores.difference(arm, other, metric)
            p = scores.p_value(arm, other, metric)
            pairs.append(_Comparison(arm, other, metric, better, difference, p))
    return pairs


def _corrected(pairs: Sequence[_Comparison]) -> list[_Comparison]:
    adjusted = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    return [replace(pair, p=None if pair.p is None else next(adjusted)) for pair in pairs]


def _claims(plugin: str, pairs: Sequence[_Comparison]) -> tuple[Span, ...]:
    """Return 'keeps more than SDEdit at t0 0.9; is not told apart from SDEdit at t0 0.5'."""
    places: dict[str, list[str]] = {}
    for pair in pairs:
        places.setdefault(pair.claim, []).append(pair.at)
    texts = [f"{claim} SDEdit at {', '.join(at)}" for claim, at in places.items()]
    return (Strong(plugin), f" ({pairs[0].metric}): X-Adapter {'; '.join(texts)}.")


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
