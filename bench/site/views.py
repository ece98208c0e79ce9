"""What the templates show: cards, bars, picture strips and tables as plain values.

Every sentence and number comes from `bench.analysis.words`; nothing is computed here but places on
a drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from bench.analysis import Arm
from bench.analysis.glossary import function_word, glossary, method_name
from bench.analysis.numbers import number
from bench.analysis.summary import arm_of
from bench.analysis.words import (
    MEANINGS,
    REFERENCES,
    PluginWord,
    keeps,
    label_of,
    look,
    mark_of,
    method_word,
    pace,
    row_line,
    share,
    short_verdict,
    verdict_of,
)
from bench.registry import method_order
from bench.site.addresses import Addresses
from bench.site.charts import function_chart, quality_chart
from bench.site.examples import TAGS, Example, Shot, base_of, worst_first
from bench.site.rendering import drawing
from bench.site.runs import SitePlugin, SiteRun
from bench.store import Row

View = dict[str, Any]
ICONS: Mapping[PluginWord, str] = {
    "works": "✓",
    "degraded": "◐",
    "lost": "✕",
    "open": "?",
    "no effect": "·",
    "not measured": "·",
}
_MOST_LOSSES = 3
_LOW, _HIGH = -0.1, 1.3  # share kept at the ends of a bar
_BAR_LEFT, _BAR_WIDTH = 4.0, 292.0  # of 300


@dataclass(frozen=True)
class Picture:
    """Links to a picture, small and whole, and the size to reserve on a page."""

    src: str
    full: str
    width: int
    height: int


class PictureLinks(Protocol):
    """Where the pictures of a page lie."""

    def picture(self, shot: Shot, *, page: str) -> Picture | None:
        """Return an image's picture; None if it cannot be read."""
        ...

    def condition(self, example: Example, *, page: str) -> Picture | None:
        """Return the picture of an example's condition; None without one."""
        ...


class Views:
    """Makes the views of one page; links are relative to it."""

    def __init__(self, pictures: PictureLinks, addresses: Addresses, page: str) -> None:
        self._pictures, self._addresses, self.page = pictures, addresses, page

    def link(self, name: str) -> str:
        """Return the link to a file of the site."""
        return self._addresses.link(name, page=self.page)

    def plugin_link(self, run: SiteRun, plugin: SitePlugin) -> str:
        """Return the link to a plugin's page."""
        return self._addresses.plugin_page(run, plugin, page=self.page)

    def card(self, run: SiteRun, plugin: SitePlugin) -> View:
        """Return one plugin of the grid."""
        shots = [self.shot(shot, title, "") for title, shot in three(plugin)]
        return card(plugin, shots, href=self.plugin_link(run, plugin))

    def shot(self, shot: Shot, title: str, word: str) -> View:
        """Return one image with its words; without a picture if it is missing."""
        known = None if shot.missing else self._pictures.picture(shot, page=self.page)
        return shot_view(shot, title, word, known)

    def strip(self, plugin: SitePlugin) -> View:
        """Return the picture strip: columns of settings in a fixed order, a row for each prompt."""
        arms = columns(plugin)
        rows = [self._row(example, arms, plugin) for example in plugin.examples]
        return {
            "columns": [self._column(arm, plugin) for arm in arms],
            "with_condition": any(row["condition"] for row in rows),
            "rows": rows,
            "tags": list(dict.fromkeys(tag for row in rows for tag in row["tags"])),
            "t0s": sorted({arm.t0 for arm in arms if arm.t0 is not None}),
            "t0": plugin.shown["t0"],
        }

    def losses(self, plugin: SitePlugin, strip: View) -> list[View]:
        """Return the prompts of a strip that lost most: before, after, and their difference."""
        metric, arm = plugin.shown["function_metric"], arm_of(plugin.shown)
        scores = {
            (str(i), example.seed): {s.arm: s.score for s in example.shots if s.score is not None}
            for i, example in enumerate(plugin.examples)
        }
        lost = [pair for gain, pair in worst_first(scores, plugin.shown) if gain < 0 and metric]
        found = []
        for place, _ in lost[:_MOST_LOSSES]:
            example, row = plugin.examples[int(place)], strip["rows"][int(place)]
            base = base_of([shot.arm for shot in example.shots], arm)
            cells = dict(zip(columns(plugin), row["cells"], strict=True))
            before, after = cells.get(base) if base else None, cells.get(arm)
            if before and after and before["src"] and after["src"]:
                found.append({"prompt": row["prompt"], "before": before, "after": after})
        return found

    def _column(self, arm: Arm, plugin: SitePlugin) -> View:
        return {
            "title": heading(arm),
            "detail": detail(arm),
            "meaning": dict(glossary()).get(method_name(arm.method), ""),
            "t0": None if arm.t0 is None else f"{arm.t0:g}",
            "is_shown": arm == arm_of(plugin.shown),
        }

    def _row(self, example: Example, arms: Sequence[Arm], plugin: SitePlugin) -> View:
        word = function_word(plugin.answer.kind)
        cells = []
        for arm in arms:
            shot = example.shot_of(arm)
            title = ", ".join(part for part in (heading(arm), detail(arm)) if part)
            cells.append(None if shot is None else self.shot(shot, title, word))
        condition = self._pictures.condition(example, page=self.page)
        return {
            "title": ", ".join(example.titles),
            "tags": list(dict.fromkeys(TAGS.get(t, "examples") for t in example.titles)),
            "prompt": example.prompt,
            "seed": example.seed,
            "condition": None if condition is None else asdict(condition),
            "cells": cells,
        }


