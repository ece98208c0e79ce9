"""Settings of one plugin: its trials, its references, its rows; nothing mixes settings."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.analysis.summary import costs_of
from bench.cli.explain import explain_trial
from bench.errors import UserError
from bench.plan.checks import preflight
from bench.plan.conditions import ConditionSet
from bench.plan.plan import Plan
from bench.plan.resume import locked_manifest
from bench.render.execute import Execution
from bench.scoring.images import read_images
from bench.store import records
from bench.store.run_store import RunStore
from leaderboard.study.design import _pictures
from plugins_manifest.schema.load import parse_manifest
from runners.base import RenderCase, Rendered, RenderSettings, Stack, Variant
from tests.bench.conftest import SMALL, job_of, paint, plan_of
from tests.bench.plugin_bytes import plugin_bytes

FAST = "{steps: 2, guidance_scale: 1, sampler: lcm}"
EXTRA = f"""\
  - {{id: fast, kind: lora, source: lora.bin, weight: 0.9, settings: {FAST}}}
  - {{id: fast2, kind: lora, source: lora.bin, weight: 0.8, settings: {FAST}}}
  - {{id: skip, kind: lora, source: lora.bin, weight: 0.7, settings: {{clip_skip: 2}}}}
  - {{id: same, kind: lora, source: lora.bin, weight: 0.6, settings: {{steps: 4, clip_skip: 1}}}}
stacks:
  - {{id: both, plugins: [{{id: fast}}, {{id: skip}}]}}
  - {{id: slow, plugins: [{{id: fast}}, {{id: skip}}], settings: {{steps: 3}}}}
