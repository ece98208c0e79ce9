"""Measures of one plugin: its function, its quality, and the arms that both refer to.

Function, retention, normalized function, distance of quality and place of any arm, each on all
prompts. A value that cannot be computed is null, with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from bench.analysis.summary import Arm, Cell, Scores
from bench.registry import find_metric, installed
from metrics.base import Better, Quality, QualityReference, Role, Traits, traits_of
from metrics.stats import NO_EFFECT, Estimate
from metrics.stats.quantity import Pairs, Quantity, image_quantities, restricted, set_quantity
from metrics.stats.ratio import normalized, retention
from metrics.stats.verdicts import Function
from plugins_manifest.schema.kinds import kinds_where

# kinds that leave the style as it is; a stack may hold one that does not
PLAIN_KINDS = frozenset(kinds_where(lambda kind: not kind.changes_style))
_SOURCE_CEILING = "the source pictures' own score is not known"


def choose(role: Role, known: Collection[str]) -> str | None:
    """Return the metric that represents a role, of those that have values; None without any.

    A plugin has one function, so one metric measures it. Metrics not installed have no role.
    """
    ranked = [(t.rank, name) for name, t in _traits(known).items() if t.role == role]
    return min(ranked, default=(0, None))[1]


def quality_axis(known: Collection[str], reference: QualityReference) -> tuple[str, Quality] | None:
    """Return the kernel distance that measures quality by a reference, of those with values."""
    axes = {name: t.axis for name, t in _traits(known).items() if t.axis}
    ranked = [(a.rank, name) for name, a in axes.items() if a.reference == reference]
    return (name := min(ranked)[1], axes[name]) if ranked else None


def function_metrics(scores: Scores) -> dict[str, str]:
    """Return what each plugin of a run is judged by, for those with a function that has values."""
    plugins = dict.fromkeys(arm.plugin for arm in scores.arms)
    found = {plugin: PluginMeasures(scores, plugin).metric for plugin in plugins}
    return {plugin: metric for plugin, metric in found.items() if metric}


def _traits(names: Collection[str]) -> dict[str, Traits]:
    return {name: traits_of(find_metric(name)) for name in names if name in installed("metrics")}


@dataclass(frozen=True)
class Parts:
    """What an arm's S and verdicts are made of, on the same prompts; quality may be missing."""

    function: Quantity
    base: Quantity
    floor: Quantity
    quality: Quantity | None
    base_quality: Quantity | None