def card(plugin: SitePlugin, shots: Sequence[View], *, href: str) -> View:
    """Return a plugin's card with its images, linked to where the whole plugin is described."""
    answer = plugin.answer
    return {
        "name": plugin.name,
        "kind": answer.kind,
        "search": plugin.search_text,
        "href": href,
        **verdict(answer.word),
        "advice": answer.advice,
        "keeps": kept(plugin),
        "look": "" if answer.row is None else look(answer.row),
        "pace": pace(plugin.shown, plugin.settings),
        "bar": bar(plugin),
        "prompt": "" if plugin.typical is None else plugin.typical.prompt,
        "shots": list(shots),
    }


def shot_view(shot: Shot, title: str, word: str, known: Picture | None) -> View:
    """Return one image with its words; without a picture if it is missing."""
    return {
        "title": title,
        **_linked(known),
        "trial": shot.trial_id,
        "missing": shot.missing or "not readable",
        "score": "" if shot.score is None else f"{word} {number(shot.score, digits=2)}",
    }


def charts(plugin: SitePlugin) -> list[View]:
    """Return the drawings of a plugin that say something."""
    drawn = [chart for chart in (function_chart(plugin), quality_chart(plugin)) if chart]
    return [{**chart, "image": drawing("drawing", chart=chart)} for chart in drawn]


def _linked(known: Picture | None) -> View:
    return dict.fromkeys(("src", "full", "width", "height")) if known is None else asdict(known)


def verdict(word: PluginWord) -> View:
    """Return a verdict with its icon, meaning and class."""
    name = word.replace(" ", "-")
    return {"word": word, "icon": ICONS[word], "meaning": MEANINGS[word], "class": f"is-{name}"}


def three(plugin: SitePlugin) -> list[tuple[str, Shot]]:
    """Return before, after and without plugin: images of the typical prompt."""
    example, arm = plugin.typical, arm_of(plugin.shown)
    if example is None:
        return []
    after = f"After: {method_name(plugin.shown['method'])}"
    if plugin.shown["t0"] is not None:
        after += f", t0 {plugin.shown['t0']:g}"
    found = (
        ("Before: old model", example.before(arm)),
        (after, example.shot_of(arm)),
        ("Without plugin", example.shot("floor")),
    )
    return [(title, shot) for title, shot in found if shot is not None]


