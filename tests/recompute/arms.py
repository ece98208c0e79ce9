"""The scores of a run by arm and metric: what its tables are made of."""

from __future__ import annotations

import json
from typing import Any

from tests.recompute.files import ARM, Row, RunFiles, arm_of
from tests.recompute.intervals import Interval, jackknife, mean_over_prompts, paired_difference

Arm = tuple[Any, ...]
Pairs = dict[tuple[str, int], float]
Group = tuple[float, dict[str, float], int]  # value, values without each prompt, images
PLUGIN, KIND, METHOD, T0, PLUGIN_SCALE = range(5)


class Arms:
    """Stored scores by arm and metric."""

    def __init__(self, run: RunFiles) -> None:
        self.prompt_of = run.prompt_of
        self.images: dict[tuple[Arm, str], Pairs] = {}
        self.groups: dict[tuple[Arm, str], Group] = {}
        self.better: dict[str, str] = {}
        for row in run.scores:
            self._add(row)
        self.arms = list(dict.fromkeys(arm for arm, _ in (*self.images, *self.groups)))

    def _add(self, row: Row) -> None:
        key = arm_of(row), row["metric"]
        self.better[row["metric"]] = row["better"]
        if row["level"] == "image":
            pairs = self.images.setdefault(key, {})
            if row["value"] is not None:
                pairs[row["case_id"], int(row["seed"])] = row["value"]
        elif row["value"] is not None:
            without = json.loads(row["leave_one_out"]) if row["leave_one_out"] else {}
            self.groups[key] = (row["value"], without, int(row["n"]))

    def estimate(self, arm: Arm, metric: str) -> Interval:
        """Return the mean of an image metric, or the value of a set, with its interval."""
        if (arm, metric) in self.groups:
            return jackknife(*self.groups[arm, metric])
        pairs = self.images.get((arm, metric), {})
        prompts = [self.prompt_of[case] for case, _ in pairs]
        return mean_over_prompts(
            list(pairs.values()), prompts, support=self._support(arm[PLUGIN], metric)
        )

    def difference(self, arm: Arm, other: Arm, metric: str) -> Interval:
        """Return arm - other on common prompts."""
        sides = [self.groups.get((a, metric)) for a in (arm, other)]
        if sides[0] is not None and sides[1] is not None:
            (a, a_left, n), (b, b_left, m) = sides[0], sides[1]
            if a_left.keys() != b_left.keys():
                return Interval(a - b)
            return jackknife(a - b, {k: a_left[k] - b_left[k] for k in a_left}, min(n, m))
        images = [self.images.get((a, metric), {}) for a in (arm, other)]
        return paired_difference(images[0], images[1], self.prompt_of)

    def base_of(self, arm: Arm) -> Arm | None:
        """Return the base arm of the same plugin scale, else that nearest to 1."""
        found = [a for a in self.arms if a[PLUGIN] == arm[PLUGIN] and a[METHOD] == "base"]
        wanted = 1.0 if arm[PLUGIN_SCALE] is None else arm[PLUGIN_SCALE]
        same = [a for a in found if a[PLUGIN_SCALE] == wanted]
        return min(same or found, key=lambda a: abs((a[PLUGIN_SCALE] or 1.0) - 1.0), default=None)

    def of_plugin(self, plugin: str) -> list[Arm]:
        """Return the arms of a plugin."""
        return [arm for arm in self.arms if arm[PLUGIN] == plugin]

    def _support(self, plugin: str, metric: str) -> tuple[float, float]:
        cells = [p for (a, m), p in self.images.items() if m == metric and a[PLUGIN] == plugin]
        values = [value for pairs in cells for value in pairs.values()]
        return min(values, default=0.0), max(values, default=0.0)


def costs(run: RunFiles) -> dict[Arm, tuple[float | None, float | None]]:
    """Return mean seconds and peak memory of each arm's images."""
    trials = {trial["trial_id"]: trial for trial in run.trials}
    seen: dict[Arm, list[Row]] = {}
    for subject in run.subjects:
        trial = trials[subject.trial_id]
        named = {**trial, "plugin": subject.plugin, "kind": subject.kind}
        seen.setdefault(arm_of(named), []).append(run.results[subject.trial_id])
    return {
        arm: (
            _mean([r["seconds"] for r in rows if r["seconds"] is not None]),
            max(
                (r["peak_memory_mib"] for r in rows if r["peak_memory_mib"] is not None),
                default=None,
            ),
        )
        for arm, rows in seen.items()
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def name_of(arm: Arm, metric: str = "") -> str:
    """Return an arm's name for a message."""
    knobs = [f"{n}={v:g}" for n, v in zip(ARM[T0:], arm[T0:], strict=True) if v is not None]
    return " ".join([str(arm[PLUGIN]), str(arm[METHOD]), *knobs, *([metric] if metric else [])])