class PluginMeasures:
    """One plugin of a run; `ceilings` are its source pictures' scores by metric and case id."""

    def __init__(
        self,
        scores: Scores,
        plugin: str,
        ceilings: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.scores, self.plugin = scores, plugin
        self.arms = [arm for arm in scores.arms if arm.plugin == plugin]
        known = {m for arm in self.arms for m in scores.metrics if self._has_values(arm, m)}
        self.metric = choose("function", known)
        self.floor = next((arm for arm in self.arms if arm.method == "floor"), None)
        self.oracle = next((arm for arm in self.arms if arm.method == "oracle"), None)
        self._source = dict((ceilings or {}).get(self.metric or "", {}))

    @cached_property
    def lacks_effect(self) -> bool:
        """Whether a function beside the chosen one shows no effect of the plugin.

        A projection between floor and base holds the base model's own look too: on it a plugin
        without any effect seems to have one, which a rate of recognized styles does not show.
        """
        base = next((arm for arm in self.arms if arm.method == "base"), None)
        if self.metric is None or base is None or self.floor is None:
            return False
        beside = _traits([self.metric])[self.metric].beside
        checks = [name for name, t in _traits(beside).items() if t.role == "function"]
        return any(self._lacks_effect(name, base, self.floor) for name in checks)

    def _lacks_effect(self, metric: str, base: Arm, floor: Arm) -> bool:
        cells = [self.scores.cells.get((arm, metric)) for arm in (base, floor)]
        if None in cells or not all(cell.by_pair for cell in cells if cell):
            return False
        found = self._quantities([cell.by_pair for cell in cells if cell])
        if found is None or cells[0] is None:
            return False
        better = _direction(cells[0].better)
        return retention(found[0], base=found[0], floor=found[1], better=better).reason == NO_EFFECT

    @property
    def better(self) -> Better | None:
        """Return the function's direction; None without a function."""
        cells = (self._function_cell(arm) for arm in self.arms)
        found = next((cell.better for cell in cells if cell), None)
        return _direction(found) if found else None

    def function(self, arm: Arm) -> Estimate:
        """Return the mean of the function metric with its interval."""
        if self.metric is None or (arm, self.metric) not in self.scores.cells:
            return Estimate(None, None, None, 0, 0, "no values")
        return self.scores.estimate(arm, self.metric)

    def retention(self, arm: Arm) -> Estimate:
        """Return the share of the effect that an arm keeps; of base and floor by definition."""
        found = self._with_references(arm)
        if isinstance(found, str):
            return _none(found)
        if self.lacks_effect:
            return Estimate(None, None, None, found[0].n, len(found[0].sums), NO_EFFECT)
        ratio = retention(found[0], base=found[1], floor=found[2], better=self.better or "higher")
        return _by_definition(ratio) if arm in (self._base(arm), self.floor) else ratio

    def contrast(self, arm: Arm) -> Function | str:
        """Return the arm's function by prompt, higher is better; or why there is none."""
        found = self._with_references(arm)
        if isinstance(found, str):
            return found
        sign = 1.0 if self.better != "lower" else -1.0
        means = [{n: sign * q.sums[n] / q.counts[n] for n in q.sums} for q in found]
        return Function(*means)

    def parts(self, arm: Arm) -> Parts | str:
        """Return an arm's function and quality beside base and floor; or why there are none."""
        found = self._with_references(arm)
        if isinstance(found, str):
            return found
        base = self._base(arm)
        q, q_base = self._quality(arm), None if base is None else self._quality(base)
        if q is None or q_base is None:
            return Parts(*found, None, None)
        common = _on_common([*found, q, q_base])
        return "function and quality have no prompt in common" if not common else Parts(*common)

    def quality(self, arm: Arm) -> Estimate:
        """Return the distance q of an arm's images with its interval."""
        if self.axis is None:
            return _none("the run has no kernel distance to its own images without plugin")
        return self._set_estimate(arm, self.axis[0])

    def place(self, arm: Arm) -> Estimate:
        """Return the place w between the upgraded model's look and the native plugin's."""
        name = None if self.axis is None else self.axis[1].place
        if name is None:
            return _none("no native plugin")
        found = self._set_estimate(arm, name)
        if found.low is None or found.high is None:
            return found
        # w is within 0..1, the jackknife is not
        low, high = max(found.low, 0.0), min(found.high, 1.0)
        ends = (low, high) if low < high else (None, None)
        return replace(found, low=ends[0], high=ends[1])

    @property
    def counts_style(self) -> bool:
        """Whether the distance of quality counts the plugin's style: judging by it would mislead.

        So it is where the plugin changes the style and the run has no native plugin.
        """
        if self.axis is None or self.axis[1].reference != "floor" or not self.arms:
            return False
        kind = self.arms[0].kind
        return kind not in PLAIN_KINDS

    @cached_property
    def axis(self) -> tuple[str, Quality] | None:
        """The metric of quality: the segment's where the plugin has oracle images, else floor's."""
        references: tuple[QualityReference, ...] = ("segment", "floor")
        for reference in references:
            known = {
                metric
                for metric in self.scores.metrics
                if any(self._set(arm, metric) is not None for arm in self.arms)
            }
            if found := quality_axis(known, reference):
                return found
        return None

    def normalized(self, arm: Arm, ceiling: Literal["oracle", "source"]) -> Estimate:
        """Return an arm's function scaled so that floor is 0 and the ceiling 1."""
        if self.floor is None or self.metric is None:
            return _none("the run has no images of the upgraded model without plugin (floor)")
        sides = [self._pairs(arm), self._pairs(self.floor)]
        if ceiling == "oracle":
            if self.oracle is None:
                return _none("the run has no native plugin (method oracle)")
            sides.append(self._pairs(self.oracle))
        elif not self._source:
            return _none(_SOURCE_CEILING)
        else:
            keys = {pair for side in sides for pair in side if pair[0] in self._source}
            sides.append({pair: self._source[pair[0]] for pair in keys})
        found = self._quantities(sides)
        if found is None:
            return _none("no (case, seed) has images of this method, floor and ceiling")
        better = self.better or "higher"
        ratio = normalized(found[0], floor=found[1], ceiling=found[2], better=better)
        ends = (self.floor, self.oracle) if ceiling == "oracle" else (self.floor,)
        return _by_definition(ratio) if arm in ends else ratio

    def _with_references(self, arm: Arm) -> tuple[Quantity, Quantity, Quantity] | str:
        """Return the functions of an arm, base and floor on common images, or what is missing."""
        missing, base, floor = self._missing_function(arm), self._base(arm), self.floor
        if missing is not None or base is None or floor is None:
            return missing or "the run has no base or floor images"
        found = self._quantities([self._pairs(a) for a in (arm, base, floor)])
        if found is None:
            return "no (case, seed) has images of this method, base and floor"
        return found[0], found[1], found[2]

    def _missing_function(self, arm: Arm) -> str | None:
        """Return why an arm has no retention; None if it has one."""
        if self.metric is None:
            return "no metric of this run measures what the plugin is for"
        base = self._base(arm)
        for name, found in (("base", base), ("floor", self.floor), (arm.method, arm)):
            if found is None or not self._pairs(found):
                return f"{self.metric} has no values for method {name}"
        return None

    def _base(self, arm: Arm) -> Arm | None:
        return self.scores.base_of(arm)

    def _function_cell(self, arm: Arm) -> Cell | None:
        return self.scores.cells.get((arm, self.metric or ""))

    def _pairs(self, arm: Arm) -> Pairs:
        cell = self._function_cell(arm)
        return {} if cell is None else cell.by_pair

    def _has_values(self, arm: Arm, metric: str) -> bool:
        cell = self.scores.cells.get((arm, metric))
        return cell is not None and bool(cell.by_pair)

    def _quality(self, arm: Arm) -> Quantity | None:
        return None if self.axis is None else self._set(arm, self.axis[0])

    def _set(self, arm: Arm, metric: str) -> Quantity | None:
        cell = self.scores.cells.get((arm, metric))
        if cell is None or cell.group is None or not cell.group[1]:
            return None
        return set_quantity(*cell.group, n=cell.n)

    def _set_estimate(self, arm: Arm, metric: str) -> Estimate:
        if (arm, metric) not in self.scores.cells or self._set(arm, metric) is None:
            return _none(f"{metric} has no value for this method")
        return self.scores.estimate(arm, metric)

    def _quantities(self, sides: Sequence[Pairs]) -> list[Quantity] | None:
        found = image_quantities(*sides, cluster_of=self.scores.prompt_of)
        return list(found) if found[0].n else None


def _on_common(quantities: Sequence[Quantity]) -> list[Quantity] | None:
    """Restrict quantities to the prompts that all of them have; None without common prompts."""
    common = set.intersection(*(set(q.sums) for q in quantities))
    if not common:
        return None
    return [q if q.sums.keys() == common else restricted(q, common) for q in quantities]


def _direction(better: str) -> Better:
    return "higher" if better == "higher" else "lower"


def _by_definition(ratio: Estimate) -> Estimate:
    """Return the ratio of a reference to itself, 0 or 1, without an interval."""
    if ratio.value is None:
        return ratio
    return replace(ratio, low=None, high=None, reason="this arm is the reference itself")


def _none(reason: str) -> Estimate:
    return Estimate(None, None, None, 0, 0, reason)
