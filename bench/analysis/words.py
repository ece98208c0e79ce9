"""What may be claimed of a run, in words: one voice for console, report, leaderboard and README.

Every sentence is made of rows of `schema.COMPATIBILITY`, whose verdicts are corrected tests; no
surface compares numbers by itself. Order is worst first, so that nobody has to look for a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.numbers import number
from bench.registry import REFERENCES, line_of, parts_of_line
from bench.store import Row, grouped

PluginWord = Literal["lost", "degraded", "open", "works", "no effect", "not measured"]
WORDS: tuple[PluginWord, ...] = ("lost", "degraded", "open", "works", "no effect", "not measured")
# what each word means, for legends and the glossary; the shares are in the recipe
MEANINGS: Mapping[PluginWord, str] = {
    "works": "shown to keep most of its effect on the base model",
    "degraded": "shown to keep a part of its effect, neither most nor little",
    "lost": "shown to keep little of its effect, or none",
    "open": "the images are not enough to tell",
    "no effect": "has no measurable effect on the base model either: not incompatible",
    "not measured": "no metric of the run measures what it is for",
}
DifferenceWord = Literal["worse", "not tested", "not told apart", "better"]
DIFFERENCES: tuple[DifferenceWord, ...] = ("worse", "not tested", "not told apart", "better")
_MAX_NAMES = 5
_MOST_PROMPTS = 10_000  # an estimate above says only that
# in sentences and as headings of columns; a method that is not listed keeps its name
METHOD_NAMES: Mapping[str, str] = {
    "base": "Base model",
    "hires": "Hires fix",
    "direct": "Direct load",
    "converted": "Converted file",
    "sdedit": "SDEdit",
    "xadapter": "X-Adapter",
    "xadapter-truncated": "X-Adapter, truncated stage 1",
    "xadapter-unplugged": "X-Adapter, plugin off in stage 2",
    "xadapter-swapped": "X-Adapter, plugin swapped in stage 2",
    "delta": "Delta Sampling",
    "oracle": "Native plugin",
    "floor": "Without plugin",
    "base-floor": "Base model without plugin",
}


@dataclass(frozen=True)
class Answer:
    """The answer for one plugin: does it survive, and with what?

    `row` is the setting to use (or None), `equal` the settings not told from the best.
    """

    plugin: str
    kind: str
    word: PluginWord
    row: Row | None
    equal: tuple[Row, ...]
    reason: str | None

    @property
    def sentence(self) -> str:
        """Return the whole answer in one sentence: verdict, share kept, quality, advice."""
        return f"{self.plugin} {self.summary}"

    @property
    def summary(self) -> str:
        """Return the answer without the plugin's name."""
        if self.row is None:
            return f"{verb_of(self.word)}: {self.reason}" if self.reason else verb_of(self.word)
        facts = ", ".join(part for part in (keeps(self.row), look(self.row)) if part)
        more = self.row["verdict_more_prompts"] if self.word == "open" else None
        first = verb_of(self.word) + (f" (about {rounded(more)} more prompts)" if more else "")
        first += f" with {label_of(self.row)}" + (f": {facts}" if facts else "")
        return f"{first}; {self.advice}"

    @property
    def advice(self) -> str:
        """Return which setting to use, or that several cannot be told apart."""
        if self.row is None:
            return f"nothing to recommend: {self.reason}" if self.reason else "nothing to recommend"
        others = self.other_equal
        if self.word == "lost":
            return "no setting is shown to be better"
        if not others:
            return f"use {label_of(self.row)}"
        n = len(others) + 1
        return f"no clear winner among {n} settings, {label_of(self.row)} is {_why(self)}"

    @property
    def other_equal(self) -> list[str]:
        """Return the other settings that are not told from the best, as labels."""
        return [label_of(row) for row in self._equal_rows]

    @property
    def _equal_rows(self) -> list[Row]:
        own = None if self.row is None else setting_id(self.row)
        return [row for row in self.equal if setting_id(row) != own]

    def as_data(self) -> Row:
        """Return plain data for `--json`: words, the setting to use, and its numbers with ends."""
        row = self.row or {}
        return {
            "plugin": self.plugin,
            "kind": self.kind,
            "word": self.word,
            "sentence": self.sentence,
            "setting": setting_id(self.row) if self.row else None,
            **{name: row.get(name) for name in _IN_DATA},
            "equal_settings": [setting_id(row) for row in self._equal_rows],
            "reason": self.reason,
        }