cases:"""
OWN = SMALL.replace("cases:", EXTRA, 1)


class Recorder:
    """Paints, and records the settings of each batch."""

    def __init__(self) -> None:
        self.settings: dict[str, RenderSettings] = {}

    def __call__(
        self,
        stack: Stack,
        cases: list[RenderCase],
        variants: list[Variant],
        settings: RenderSettings,
    ) -> Iterator[Rendered]:
        for variant in variants:
            for i, case in enumerate(cases):
                name = "+".join(f.plugin_id for f in stack) or f"floor {settings.steps}"
                self.settings[name] = settings
                yield Rendered(variant, i, paint(case, variant), float(settings.steps), 1.0)


@pytest.fixture
def plan(manifest_file: Path) -> Plan:
    return plan_of(parse_manifest(OWN, manifest_file))


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "run")
    store.write_run_facts({"run_id": "r", "status": "running"})
    conditions = ConditionSet("pocket", (64, 64), store.folder, upgraded_size_px=(128, 128))
    store.write_manifest(locked_manifest(plan, store.folder))
    store.write_cases(plan.cases.values())
    store.write_trials([trial.as_row() for trial in plan.trials])
    execution = Execution(
        plan=plan, store=store, conditions=conditions, render=Recorder(), show_progress=False
    )
    execution.run()
    return store


def of(plan: Plan, name: str, method: str) -> list:
    return [t for t in plan.trials if (t.plugin, t.method) == (name, method)]


def test_only_what_differs_gets_other_trials(plan: Plan, manifest_file: Path) -> None:
    text = OWN.replace(f", settings: {FAST}", "").replace(
        ", settings: {steps: 4, clip_skip: 1}", ""
    )
    plain = plan_of(parse_manifest(text.replace(", settings: {clip_skip: 2}", ""), manifest_file))
    ids = [trial.trial_id for trial in plan.trials]
    assert len(set(ids)) == len(ids)
    for name, method, is_equal in (
        *(("lora", m, True) for m in ("base", "xadapter")),
        *(("same", m, True) for m in ("base", "sdedit", "xadapter")),
        *(("fast", m, False) for m in ("base", "sdedit", "xadapter")),
        *(("skip", m, False) for m in ("base", "sdedit", "xadapter")),
    ):
        left, right = ([t.trial_id for t in of(p, name, method)] for p in (plan, plain))
        assert left and (left == right) is is_equal, (name, method)


def test_references_are_rendered_once_for_each_settings(plan: Plan) -> None:
    floors = of(plan, "", "floor")
    fast = '{"guidance_scale": 1.0, "sampler": "lcm", "steps": 2}'
    slow = '{"guidance_scale": 1.0, "sampler": "lcm", "steps": 3}'
    counts = {text: sum(t.settings == text for t in floors) for text in (None, fast, slow)}
    assert counts == {None: 3, fast: 3, slow: 3}
    assert {t.clip_skip for t in floors} == {None}
    assert {t.settings for t in of(plan, "both", "xadapter")} == {fast}
    assert {t.clip_skip for t in of(plan, "both", "xadapter")} == {2}
    assert {t.settings for t in of(plan, "slow", "base")} == {slow}
    assert {(t.settings, t.clip_skip) for t in of(plan, "same", "base")} == {(None, None)}


def test_each_batch_is_rendered_with_its_settings(plan: Plan, run: RunStore) -> None:
    recorder = Recorder()
    for group in plan.groups:
        name = group.plugin or f"floor {group.settings.steps}"
        recorder.settings.setdefault(name, group.settings)
    assert recorder.settings["fast"].sampler == "lcm" and recorder.settings["lora"].steps == 4
    seconds = {(arm.plugin, arm.method): cost[0] for arm, cost in costs_of(run).items() if cost[0]}
    expected = {"lora": 4, "net": 4, "skip": 4, "same": 4, "fast": 2, "fast2": 2, "both": 2}
    for plugin, steps in {**expected, "slow": 3}.items():
        assert seconds[plugin, "floor"] == seconds[plugin, "base"] == steps


def test_every_image_is_compared_with_references_of_its_settings(run: RunStore) -> None:
    images = read_images(run)
    rows = {row["trial_id"]: row for row in records(run.trials())}
    seen = set()
    for image in images.images():
        if image.method == "floor":
            continue
        for other in (images.base_of(image), images.floor_of(image)):
            assert other is not None
            left, right = (rows[i.trial_id]["settings"] for i in (image, other))
            assert left == right
            seen.add((image.plugin, other.method))
    assert len(seen) == 8 * 2
    per_floor = [i for i in images.images() if i.method == "floor"]
    assert len(per_floor) == 8 * 3  # one for each plugin and case


def test_a_study_pairs_images_of_equal_settings(run: RunStore) -> None:
    rows = records(run.trials().merge(run.results(), on="trial_id"))
    pictures = _pictures(rows)
    floors = [p for p in pictures if p.arm.method == "floor"]
    assert len(floors) == 8 * 3
    by_id = {row["trial_id"]: row["settings"] or "" for row in rows}
    for floor in floors:
        twin = next(p for p in pictures if p.scene == floor.scene and p.arm.method == "base")
        assert by_id[floor.trial_id] == by_id[twin.trial_id]


def test_explain_has_the_settings_of_the_image(plan: Plan, run: RunStore) -> None:
    found = explain_trial(run, of(plan, "both", "base")[0].trial_id)["settings"]
    assert (found["steps"], found["sampler"], found["clip_skip"]) == (2, "lcm", 2)
    found = explain_trial(run, of(plan, "lora", "base")[0].trial_id)["settings"]
    assert (found["steps"], found["sampler"], found["clip_skip"]) == (4, "dpm++", None)
    assert json.dumps(found)


def test_the_locked_manifest_plans_the_same_trials(plan: Plan, run: RunStore) -> None:
    again = plan_of(run.manifest())
    assert {t.trial_id for t in again.trials} == {t.trial_id for t in plan.trials}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("settings: {clip_skip: 2}", "settings: {clip_skip: 3}", "encoder has 2 layers"),
        ("steps: 2", "steps: 60", "takes at most 50 steps"),
    ],
)
def test_settings_that_a_model_or_sampler_lacks_are_problems(
    manifest_file: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        preflight(job_of(parse_manifest(OWN.replace(old, new), manifest_file)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((("settings: {clip_skip: 2}", "settings: {steps: 9}"),), "its plugins have steps 2, 9"),
        ((("steps: 2", "guidance: 2"),), "unknown key 'guidance'"),
        ((("steps: 2", "base_size: [64, 64]"),), "unknown key 'base_size'"),
        ((("sampler: lcm", "sampler: 3"),), "write a text"),
    ],
)
def test_wrong_settings_are_errors_of_the_manifest(
    manifest_file: Path, changes: tuple[tuple[str, str], ...], words: str
) -> None:
    text = OWN
    for old, new in changes:
        text = text.replace(old, new, 1)
    with pytest.raises(UserError, match=words):
        parse_manifest(text, manifest_file)


def test_twins_of_the_upgraded_side_take_no_settings_of_their_own(manifest_file: Path) -> None:
    (manifest_file.parent / "up.bin").write_bytes(plugin_bytes("up"))
    up = "  - {id: up, kind: lora, source: up.bin, side: upgraded, settings: {SET}}\ncases:"
    text = SMALL.replace("cases:", up, 1).replace("{id: lora,", "{id: lora, native: up,")
    with pytest.raises(UserError, match="the settings of the plugin that names it"):
        parse_manifest(text.replace("{SET}", "{steps: 2}"), manifest_file)
    with pytest.raises(UserError, match="base side's text encoder"):
        parse_manifest(text.replace("{SET}", "{clip_skip: 2}"), manifest_file)


def test_metrics_read_the_plain_words_of_weighted_prompts(run: RunStore) -> None:
    data = run.manifest().as_data()
    data["settings"]["prompt_syntax"] = "weights"
    cases = list(run.cases().values())
    run.write_manifest(data)
    run.write_cases(
        [type(c)(**{**vars(c), "prompt": "a (large:1.3) [red] circle BREAK"}) for c in cases]
    )
    assert {image.prompt for image in read_images(run).images()} == {"a large red circle"}
    assert isinstance(next(iter(read_images(run).images())).load_picture(), np.ndarray)
