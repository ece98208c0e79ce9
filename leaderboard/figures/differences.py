"""Any number of runs against a baseline: what may be said of each plugin, and by how much.

Words are two-sided tests over prompts (`metrics.stats.paired`), corrected by Holm over all lines
and runs of a choice, also those on other pages. Intervals are not corrected; they are computed
for the lines that a page shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis.words import DIFFERENCES, DifferenceWord, comparison_sentence, difference_word
from bench.publish.select import is_finished
from bench.store import Row, records
from bench.store.recent import RecentItems
from leaderboard.data import Run
from leaderboard.figures.arms import setting_label
from leaderboard.figures.pairs import (
    FUNCTION,
    Choice,
    line_of,
    paired_images,
    place_of,
    prompt_means,
)
from metrics.stats import Estimate, holm, paired_difference
from metrics.stats.paired import two_sided_ps

Line = tuple[object, ...]
_FAMILIES = RecentItems[tuple[object, ...], "Comparison"](32)
_INTERVALS = RecentItems[tuple[object, ...], dict[Line, Estimate]](64)


@dataclass(frozen=True)
class Comparison:
    """Runs against a baseline; `cells` has a row for each line, worst first, and compared run.

    A row has `word`, `value` and Holm's `p` over all of them; `unfinished` runs have none.
    """

    baseline: str
    choice: Choice
    cells: Mapping[Line, Mapping[str, Row]]
    compared: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What differs, in one sentence."""
        found: dict[str, list[tuple[str, DifferenceWord]]] = {run: [] for run in self.compared}
        for line, by_run in self.cells.items():
            for run, row in by_run.items():
                found[run].append((self.name_of(line), row["word"]))
        noun = "setting" if self.choice.by_setting else "plugin" if self._one_line else "comparison"
        text = comparison_sentence(self.baseline, found, noun=noun, unfinished=self.unfinished)
        return text if self.choice.metric == FUNCTION else f"{text[:-1]} by {self.choice.metric}."

    @property
    def differing(self) -> list[Line]:
        """The lines that are told apart in at least one run."""
        return [
            line
            for line, by_run in self.cells.items()
            if any(row["word"] in ("worse", "better") for row in by_run.values())
        ]

    def name_of(self, line: Line) -> str:
        """Return the name of a line: its plugin, and whatever else tells it from others."""
        row = dict(zip(self.choice.line_keys, line, strict=True))
        parts = [str(row["plugin"] or "")]
        if self.choice.by_setting:
            parts.append(setting_label({**row, "method": ""}).strip())
        elif row["adapter"] is not None:
            parts.append(f"adapter {row['adapter']}")
        if not self._one_each:
            parts.append(str(row["metric"] or ""))
        return ", ".join(part for part in parts if part)

    @property
    def _one_line(self) -> bool:
        return len({line[0] for line in self.cells}) == len(self.cells)

    @property
    def _one_each(self) -> bool:
        return len({line[0] for line in self.cells}) == len({line[:2] for line in self.cells})


def compare_runs(baseline: Run, candidates: Sequence[Run], choice: Choice) -> Comparison:
    """Return the comparison of candidates with a baseline; cached while the runs are unchanged.

    Runs that are not finished are not compared: their tests would be early looks.
    """
    place = (place_of(baseline), *map(place_of, candidates), choice)
    known = _FAMILIES.find(place)
    if known is not None:
        return known
    finished = [run for run in candidates if is_finished(run.facts)]
    if not is_finished(baseline.facts):
        finished = []
    found = {run.key: prompt_means(baseline, run, choice) for run in finished}
    others = (baseline, *candidates)
    comparison = Comparison(
        baseline=baseline.key,
        choice=choice,
        cells=judged_cells(found, choice),
        compared=tuple(found),
        unfinished=tuple(run.key for run in others if not is_finished(run.facts)),
    )
    return _FAMILIES.add(place, comparison)


def judged_cells(found: Mapping[str, Sequence[Row]], choice: Choice) -> dict[Line, dict[str, Row]]:
    """Return lines, worst first, with a judged row for each run that has the line.

    `p` is Holm's over all of them, None below 12 prompts.
    """
    rows = [{**row, "run": run} for run, own in found.items() for row in own]
    means = [row.pop("means") for row in rows]
    ps = two_sided_ps(means)
    corrected = iter(holm([p for p in ps if p is not None]))
    cells: dict[Line, dict[str, Row]] = {}
    for row, own, p in zip(rows, means, ps, strict=True):
        row |= {"p": None if p is None else next(corrected), "n_prompts": len(own)}
        row["word"] = difference_word(row["value"], row["p"])
        cells.setdefault(line_of(row, choice), {})[row["run"]] = row
    return dict(sorted(cells.items(), key=lambda item: (*_worst(item[1]), str(item[0]))))


def intervals(
    baseline: Run, candidate: Run, choice: Choice, plugins: Sequence[str]
) -> dict[Line, Estimate]:
    """Return the mean difference of each line of some plugins with its 95 % interval."""
    place = (place_of(baseline), place_of(candidate), choice, *plugins)
    known = _INTERVALS.find(place)
    if known is not None:
        return known
    pairs = paired_images(baseline, candidate, choice, plugins=plugins)
    groups = pairs.groupby(list(choice.line_keys), sort=False, dropna=False)
    found: dict[Line, Estimate] = {}
    for _, part in groups:
        first = records(part.head(1))[0]
        found[line_of(first, choice)] = difference_estimate(part)
    return _INTERVALS.add(place, found)


def difference_estimate(part: pd.DataFrame) -> Estimate:
    """Return the mean of one line's differences; rates get the interval of paired rates."""
    # above 0 is better: a metric whose lower values are better is subtracted the other way round
    flips = bool((part["sign"] < 0).any())
    left, right = ("value_old", "value_new") if flips else ("value_new", "value_old")
    pairs = [(str(i), 0) for i in range(len(part))]  # one key a pair: settings share case and seed
    sides = (dict(zip(pairs, part[side].tolist(), strict=True)) for side in (left, right))
    prompts = part["prompt"].fillna("").tolist()
    cluster_of = {name: prompt for (name, _), prompt in zip(pairs, prompts, strict=True)}
    return paired_difference(*sides, cluster_of=cluster_of)


def _worst(by_run: Mapping[str, Row]) -> tuple[int, float]:
    word = min(DIFFERENCES.index(row["word"]) for row in by_run.values())
    # sums of equal numbers differ in their last digits from one reading to the next
    return word, round(min(row["value"] for row in by_run.values()), 9)