def kept(plugin: SitePlugin) -> str:
    """Return what the shown setting keeps, with its name where it is not one to use."""
    text = keeps(plugin.shown)
    is_advice = plugin.answer.row is not None or not text
    return text if is_advice else f"{text} with {label_of(plugin.shown)}"


def bar(plugin: SitePlugin) -> View | None:
    """Return the places of a bar from 0, without plugin, to 1, at home; None if not known."""
    row = plugin.shown
    if row["retention"] is None:
        return None
    ends = row["retention_low"], row["retention_high"]
    native = plugin.reference("oracle")
    ceiling = None if native is None else native["retention"]
    drawn = {
        "zero": _place(0.0),
        "one": _place(1.0),
        "value": _place(row["retention"]),
        "ends": None if None in ends else [_place(end) for end in ends],
        "native": None if ceiling is None else _place(ceiling),
    }
    return {**drawn, "text": kept(plugin), "image": drawing("bar", bar=drawn)}


def _place(value: float) -> float:
    inside = min(max(value, _LOW), _HIGH)
    return round(_BAR_LEFT + _BAR_WIDTH * (inside - _LOW) / (_HIGH - _LOW), 1)


def columns(plugin: SitePlugin) -> list[Arm]:
    """Return the settings of a strip: before, the methods by t0, native, without plugin."""
    places = {"base": 0, "oracle": 2, "floor": 3, "base-floor": 4}
    arms = dict.fromkeys(shot.arm for example in plugin.examples for shot in example.shots)
    return sorted(arms, key=lambda arm: places.get(arm.method, 1))


def heading(arm: Arm) -> str:
    """Return the heading of a column."""
    return "Before" if arm.method == "base" else method_name(arm.method, arm.adapter)


def detail(arm: Arm) -> str:
    """Return the settings of a column: t0, and scales that are not 1."""
    parts = [] if arm.t0 is None else [f"t0 {arm.t0:g}"]
    parts += [method_name("base").lower()] if arm.method == "base" else []
    for name, scale in (("plugin", arm.plugin_scale), ("adapter", arm.adapter_scale)):
        parts += [] if scale in (None, 1.0) else [f"{name} {scale:g}"]
    return ", ".join(parts)


def settings_table(plugin: SitePlugin) -> list[View]:
    """Return the settings of a plugin with their verdicts, references last."""
    judged = [row for row in plugin.settings if row["method"] not in REFERENCES]
    others = [row for row in plugin.settings if row["method"] in REFERENCES]
    return [
        {
            "mark": {"*": "use", "=": "equal"}.get(mark_of(row), ""),
            "setting": label_of(row) if row in judged else method_name(row["method"]),
            "verdict": verdict_of(row) or "reference",
            "keeps": share(row),
            "look": look(row),
            "pace": pace(row, plugin.settings),
        }
        for row in (*judged, *others)
    ]


def matrix(run: SiteRun, plugins: Sequence[SitePlugin], views: Views) -> View:
    """Return plugins by methods: the verdict, the share kept and t0 of each method's setting."""
    methods = method_order(row_line(row) for plugin in plugins for row in plugin.methods)
    rows = []
    for plugin in plugins:
        by_method = {row_line(row): row for row in plugin.methods}
        rows.append(
            {
                "name": plugin.name,
                "href": views.plugin_link(run, plugin),
                "search": plugin.search_text,
                "word": plugin.answer.word,
                "cells": [_matrix_cell(plugin, by_method.get(method)) for method in methods],
            }
        )
    return {"methods": [method_name(method) for method in methods], "rows": rows}


def _matrix_cell(plugin: SitePlugin, row: Row | None) -> View | None:
    if row is None:
        return None
    word = method_word(row, plugin.settings)
    return {
        **verdict(word),
        "verdict": short_verdict(row) or word,
        "share": share(row),
        "detail": detail(arm_of(row)),
    }