def answers(rows: Sequence[Row]) -> list[Answer]:
    """Return the answer for each plugin of rows of `schema.COMPATIBILITY`, worst first.

    Rows of versions without verdicts give no answer.
    """
    settings = [row for row in rows if row["level"] == "setting"]
    found = [_answer(group) for group in grouped(settings, "plugin").values()]
    return sorted(
        (answer for answer in found if answer is not None),
        key=lambda a: (WORDS.index(a.word), -_kept(a), a.plugin),
    )


def run_sentence(found: Sequence[Answer], *, upgraded: str = "the upgraded model") -> str:
    """Return how many plugins keep working, and what is with the others."""
    if not found:
        return "No plugin was judged."
    counts = {word: sum(answer.word == word for answer in found) for word in WORDS}
    n = len(found)
    noun = "plugin" if n == 1 else "plugins"
    verb = "is" if 1 in (n, counts["works"]) else "are"
    rest = [
        text for word, text in _REST.items() if counts[word] for text in [_n(counts[word], text)]
    ]
    return (
        "; ".join(
            [f"{counts['works']} of {n} {noun} {verb} shown to keep working on {upgraded}", *rest]
        )
        + "."
    )


def run_count(found: Sequence[Answer]) -> str:
    """Return '3 of 4 plugins work': the run's sentence for a badge or a title."""
    n = len(found)
    n_working = sum(answer.word == "works" for answer in found)
    return f"{n_working} of {n} {'plugin' if n == 1 else 'plugins'} {_agreed(n_working, n)}"


def method_name(line: str, adapter: str | None = None) -> str:
    """Return the plain name of a method, or of a line, for sentences and headings.

    With the adapter where there are several: 'X-Adapter (mine)'.
    """
    method, own = parts_of_line(line)
    return line_of(METHOD_NAMES.get(method, method), adapter or own)


def row_line(row: Row) -> str:
    """Return the line of a row: its method, with the adapter where there are several."""
    return line_of(row["method"] or "", row.get("adapter"))


def label_of(row: Row) -> str:
    """Return a setting in words: 'X-Adapter at t0 0.7', with scales that are not 1."""
    return _with_knobs(method_name(row_line(row)), row)


def setting_id(row: Row) -> str:
    """Return a setting for scripts: 'xadapter at t0 0.7', with the method as in commands."""
    return _with_knobs(row_line(row), row)


def _with_knobs(text: str, row: Row) -> str:
    if row["t0"] is not None:
        text += f" at t0 {row['t0']:g}"
    for name, word in (("plugin_scale", "plugin"), ("adapter_scale", "adapter")):
        if row[name] not in (None, 1.0):
            text += f", {word} {row[name]:g}"
    return text


def keeps(row: Row) -> str:
    """Return 'keeps 90 % (85 to 95)' of a row; "" where its retention is not known."""
    if row["retention"] is None:
        return ""
    text = f"keeps {percent(row['retention'])}"
    ends = row["retention_low"], row["retention_high"]
    return text if None in ends else f"{text} ({' to '.join(_whole(end) for end in ends)})"


def look(row: Row) -> str:
    """Return what the images look like; "" where that was not measured."""
    word = row["quality_word"]
    if word is None:
        return ""
    if word == "cannot be told":
        more = row["quality_more_prompts"]
        why = more_prompts(more) if more else "old and new are not told apart"
        return f"quality not told ({why})"
    text = "images between both models'" if word == "between" else f"images {word}'s"
    return text if row["quality_reference"] == "segment" else f"{text} own (without plugin)"


def verdict_of(row: Row) -> str:
    """Return a row's verdict: 'works', or 'open, about 40 more prompts'; "" for references."""
    word, more = row["verdict"], row["verdict_more_prompts"]
    if word != "open":
        return str(word or "")
    if more:
        return f"open, {more_prompts(more)}"
    return "open" if row["verdict_reason"] is None else f"open: {row['verdict_reason']}"


def short_verdict(row: Row) -> str:
    """Return a row's verdict for a narrow column: 'works', or 'open +40'; "" for references."""
    word, more = row["verdict"], row["verdict_more_prompts"]
    if word == "open" and row["status"] == "no effect":
        return "no effect"
    if word != "open" or not more:
        return str(word or "")
    if more > _MOST_PROMPTS:
        return f"open +{_MOST_PROMPTS // 1000}k+"
    return f"open +{rounded(more)}" if more < 1000 else f"open +{more / 1000:.2g}k"


