"""The row `base-floor`: it comes with effect metrics, once for all plugins, at their settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plan.conditions import ConditionSet
from bench.plan.job import resolve_job
from bench.plan.judges import judges, with_brought_methods, with_default_metrics
from bench.plan.resume import locked_manifest
from bench.plan.selection import Selection
from bench.render.execute import Execution
from bench.scoring.images import read_images
from bench.store.run_store import RunStore
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from tests.bench.conftest import SMALL, Painter, plan_of

EFFECTS = "metrics: [pocket-effect-kept]\n"


@pytest.fixture
def measured(manifest_file: Path) -> Manifest:
    return parse_manifest(SMALL + EFFECTS, manifest_file)


def test_an_effect_metric_brings_the_base_model_without_the_plugin(
    manifest: Manifest, measured: Manifest
) -> None:
    found = resolve_job(measured, Selection()).manifest
    assert [m.name for m in found.methods] == [*(m.name for m in manifest.methods), "base-floor"]
    assert with_brought_methods(found) == found
    plain = resolve_job(manifest, Selection()).manifest
    assert plain.methods == manifest.methods


def test_it_is_rendered_once_for_all_plugins_on_the_content_prompt(measured: Manifest) -> None:
    trials = [t for t in plan_of(measured).trials if t.method == "base-floor"]
    assert len(trials) == 3
    assert {(t.plugin, t.plugin_scale, t.condition_path) for t in trials} == {("", None, None)}
    assert all(t.base_prompt == t.upgraded_prompt for t in trials)


def test_its_ids_depend_on_the_base_model_alone(measured: Manifest) -> None:
    def ids(manifest: Manifest) -> set[str]:
        return {t.trial_id for t in plan_of(manifest).trials if t.method == "base-floor"}

    larger = measured.settings.model_copy(update={"upgraded_size": (256, 256)})
    assert ids(measured.model_copy(update={"settings": larger})) == ids(measured)
    smaller = measured.settings.model_copy(update={"base_size": (32, 32)})
    assert not ids(measured.model_copy(update={"settings": smaller})) & ids(measured)


def test_the_other_trials_are_those_of_a_run_without_it(
    manifest: Manifest, measured: Manifest
) -> None:
    plain = {t.trial_id for t in plan_of(manifest).trials}
    assert {t.trial_id for t in plan_of(measured).trials if t.method != "base-floor"} == plain


def test_a_plugin_with_its_own_clip_skip_has_its_own_row(
    manifest_file: Path, tmp_path: Path
) -> None:
    """The floor does not see clip_skip; the base model without the plugin does."""
    text = SMALL.replace("trigger: outline drawing", "settings: {clip_skip: 2}") + EFFECTS
    plan = plan_of(parse_manifest(text, manifest_file))
    found = {m: [t for t in plan.trials if t.method == m] for m in ("floor", "base-floor")}
    assert len(found["floor"]) == 3
    assert sorted(t.clip_skip or 1 for t in found["base-floor"]) == [1, 1, 1, 2, 2, 2]
    store = RunStore(tmp_path / "run")
    store.write_manifest(locked_manifest(plan, store.folder))
    store.write_cases(plan.cases.values())
    store.write_trials([t.as_row() for t in plan.trials])
    painted = Painter()
    Execution(plan, store, ConditionSet("pocket", (64, 64), folder=store.folder), painted).run()
    rows = [i for i in read_images(store).images() if i.method == "base-floor"]
    skips = {t.trial_id: t.clip_skip or 1 for t in found["base-floor"]}
    assert len(rows) == 6
    assert {(i.plugin, skips[i.trial_id]) for i in rows} == {("lora", 2), ("net", 1)}


@pytest.mark.parametrize("condition", ["scribble", "mlsd"])
def test_a_condition_without_a_metric_is_judged_by_the_effect(
    manifest_file: Path, condition: str
) -> None:
    text = SMALL.replace("condition: canny", f"condition: {condition}")
    found = with_default_metrics(parse_manifest(text, manifest_file))
    assert "pocket-effect-kept" in found.metrics
    by_role = {judge.role: judge for judge in judges(found)["net"]}
    assert by_role["function"].measures and by_role["function"].metric == "pocket-effect-kept"
    canny = with_default_metrics(parse_manifest(SMALL, manifest_file))
    assert not any("effect" in name for name in canny.metrics)


def test_a_real_family_has_the_effect_in_clips_features(manifest_file: Path) -> None:
    text = SMALL.replace("condition: canny", "condition: scribble")
    real = parse_manifest(text, manifest_file).model_copy(update={"family": "sd15-sdxl"})
    (function,) = (j for j in judges(with_default_metrics(real))["net"] if j.role == "function")
    assert function.metric == "effect-kept"
