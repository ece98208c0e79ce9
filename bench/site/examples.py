"""Example prompts of a plugin: typical, best, worst, failures, and where methods differ most.

Prompts are ordered by how much of the plugin's function the shown setting's image has lost against
the base model's image of the same prompt and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bench.analysis import Arm
from bench.analysis.summary import arm_of
from bench.registry import REFERENCES
from bench.store import Row

Pair = tuple[str, int]  # case id, seed
Scores = Mapping[Pair, Mapping[Arm, float]]
_MOST = 2  # prompts of each further kind
FAILURE, DIFFER = "Failure", "Methods differ most"
TAGS = {"Typical prompt": "examples", "Best prompt": "examples", "Worst prompt": "examples"}
TAGS |= {FAILURE: "failures", DIFFER: "differ"}


@dataclass(frozen=True)
class Shot:
    """One image of an example, or why it is missing; `score` is that of the plugin's function.

    `version` is the sha256 of its file, where that is known.
    """

    arm: Arm
    run: str
    trial_id: str
    load: Callable[[], np.ndarray]
    missing: str | None
    score: float | None
    version: str | None = None

    @property
    def key(self) -> str:
        """What tells images apart: runs may share trials, and differ in their pixels."""
        return f"{self.run} {self.trial_id}"


@dataclass(frozen=True)
class Example:
    """One prompt with the images of all settings in the reading order; `titles` say why."""

    titles: tuple[str, ...]
    prompt: str
    seed: int
    load_condition: Callable[[], np.ndarray] | None
    shots: tuple[Shot, ...]

    def before(self, arm: Arm) -> Shot | None:
        """Return the base model's image at a setting's plugin scale, or the nearest to it."""
        base = base_of([shot.arm for shot in self.shots], arm)
        return None if base is None else self.shot_of(base)

    def shot(self, method: str) -> Shot | None:
        """Return the first image of a method, such as floor; None if there is none."""
        return next((shot for shot in self.shots if shot.arm.method == method), None)

    def shot_of(self, arm: Arm) -> Shot | None:
        """Return the image of one setting; None if there is none."""
        return next((shot for shot in self.shots if shot.arm == arm), None)


class Scenes(Protocol):
    """The prompts of a run's plugins, with images and scores."""

    def pairs(self, plugin: str) -> Sequence[Pair]:
        """Return a plugin's first prompts and seeds, sorted."""
        ...

    def scores(self, plugin: str, metric: str) -> Scores:
        """Return a metric by prompt and seed, then by setting."""
        ...

    def examples(
        self, plugin: str, metric: str | None, chosen: Mapping[Pair, tuple[str, ...]]
    ) -> Sequence[Example]:
        """Return examples of some prompts and seeds, in their order."""
        ...

    def typical(self, shown: Row) -> Example | None:
        """Return the first of a plugin's `examples`; None if it has no images."""
        ...


def examples(scenes: Scenes, shown: Row) -> tuple[Example, ...]:
    """Return the examples of a plugin, each prompt once; the first prompts without scores."""
    plugin, metric = shown["plugin"], shown["function_metric"]
    scores = scenes.scores(plugin, metric) if metric else {}
    chosen = choose(scores, shown)
    if not chosen:
        pairs = scenes.pairs(plugin)[:3]
        chosen = {pair: (f"Prompt {i}",) for i, pair in enumerate(pairs, start=1)}
    return tuple(scenes.examples(plugin, metric, chosen))


def choose(scores: Scores, shown: Row) -> dict[Pair, tuple[str, ...]]:
    """Return the prompts to show with their titles; {} where the shown setting has no score."""
    order = [pair for _, pair in worst_first(scores, shown)]
    if not order:
        return {}
    picked = [
        ("Typical prompt", order[len(order) // 2]),
        ("Best prompt", order[-1]),
        ("Worst prompt", order[0]),
        *((FAILURE, pair) for pair in failures(scores, shown)[:_MOST]),
        *((DIFFER, pair) for pair in differ_most(scores)[:_MOST]),
    ]
    found: dict[Pair, tuple[str, ...]] = {}
    for title, pair in picked:
        if len(order) > 1 or not found:
            found[pair] = (*found.get(pair, ()), title)
    return found


def worst_first(scores: Scores, shown: Row) -> list[tuple[float, Pair]]:
    """Return what the shown setting's images gained on the base model's, the largest loss first."""
    arm, sign = arm_of(shown), _sign(shown)
    ranked = []
    for pair, own in scores.items():
        if arm in own:
            base = base_of(own, arm)
            ranked.append((sign * (own[arm] - (own[base] if base else 0.0)), pair))
    return sorted(ranked)


def failures(scores: Scores, shown: Row) -> list[Pair]:
    """Return the prompts whose image is nearer to the one without plugin than to the base model's.

    The largest loss comes first. Prompts on which the plugin has no effect are left out.
    """
    arm, sign = arm_of(shown), _sign(shown)
    found = []
    for loss, pair in worst_first(scores, shown):
        own = scores[pair]
        base = base_of(own, arm)
        floor = next((a for a in own if a.method == "floor"), None)
        if base is None or floor is None:
            continue
        effect = sign * (own[base] - own[floor])
        if effect > 0 and loss < -effect / 2:
            found.append(pair)
    return found


def differ_most(scores: Scores) -> list[Pair]:
    """Return the prompts by the range of the methods' scores, the widest first."""
    ranges = []
    for pair, own in scores.items():
        values = [v for arm, v in own.items() if arm.method not in REFERENCES]
        if len(values) > 1 and max(values) > min(values):
            ranges.append((min(values) - max(values), pair))
    return [pair for _, pair in sorted(ranges)]


def base_of(arms: Iterable[Arm], arm: Arm) -> Arm | None:
    """Return the base model's setting whose plugin scale is nearest to another's."""
    own = 1.0 if arm.plugin_scale is None else arm.plugin_scale

    def distance(base: Arm) -> float:
        return abs((1.0 if base.plugin_scale is None else base.plugin_scale) - own)

    return min((a for a in arms if a.method == "base"), key=distance, default=None)


def _sign(row: Row) -> float:
    return -1.0 if row["function_better"] == "lower" else 1.0
