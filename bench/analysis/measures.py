"""Measures of one plugin: its function, its quality, and the arms that both refer to.

Retention, quality gain and normalized function of any arm, on all prompts or on some of them. A
value that cannot be computed is null, with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from bench.analysis.summary import Arm, Cell, Scores
from bench.registry import find_metric, installed
from metrics.base import Better, Role, Traits, traits_of
from metrics.stats import Estimate, clustered_mean
from metrics.stats.ratio import (
    Compatibility,
    Pairs,
    Quantity,
    Reference,
    compatibility,
    image_quantities,
    normalized,
    quality_gain,
    restricted,
    retention,
    set_quantity,
    settings_in_plane,
)

GainReference = Literal["oracle", "upgraded"]
Prompts = Collection[str] | None  # None: all of them
_SOURCE_CEILING = "the source pictures' own score is not known"


def choose(role: Role, known: Collection[str]) -> str | None:
    """Return the metric that represents a role, of those that have values; None without any.

    A plugin has one function, so one metric measures it. Metrics not installed have no role.
    """
    ranked = [(t.rank, name) for name, t in _traits(known).items() if t.role == role]
    return min(ranked, default=(0, None))[1]


def gain_metrics(reference: GainReference, known: Collection[str]) -> list[str]:
    """Return the kernel distances that scale the gain in quality, by rank."""
    wanted = "floor" if reference == "upgraded" else None
    axes = {name: t.axis for name, t in _traits(known).items()}
    ranked = [(axis.rank, name) for name, axis in axes.items() if axis and axis.reference == wanted]
    return [name for _, name in sorted(ranked)]


def _traits(names: Collection[str]) -> dict[str, Traits]:
    return {name: traits_of(find_metric(name)) for name in names if name in installed("metrics")}


@dataclass(frozen=True)
class QualityScale:
    """A kernel distance with the arm whose images are its reference."""

    metric: str
    better: Better
    target: Arm
    reference: GainReference


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

    @property
    def better(self) -> Better | None:
        """Return the function's direction; None without a function."""
        cells = (self._function_cell(arm) for arm in self.arms)
        found = next((cell.better for cell in cells if cell), None)
        return _direction(found) if found else None

    def prompts(self) -> list[str]:
        """Return all prompts of the plugin, sorted."""
        pairs = (pair for arm in self.arms for pair in self._pairs(arm))
        return sorted({self.scores.prompt_of[case_id] for case_id, _ in pairs})

    def function(self, arm: Arm, prompts: Prompts = None) -> Estimate:
        """Return the mean of the function metric with its interval."""
        kept = {pair: v for pair, v in self._pairs(arm).items() if self._is_in(pair, prompts)}
        pairs = sorted(kept)
        clusters = [self.scores.prompt_of[case_id] for case_id, _ in pairs]
        return clustered_mean([kept[pair] for pair in pairs], clusters)

    def retention(self, arm: Arm, prompts: Prompts = None) -> Estimate:
        """Return the share of the plugin's effect that an arm keeps."""
        missing, base, floor = self._missing_function(arm), self._base(arm), self.floor
        if missing is not None or base is None or floor is None:
            return _none(missing or "the run has no base or floor images")
        found = self._functions([arm, base, floor], prompts)
        if found is None:
            return _none("no (case, seed) has images of this method, base and floor")
        better = self.better or "higher"
        return retention(found[0], base=found[1], floor=found[2], better=better)

    def normalized(
        self, arm: Arm, ceiling: Literal["oracle", "source"], prompts: Prompts = None
    ) -> Estimate:
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
        found = self._quantities(sides, prompts)
        if found is None:
            return _none("no (case, seed) has images of this method, floor and ceiling")
        better = self.better or "higher"
        return normalized(found[0], floor=found[1], ceiling=found[2], better=better)

    def gain(self, arm: Arm, scale: QualityScale | None, prompts: Prompts = None) -> Estimate:
        """Return the share of the upgrade's gain in quality that an arm has."""
        base = self._base(arm)
        if scale is None:
            return _none("the run has no kernel distance with values for base and its reference")
        if base is None:
            return _none("the run has no images of the base model")
        sets = [self._set(a, scale.metric) for a in (arm, base, scale.target)]
        found = _on_common([q for q in sets if q is not None], prompts)
        if found is None or len(found) < len(sets):
            return _none(f"{scale.metric} has no values without each prompt")
        return quality_gain(found[0], base=found[1], upgraded=found[2], better=scale.better)

    @cached_property
    def scales(self) -> dict[GainReference, QualityScale]:
        """The quality scales for which this run has values."""
        found = {name: self._scale(name) for name in get_args(GainReference)}
        return {name: scale for name, scale in found.items() if scale is not None}

    @property
    def headline_scale(self) -> QualityScale | None:
        """The native plugin's scale if the plugin has oracle images, else the upgraded model's."""
        return self.scales.get("oracle") or self.scales.get("upgraded")

    def compatibility(self, arms: Sequence[Arm]) -> Compatibility:
        """Return the area that settings of one method dominate, on all prompts."""
        plane = self._plane(arms, None)
        if isinstance(plane, str):
            return Compatibility(_none(plane), None)
        return compatibility(*plane)

    def at_prompts(
        self, arms: Sequence[Arm], prompts: Collection[str]
    ) -> list[tuple[float, float]]:
        """Return each arm's retention and gain on some prompts, no intervals; [] if unknown."""
        plane = self._plane(arms, prompts)
        return [] if isinstance(plane, str) else settings_in_plane(*plane)

    def _plane(
        self, arms: Sequence[Arm], prompts: Prompts
    ) -> tuple[list[tuple[Quantity, Quantity]], Reference] | str:
        """Return the settings' quantities and reference on common prompts, or the reason."""
        scale = self.headline_scale
        if not arms or scale is None:
            return "no kernel distance with values for base and its reference" if arms else "no arm"
        missing = next((why for arm in arms if (why := self._missing_function(arm))), None)
        base, floor = self._base(arms[0]), self.floor
        if missing or base is None or floor is None:
            return missing or "the run has no base or floor images"
        functions = self._functions([*arms, base, floor], prompts)
        sets = [self._set(a, scale.metric) for a in (*arms, base, scale.target)]
        there = [q for q in sets if q is not None]
        if functions is None or len(there) < len(sets):
            return f"{scale.metric} or {self.metric} lacks values for some settings"
        common = _on_common([*functions, *there], prompts)
        if common is None:
            return "function and quality were measured on different prompts"
        n = len(arms)
        f, (f_base, f_floor) = common[:n], common[n : n + 2]
        q, (q_base, q_target) = common[n + 2 : 2 * n + 2], common[2 * n + 2 :]
        reference = Reference(
            f_base, f_floor, q_base, q_target, self.better or "higher", scale.better
        )
        return list(zip(f, q, strict=True)), reference

    def _scale(self, reference: GainReference) -> QualityScale | None:
        target = self.oracle if reference == "oracle" else self.floor
        base = self._base(target) if target else None
        if target is None or base is None:
            return None
        for metric in gain_metrics(reference, self.scores.metrics):
            if self._set(base, metric) is not None and self._set(target, metric) is not None:
                better = _direction(self.scores.cells[base, metric].better)
                return QualityScale(metric, better, target, reference)
        return None

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

    def _set(self, arm: Arm, metric: str) -> Quantity | None:
        cell = self.scores.cells.get((arm, metric))
        if cell is None or cell.group is None or not cell.group[1]:
            return None
        return set_quantity(*cell.group, n=cell.n)

    def _functions(self, arms: Sequence[Arm], prompts: Prompts) -> list[Quantity] | None:
        return self._quantities([self._pairs(arm) for arm in arms], prompts)

    def _quantities(self, sides: Sequence[Pairs], prompts: Prompts) -> list[Quantity] | None:
        kept = [{p: v for p, v in side.items() if self._is_in(p, prompts)} for side in sides]
        found = image_quantities(*kept, cluster_of=self.scores.prompt_of)
        return list(found) if found[0].n else None

    def _is_in(self, pair: tuple[str, int], prompts: Prompts) -> bool:
        return prompts is None or self.scores.prompt_of[pair[0]] in prompts


def _on_common(quantities: Sequence[Quantity], prompts: Prompts) -> list[Quantity] | None:
    """Restrict quantities to the prompts that all of them have; None without common prompts."""
    if not quantities:
        return None
    common = set.intersection(*(set(q.sums) for q in quantities))
    common = common if prompts is None else common & set(prompts)
    if not common:
        return None
    return [q if q.sums.keys() == common else restricted(q, common) for q in quantities]


def _direction(better: str) -> Better:
    return "higher" if better == "higher" else "lower"


def _none(reason: str) -> Estimate:
    return Estimate(None, None, None, 0, 0, reason)