def pace(row: Row, settings: Iterable[Row]) -> str:
    """Return '0.67 s an image, 1.9 x the fastest setting'; "" where no time is known."""
    if row["seconds"] is None:
        return ""
    text = f"{number(row['seconds'], digits=2)} s an image"
    judged = [r["seconds"] for r in settings if r["method"] not in REFERENCES and r["seconds"]]
    if row["method"] in REFERENCES or not judged:
        return text
    times = row["seconds"] / min(judged)
    return f"{text}, " + ("the fastest setting" if times == 1 else f"{times:.1f} x the fastest")


def method_word(method: Row, settings: Iterable[Row]) -> PluginWord:
    """Return the word for one method of a plugin: its row has no verdict where none can be used."""
    own = [row for row in settings if row_line(row) == row_line(method)]
    return _word(own or [method], method if method["verdict"] else None)[0]


def mark_of(row: Row) -> str:
    """Return '*' for the setting to use, '=' for one that is not told from the best, or ''."""
    return "*" if row["recommended"] else "=" if row["among_best"] else ""


def share(row: Row) -> str:
    """Return '90 % [85, 95]', the share of the effect that a row keeps; "" if it is not known."""
    if row["retention"] is None:
        return ""
    ends = row["retention_low"], row["retention_high"]
    inside = "" if None in ends else f" [{', '.join(_whole(end) for end in ends)}]"
    return percent(row["retention"]) + inside


def compared(difference: float | None, p: float | None, *, better: str, level: float = 0.05) -> str:
    """Return what a corrected two-sided p allows to say of one arm's function against another's."""
    if difference is None or p is None or p > level:
        return "is not told apart from"
    return "keeps more than" if (difference > 0) == (better == "higher") else "keeps less than"


def difference_word(value: float | None, p: float | None, *, level: float = 0.05) -> DifferenceWord:
    """Return what Holm's two-sided p allows to say of a run against its baseline.

    A value above 0 is better; without a p there were too few prompts for a test.
    """
    if value is None or p is None:
        return "not tested"
    if p > level:
        return "not told apart"
    return "worse" if value < 0 else "better"


def comparison_sentence(
    baseline: str,
    found: Mapping[str, Sequence[tuple[str, DifferenceWord]]],
    *,
    noun: str = "plugin",
    unfinished: Sequence[str] = (),
) -> str:
    """Return how runs differ from a baseline; `found` has the names and words of each run.

    Runs without a difference are named together, unfinished ones last.
    """
    if baseline in unfinished:
        return f"{baseline} is unfinished: nothing is compared with it yet."
    clauses: list[str] = []
    most = _MAX_NAMES if len(found) < 3 else 2
    equal: dict[int, list[str]] = {}
    for run, rows in found.items():
        if any(word != "not told apart" for _, word in rows):
            clauses.append(f"{run} is {_differences(rows, noun, most)}")
        elif rows:
            equal.setdefault(len(rows), []).append(run)
    for n, runs in equal.items():
        verb = "is" if len(runs) == 1 else "are"
        clauses.append(f"{_and(runs)} {verb} not told apart on any of {_nouns(n, noun)}")
    bare = [run for run, rows in found.items() if not rows]
    if bare:
        clauses.append(f"{_and(bare)} {_have(bare)} nothing to compare with it")
    if unfinished:
        are = "is" if len(unfinished) == 1 else "are"
        clauses.append(f"{_and(unfinished)} {are} unfinished and not compared")
    return f"Against {baseline}, {'; '.join(clauses)}."


def is_judged(rows: Iterable[Row]) -> bool:
    """Return whether rows of `schema.COMPATIBILITY` have verdicts; earlier versions wrote none."""
    return any(row["verdict"] is not None for row in rows)


def verb_of(word: PluginWord) -> str:
    """Return a plugin's word as the verb of a sentence."""
    return _VERBS[word]


def percent(value: float) -> str:
    """Return a share as whole per cent."""
    return f"{_whole(value)} %"


def more_prompts(n: float) -> str:
    """Return 'about 40 more prompts': an estimate; beyond 10,000 only that."""
    return _more(n, "prompts")


def more_votes(n: float) -> str:
    """Return 'about 40 more votes': an estimate; beyond 10,000 only that."""
    return _more(n, "votes")


