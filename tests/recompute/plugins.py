"""The rows of tables/compatibility.parquet of one plugin, recomputed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.recompute import verdicts as v
from tests.recompute.arms import KIND, METHOD, PLUGIN, Arm, Arms, Pairs
from tests.recompute.files import Row, arm_of
from tests.recompute.image_scores import STYLE_KINDS
from tests.recompute.intervals import MIN_PROMPTS, Interval, fieller, jackknife

REFERENCES = ("base", "floor", "oracle")
# the constants of the sorting number
SCALES = {"pocket-rest": 0.25, "pocket-kid-floor": 0.25, "pocket-kid": 0.25}
MIN_PROMPTS_OF_S = 60
# functions that have to show the plugin's effect too, or there is none
CHECKS = {"pocket-style-projection": "pocket-style-rate", "edge-f1-1px": "edge-f1"}


class Plugin:
    """One plugin's measures: which metrics they are is read from its rows."""

    def __init__(
        self,
        arms: Arms,
        rows: list[Row],
        *,
        policy: v.Policy,
        costs: dict[Arm, tuple[float | None, float | None]],
        ceilings: list[Row],
    ) -> None:
        first = rows[0]
        self.data, self.policy, self.costs = arms, policy, costs
        self.function, self.axis = first["function_metric"], first["quality_metric"]
        self.arms = [arm_of(row) for row in rows if row["level"] == "setting"]
        self.judged = [arm for arm in self.arms if arm[METHOD] not in REFERENCES]
        self.sign = -1.0 if arms.better.get(self.function or "") == "lower" else 1.0
        self.source = {
            row["case_id"]: row["value"]
            for row in ceilings
            if (row["plugin"], row["metric"]) == (first["plugin"], self.function)
            and row["value"] is not None
        }
        self.settings = {arm: s for arm in self.judged if (s := self._setting(arm)) is not None}
        self.lacks_effect = self._lacks_effect()
        self.without_effect = {a for a in self.arms if self.lacks_effect or self._has_no_effect(a)}
        self._judge()

    def _judge(self) -> None:
        """Judge all settings as one family."""
        keyed = {_key(arm): s for arm, s in self.settings.items()}
        self.verdicts = v.verdicts(keyed, self.policy)
        counts_style = (
            self.arms[0][KIND] in STYLE_KINDS and self.axis is not None and not self._is_segment
        )
        self.words = {} if counts_style else v.quality_words(keyed, self.policy)
        with_s = {
            _key(a): self._sorted_setting(s, counts_style)
            for a, s in self.settings.items()
            if self.retention(a).value is not None
        }
        self.sorting = v.Sorting(with_s) if with_s else None
        self.shown = v.shown_effects(keyed, self.policy.level)
        self.choice = self._choose(self.judged)

    @property
    def _is_segment(self) -> bool:
        return self.axis is not None and self.axis.endswith("-rest")

    def setting(self, arm: Arm) -> dict[str, Interval | Any]:
        """Return a setting's numbers and words by column."""
        name = _key(arm)
        function = self.data.estimate(arm, self.function) if self.function else Interval(None)
        retention = self.retention(arm)
        found: dict[str, Any] = {
            "function": function,
            "retention": retention,
            "normalized_oracle": self.ratio(arm, self._one("oracle")),
            "normalized_source": self._source_ratio(arm),
            "quality": self._of_set(arm, self.axis),
            "place": _within_0_to_1(self._of_set(arm, self._place_metric)),
            "sort_value": Interval(self.sorting.values.get(name) if self.sorting else None),
            "n": function.n,
            "n_prompts": function.n_prompts,
            "seconds": self.costs.get(arm, (None, None))[0],
            "peak_memory_mib": self.costs.get(arm, (None, None))[1],
            "status": self._status(arm, retention),
            "recommended": name == self.choice.name,
            **dict.fromkeys(_JUDGED),
        }
        if arm in self.judged:
            found |= self._words_of(arm)
        return found

    def method(self, method: str) -> dict[str, Any]:
        """Return a method's row: that of the setting to use, with the cross-fitted S."""
        arms = [arm for arm in self.judged if arm[METHOD] == method]
        choice = self._choose(arms)
        sort_value = self._cross_fitted([_key(arm) for arm in arms])
        chosen = next((arm for arm in arms if _key(arm) == choice.name), None)
        own = {"sort_value": sort_value, "kept": self._kept(arms)}
        if chosen is None:
            return {**own, "recommended": False, "retention": Interval(None)}
        row = self.setting(chosen)
        return {**row, **own, "recommended": self.choice.name == choice.name}

    def _kept(self, arms: list[Arm]) -> Interval:
        """Return the mean clipped retention over a method's t0; scales are 1 here."""
        known = self.sorting.settings if self.sorting else {}
        names = [_key(a) for a in arms if _key(a) in known]
        if not names:
            return Interval(None)
        plain = {n: v.Setting(s.function, s.base, s.floor) for n, s in known.items()}
        by_function = v.Sorting(plain)
        value = float(np.mean([by_function.values[n] for n in names]))
        parts = [by_function.pseudo(n) for n in names]
        means = {p: float(np.mean([part[p] for part in parts])) for p in by_function.prompts}
        count = len(means)
        without = {p: (count * value - x) / (count - 1) for p, x in means.items() if count > 1}
        found = jackknife(value, without, count)
        return _within_0_to_1(found)

    def _words_of(self, arm: Arm) -> dict[str, Any]:
        verdict = self.verdicts.get(_key(arm), v.Found("open"))
        if arm in self.without_effect:
            verdict = v.Found("open")
        word = self.words.get(_key(arm))
        return {
            "verdict": verdict.word,
            "verdict_p": verdict.p,
            "verdict_more_prompts": verdict.more,
            "quality_word": word.word if word else None,
            "quality_more_prompts": word.more if word else None,
            "among_best": _key(arm) in self.choice.equal,
        }

    def _choose(self, arms: list[Arm]) -> v.Choice:
        names = [_key(a) for a in arms if self.sorting and _key(a) in self.sorting.settings]
        if self.sorting is None or not names:
            return v.Choice(None)
        seconds = {_key(a): self.costs.get(a, (None, None))[0] for a in arms}
        return v.choose(
            names,
            self.sorting,
            shown=self.shown,
            words={
                _key(a): "open" if a in self.without_effect else self.verdicts[_key(a)].word
                for a in arms
                if _key(a) in self.verdicts
            },
            costs={name: float("inf") if s is None else s for name, s in seconds.items()},
            level=self.policy.level,
        )

    def _cross_fitted(self, names: list[str]) -> Interval:
        usable = [n for n in names if self.sorting and n in self.sorting.settings]
        if self.sorting is None or not usable:
            return Interval(None)
        values = self.sorting.cross_fitted(usable)
        n, mean = len(values), float(values.mean())
        if n < MIN_PROMPTS_OF_S:
            return Interval(float(np.clip(mean, 0, 1)))
        without = {str(i): (n * mean - x) / (n - 1) for i, x in enumerate(values)}
        return jackknife(mean, without, n)

    # --- measures

    def ratio(self, arm: Arm, ceiling: Arm | None) -> Interval:
        """Return (f - f_floor) / (f_ceiling - f_floor) with Fieller's limits."""
        floor = self._one("floor")
        if ceiling is None or floor is None or self.function is None:
            return Interval(None)
        found = self._ratio([self._pairs(a) for a in (arm, ceiling, floor)])
        return _bare(found) if arm in (ceiling, floor) else found

    def retention(self, arm: Arm) -> Interval:
        """Return the share of the plugin's effect that is kept; None without an effect."""
        return Interval(None) if self.lacks_effect else self.ratio(arm, self._base(arm))

    def _lacks_effect(self) -> bool:
        """Whether the metric that checks the function does not tell base from floor."""
        check, floor = CHECKS.get(self.function or ""), self._one("floor")
        base = self._base(self.arms[0])
        sides = [self.data.images.get((a, check), {}) for a in (base, floor) if a and check]
        if len(sides) < 2 or not all(sides):
            return False
        shared = set(sides[0]) & set(sides[1])
        if len({self.data.prompt_of[case] for case, _ in shared}) < MIN_PROMPTS:
            return False
        return self._ratio([sides[0], *sides]).value is None

    def _source_ratio(self, arm: Arm) -> Interval:
        floor = self._one("floor")
        if floor is None or not self.source:
            return Interval(None)
        sides = [self._pairs(arm), {}, self._pairs(floor)]
        keys = {pair for side in sides for pair in side if pair[0] in self.source}
        sides[1] = {pair: self.sign * self.source[pair[0]] for pair in keys}
        return _bare(self._ratio(sides)) if arm == floor else self._ratio(sides)

    def _ratio(self, sides: list[Pairs]) -> Interval:
        arm, ceiling, floor = (self._side(side, sides) for side in sides)
        names = sorted(arm.sums)
        n = sum(arm.counts.values())
        if len(names) < MIN_PROMPTS:
            return Interval(None)
        over, under = (x.mean(names) - floor.mean(names) for x in (arm, ceiling))
        rows = [_influence(x, names) for x in (arm, ceiling, floor)]
        spread = np.cov(rows[0] - rows[2], rows[1] - rows[2])
        half = [_half_count(x, names) for x in (arm, ceiling, floor)]
        spread += [[half[0] + half[2], half[2]], [half[2], half[1] + half[2]]]
        ends = fieller(over, under, spread / len(names), len(names) - 1)
        if ends is None:
            return Interval(None)
        if ends[1] - ends[0] < 1e-7:  # equal images: rounding errors
            return Interval(over / under)
        return Interval(over / under, *ends, 0.0, n, len(names))

    def _setting(self, arm: Arm) -> v.Setting | None:
        base, floor = self._base(arm), self._one("floor")
        if base is None or floor is None or self.function is None:
            return None
        sides = [self._pairs(a) for a in (arm, base, floor)]
        if not all(sides) or not set.intersection(*(set(s) for s in sides)):
            return None
        q, q_base = (self._pseudo(a) for a in (arm, base))
        return v.Setting(*(self._side(s, sides) for s in sides), q, q_base)

    def _sorted_setting(self, s: v.Setting, counts_style: bool) -> v.Setting:
        """Return a setting with the quality that enters S."""
        if self.axis is None or counts_style or s.quality is None or s.base_quality is None:
            return v.Setting(s.function, s.base, s.floor)
        shared = set(s.quality) & set(s.base_quality) & set(s.prompts)
        kept = {p: s.quality[p] for p in shared}
        arm = next(a for a, known in self.settings.items() if known is s)
        value = self.data.groups[arm, self.axis][0]
        value += float(np.mean(list(kept.values())) - np.mean(list(s.quality.values())))
        return v.Setting(s.function, s.base, s.floor, kept, None, value, SCALES[self.axis])

    def _pseudo(self, arm: Arm) -> dict[str, float] | None:
        group = self.data.groups.get((arm, self.axis or ""))
        if group is None or not group[1]:
            return None
        value, without, _ = group
        pseudo = {p: len(without) * value - (len(without) - 1) * x for p, x in without.items()}
        shift = value - float(np.mean(list(pseudo.values())))  # around the score, as its interval
        return {p: x + shift for p, x in pseudo.items()}

    def _side(self, own: Pairs, sides: list[Pairs]) -> v.Side:
        """Return a side on the pairs that all sides have."""
        shared = set.intersection(*(set(side) for side in sides))
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for pair in sorted(shared):
            prompt = self.data.prompt_of[pair[0]]
            sums[prompt] = sums.get(prompt, 0.0) + own[pair]
            counts[prompt] = counts.get(prompt, 0) + 1
        return v.Side(sums, counts)

    def _of_set(self, arm: Arm, metric: str | None) -> Interval:
        group = self.data.groups.get((arm, metric or ""))
        return jackknife(*group) if group is not None and group[1] else Interval(None)

    @property
    def _place_metric(self) -> str | None:
        return self.axis.removesuffix("rest") + "place" if self.axis and self._is_segment else None

    def _pairs(self, arm: Arm) -> Pairs:
        found = self.data.images.get((arm, self.function or ""), {})
        return {pair: self.sign * value for pair, value in found.items()}

    def _base(self, arm: Arm) -> Arm | None:
        return self.data.base_of(arm)

    def _one(self, method: str) -> Arm | None:
        return next(
            (a for a in self.data.of_plugin(self.arms[0][PLUGIN]) if a[METHOD] == method), None
        )

    def _has_no_effect(self, arm: Arm) -> bool:
        """Whether 12 prompts or more do not tell the base model's function from the floor's."""
        base, floor = self._base(arm), self._one("floor")
        if base is None or floor is None or self.function is None:
            return False
        sides = [self._pairs(a) for a in (arm, base, floor)]
        common = set.intersection(*(set(s) for s in sides))
        n_prompts = len({self.data.prompt_of[case] for case, _ in common})
        return n_prompts >= MIN_PROMPTS and self._ratio(sides).value is None

    def _status(self, arm: Arm, retention: Interval) -> str:
        if retention.value is not None:
            return "measured"
        return "no effect" if arm in self.without_effect else "not measured"


_JUDGED = (
    *("verdict", "verdict_p", "verdict_more_prompts", "quality_word", "quality_more_prompts"),
    "among_best",
)


def _bare(interval: Interval) -> Interval:
    """Return the ratio of a reference to itself, which is not measured: without an interval."""
    return Interval(interval.value)


def _influence(side: v.Side, names: list[str]) -> np.ndarray:
    """Return each prompt's part in a ratio of sums [n], by the delta method."""
    sums, counts = (np.array([x[n] for n in names], float) for x in (side.sums, side.counts))
    return (sums - side.mean(names) * counts) / counts.mean()


def _half_count(side: v.Side, names: list[str]) -> float:
    means = np.abs(side.by_prompt(names))
    if means.min() != means.max() or means[0] not in (0.0, 1.0):
        return 0.0
    rate = (means.sum() + 0.5) / (len(means) + 1)
    return float(rate * (1 - rate))


def _key(arm: Arm) -> str:
    return repr(arm)


def _within_0_to_1(found: Interval) -> Interval:
    if found.low is None or found.high is None:
        return found
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return replace(found, low=low, high=high) if low < high else replace(found, low=None, high=None)
