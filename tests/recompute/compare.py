"""Compare a whole run with its recomputation: scores, ceilings, summary, compatibility."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from tests.recompute import pictures
from tests.recompute.arms import METHOD, Arms, costs, name_of
from tests.recompute.entries import Comparison, Entry
from tests.recompute.files import Row, RunFiles, arm_of
from tests.recompute.image_scores import (
    EXACT,
    Features,
    condition_measure,
    image_metrics,
)
from tests.recompute.intervals import Interval
from tests.recompute.plugins import Plugin
from tests.recompute.set_scores import set_metrics, sets_of
from tests.recompute.verdicts import Policy

POLICY = Path(__file__).parents[2] / "bench" / "analysis" / "verdict_policy.yaml"
_CLOSED_GAPS = "gaps of contours closed"  # older definitions of a style's rate did without
PARTS = ("scores", "ceilings", "summary", "compatibility")
_COUNTS = ("verdict_more_prompts", "quality_more_prompts")


def compare_run(
    folder: Path, *, policy: Path = POLICY, parts: Collection[str] = PARTS
) -> Comparison:
    """Recompute everything of a run directory, or some parts, and compare."""
    run, comparison = RunFiles(folder), Comparison()
    if "scores" in parts:
        _compare_scores(run, Features(run), comparison)
    if "ceilings" in parts:
        _compare_ceilings(run, comparison)
    arms = Arms(run)
    if "summary" in parts:
        comparison.add(_summary(run, arms))
    if "compatibility" in parts:
        comparison.add(_compatibility(run, arms, _read_policy(policy)))
    return comparison


def _compare_scores(run: RunFiles, features: Features, comparison: Comparison) -> None:
    subjects = {(s.trial_id, s.plugin): s for s in run.subjects}
    sets, of_images, of_sets = (
        sets_of(run),
        image_metrics(run, features),
        set_metrics(run, features),
    )
    for row in run.scores:
        why = _not_recomputed(row, features, known={*of_images, *of_sets})
        if why is not None:
            comparison.skipped[why] += 1
            continue
        metric = row["metric"]
        if row["level"] == "image":
            subject = subjects.get((row["trial_id"], row["plugin"]))
            found = None if subject is None else of_images[metric].score(subject)
            where = f"{metric} of {row['plugin']} {row['trial_id']}"
            comparison.add(
                [Entry("scores", where, row["value"], found, of_images[metric].tolerance)]
            )
        else:
            members = sets.get(arm_of(row), [])
            comparison.add(_set_entries(row, of_sets[metric], members))


def _set_entries(row: Row, metric, members: list) -> Iterator[Entry]:
    found = metric.score(members)
    where = name_of(arm_of(row), row["metric"])
    yield Entry("scores", where, row["value"], found.value, metric.tolerance)
    stored = json.loads(row["leave_one_out"]) if row["leave_one_out"] else {}
    recomputed = found.without or {}
    for prompt in sorted(stored.keys() | recomputed.keys()):
        pair = stored.get(prompt), recomputed.get(prompt)
        yield Entry("leave-one-out values", f"{where} without {prompt!r}", *pair, metric.tolerance)


def _not_recomputed(row: Row, features: Features, *, known: set[str]) -> str | None:
    """Return why a score is not recomputed; None if it is."""
    name, recipe = row["metric"], row["recipe"]
    if row["kind"] == "stack":
        return "stacks"
    if name not in known:
        return f"{name}: no independent implementation"
    if name == "pocket-style-rate" and _CLOSED_GAPS not in recipe:
        return f"{name}: an older definition"
    if "pocket-scorer" in recipe and features.scorer.sha256[:12] not in recipe:
        return f"{name}: not the shipped scorer"
    return None


def _compare_ceilings(run: RunFiles, comparison: Comparison) -> None:
    from pocket.scenes import render, scene_at

    for row in run.ceilings:
        condition = run.condition(row["plugin"], row["case_id"])
        scene = run.cases[row["case_id"]]["scene"]
        measure = {"edge-iou": "iou", "mask-iou": "iou", "edge-precision": "precision"}.get(
            row["metric"], "recall" if row["metric"] == "edge-recall" else "f1"
        )
        is_known = row["metric"].startswith("edge-f1") or measure != "f1"
        if condition is None or scene is None or not is_known:
            comparison.skipped[f"ceilings of {row['metric']}"] += 1
            continue
        size_px = condition.shape[0]
        source = pictures.resized(render(scene_at(*scene), "flat", size_px), size_px)
        find = pictures.silhouettes if row["metric"] == "mask-iou" else pictures.canny
        tolerance_px = {"edge-f1-1px": 1, "edge-f1-2px": 2}.get(row["metric"], 0)
        found = condition_measure(measure, find(source), condition.max(axis=-1) > 127, tolerance_px)
        where = f"{row['metric']} of {row['plugin']} {row['case_id']}"
        comparison.add([Entry("ceilings", where, row["value"], found, EXACT)])


def _summary(run: RunFiles, arms: Arms) -> Iterator[Entry]:
    spent = costs(run)
    for row in run.table("summary"):
        arm, metric = arm_of(row), row["metric"]
        where = name_of(arm, metric)
        yield from _interval(
            "summary", where, row, name="value", found=arms.estimate(arm, metric), prefix=""
        )
        base = arms.base_of(arm)
        delta = Interval(None)
        if base is not None and arm != base:
            delta = arms.difference(arm, base, metric)
        yield from _interval(
            "summary", where, row, name="delta_to_base", found=delta, prefix="delta_"
        )
        seconds, memory = spent.get(arm, (None, None))
        yield Entry("summary", f"{where} seconds", row["seconds"], seconds)
        yield Entry("summary", f"{where} peak memory", row["peak_memory_mib"], memory)


def _interval(
    table: str, where: str, row: Row, *, name: str, found: Interval, prefix: str
) -> Iterator[Entry]:
    yield Entry(table, f"{where} {name}", row[name], found.value, 1e-9)
    for end in ("low", "high"):
        place = f"{where} {prefix}{end}"
        tolerance = found.slack or 1e-6
        yield Entry(table, place, row[f"{prefix}{end}"], getattr(found, end), tolerance)


def _compatibility(run: RunFiles, arms: Arms, policy: Policy) -> Iterator[Entry]:
    rows = [row for row in run.table("compatibility") if row["kind"] != "stack"]
    spent = costs(run)
    for name in dict.fromkeys(row["plugin"] for row in rows):
        own = [row for row in rows if row["plugin"] == name]
        plugin = Plugin(arms, own, policy=policy, costs=spent, ceilings=run.ceilings)
        for row in own:
            arm = arm_of(row)
            is_setting = row["level"] == "setting"
            found = plugin.setting(arm) if is_setting else plugin.method(arm[METHOD])
            where = f"{row['level']} {name_of(arm)}"
            for column, value in found.items():
                if isinstance(value, Interval):
                    yield from _interval(
                        "compatibility", where, row, name=column, found=value, prefix=f"{column}_"
                    )
                else:
                    # z values are inverted by other routines
                    tolerance = 1e-3 if column in _COUNTS else 1e-6
                    yield Entry("compatibility", f"{where} {column}", row[column], value, tolerance)


def _read_policy(path: Path) -> Policy:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Policy(**{k: v for k, v in values.items() if k != "schema"})