def rounded(n: float) -> str:
    """Return a number of prompts to two digits; 10,000+ beyond."""
    if n > _MOST_PROMPTS:
        return f"{_MOST_PROMPTS:,}+"
    digits = len(str(int(n)))
    return f"{round(int(n), 2 - digits) if digits > 2 else int(n):,}"


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows of one plugin, best first by the number for sorting; references are left out."""
    judged = [row for row in rows if row["method"] not in REFERENCES]
    return sorted(
        judged,
        key=lambda r: (-(r["sort_value"] if r["sort_value"] is not None else -1.0), setting_id(r)),
    )


def sort_text(row: Row) -> str:
    """Return the number for sorting with its interval, where it has one."""
    value, low, high = (row[f"sort_value{end}"] for end in ("", "_low", "_high"))
    text = number(value, digits=2)
    return text if None in (low, high) else f"{text} [{low:.2f}, {high:.2f}]"


_VERBS: Mapping[PluginWord, str] = {
    "works": "works",
    "degraded": "is degraded",
    "lost": "is lost",
    "open": "is open",
    "no effect": "has no measurable effect on the base model either",
    "not measured": "was not measured",
}
_REST: Mapping[PluginWord, str] = {
    "lost": "lost",
    "degraded": "degraded",
    "open": "needs more prompts",
    "no effect": "without effect on the base model",
    "not measured": "not measured",
}


_IN_DATA = (
    *("method", "t0", "plugin_scale", "adapter_scale", "adapter"),
    *("verdict_p", "verdict_more_prompts"),
    *(f"retention{end}" for end in ("", "_low", "_high")),
    *("quality_word", "quality_metric"),
    *(f"quality{end}" for end in ("", "_low", "_high")),
    *("quality_more_prompts", "n_prompts", "seconds"),
)


def _more(n: float, what: str) -> str:
    if n > _MOST_PROMPTS:
        return f"more than {_MOST_PROMPTS:,} more {what}"
    return f"about {rounded(n)} more {what}"


def _differences(rows: Sequence[tuple[str, DifferenceWord]], noun: str, most: int) -> str:
    """Return 'worse on 2 of 12 plugins (a, b), better on 1 (c) and not told apart on 9'."""
    parts = []
    for word in ("worse", "better", "not tested", "not told apart"):
        names = [name for name, own in rows if own == word]
        if not names:
            continue
        n = f"{len(names):,}"
        n += "" if parts else f" of {_nouns(len(rows), noun)}"
        few = ": too few prompts" if word == "not tested" else ""
        named = f" ({_listed(names, most)}{few})" if word != "not told apart" else ""
        parts.append(f"{word} on {n}{named}")
    return _and(parts)


def _and(names: Sequence[str]) -> str:
    """Return 'a, b and c', or 'a, b and 7 more'."""
    if len(names) > _MAX_NAMES:
        return _listed(names)
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _listed(names: Sequence[str], most: int = _MAX_NAMES) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _nouns(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _whole(value: float) -> str:
    return number(value * 100, digits=0)


def _agreed(n_working: int, n: int) -> str:
    return "works" if 1 in (n, n_working) else "work"


def _n(count: int, text: str) -> str:
    if text == "needs more prompts" and count > 1:
        text = "need more prompts"
    return f"{count} {text}"


def _answer(rows: Sequence[Row]) -> Answer | None:
    judged = [row for row in rows if row["method"] not in REFERENCES]
    if not judged or all(row["verdict"] is None for row in judged):
        return None
    chosen = next((row for row in judged if row["recommended"]), None)
    equal = tuple(row for row in judged if row["among_best"])
    word, reason = _word(judged, chosen)
    first = judged[0]
    return Answer(first["plugin"], first["kind"], word, chosen, equal, reason)


def _word(judged: Sequence[Row], chosen: Row | None) -> tuple[PluginWord, str | None]:
    reason = judged[0]["choice_reason"]
    if any(row["status"] == "no effect" for row in judged):
        return "no effect", None
    if chosen is not None:
        return chosen["verdict"], None
    if all(row["verdict"] == "lost" for row in judged):
        return "lost", f"all {len(judged)} settings lose it"
    if all(row["status"] == "not measured" for row in judged):
        why = next((row["reason"] for row in judged if row["reason"]), reason)
        few = any(row["verdict_more_prompts"] for row in judged)
        return ("open" if few else "not measured"), why
    return "open", reason


def _kept(answer: Answer) -> float:
    kept = None if answer.row is None else answer.row["retention"]
    return 0.0 if kept is None else -kept  # worst first


def _why(answer: Answer) -> str:
    """Return why this one of the equal settings: see `metrics.stats.recommend`."""
    row = answer.row
    costs = [r["seconds"] for r in answer.equal]
    if row is None or row["seconds"] is None or None in costs:
        return "one of them"
    if row["seconds"] <= min(costs):
        return "the cheapest"
    return "the cheapest that works" if answer.word == "works" else "the cheapest that is not lost"
