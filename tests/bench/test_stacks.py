"""Stacks, remixes and rarer plugin settings, from the manifest to the trials and the scores."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.plan.checks import preflight
from bench.plan.conditions import ConditionSet
from bench.plan.plan import Plan
from bench.plan.resume import locked_manifest
from bench.plan.selection import Selection
from bench.render.execute import Execution
from bench.run import RunRequest, run_benchmark
from bench.scoring.images import read_images
from bench.store.files import png_bytes, write_bytes
from bench.store.run_store import RunStore
from metrics.condition.overlap import EDGE_F1, MASK_IOU
from metrics.styles import POCKET_STYLE
from plugins_manifest.cases.cases import Case
from plugins_manifest.lock.lock import Lock, LockedPlugin, Origin, write_lock
from plugins_manifest.schema.load import load_manifest, parse_manifest
from plugins_manifest.schema.manifest import Manifest
from runners.base import RenderCase, Stack
from tests.bench.conftest import SMALL, Painter, job_of, plan_of
from tests.bench.plugin_bytes import plugin_bytes

EXTRA = """\
  - {id: mask, kind: controlnet, source: net.bin, condition: mask}
  - {id: hatch, kind: lora, source: lora.bin, trigger: hatched drawing, weight: 0.5}
  - {id: up, kind: lora, source: up.bin, side: upgraded, trigger: gold, weight: 0.7}
  - {id: upnet, kind: controlnet, source: upnet.bin, side: upgraded, condition: canny}
stacks:
  - {id: both, plugins: [{id: lora}, {id: net, scale: 0.5}]}
  - {id: nets, plugins: [{id: net, scale: 0.5}, {id: mask, scale: 0.25}]}
  - {id: styles, plugins: [{id: lora}, {id: hatch}]}
  - {id: remix, plugins: [{id: lora}, {id: up}, {id: upnet}]}
cases:"""
STACKED = SMALL.replace("cases:", EXTRA, 1)


@pytest.fixture
def stacked(manifest_file: Path) -> Manifest:
    for name in ("up", "upnet"):
        (manifest_file.parent / f"{name}.bin").write_bytes(plugin_bytes(name))
    return parse_manifest(STACKED, manifest_file)


def of(plan: Plan, name: str, method: str | None = None) -> list:
    return [t for t in plan.trials if t.plugin == name and method in (None, t.method)]


def test_a_stack_is_a_row_of_its_own_and_plain_plugins_keep_their_ids(
    manifest: Manifest, stacked: Manifest
) -> None:
    plain, plan = plan_of(manifest), plan_of(stacked)
    ids = [trial.trial_id for trial in plan.trials]
    assert len(set(ids)) == len(ids)
    assert {t.trial_id for t in plain.trials} <= set(ids)
    assert {t.kind for t in of(plan, "both")} == {"stack"}
    assert json.loads(of(plan, "both")[0].stack) == ["lora", "net"]
    assert {t.plugin for t in plan.trials} == {
        *("", "lora", "net", "mask", "hatch", "both", "nets", "styles", "remix")
    }


def test_each_member_has_its_weight_and_its_condition(stacked: Manifest) -> None:
    plan = plan_of(stacked)
    assert [file.weight for file in plan.files(plan.plugin_sets["own"]["nets"])] == [0.5, 0.25]
    assert [file.weight for file in plan.files(plan.plugin_sets["own"]["styles"])] == [1.0, 0.5]
    trial = of(plan, "nets")[0]
    case_id = trial.case_id
    assert json.loads(trial.conditions) == {
        "net": f"conditions/canny/{case_id}.png",
        "mask": f"conditions/mask/{case_id}.png",
    }


def test_prompts_hold_the_triggers_of_their_own_side(stacked: Manifest) -> None:
    plan = plan_of(stacked)
    styles, remix = of(plan, "styles")[0], of(plan, "remix")[0]
    assert styles.base_prompt == f"{styles.upgraded_prompt} outline drawing hatched drawing"
    content = plan.cases[remix.case_id].prompt
    assert remix.base_prompt == f"{content} outline drawing"
    assert remix.upgraded_prompt == f"{content} gold"


def test_a_remix_has_floor_images_of_its_own(stacked: Manifest) -> None:
    plan = plan_of(stacked)
    assert {t.plugin for t in plan.trials if t.method == "floor"} == {"", "remix"}
    assert [t.plugin_scale for t in of(plan, "remix", "floor")] == [None] * 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight: 0.7", "weight: 0.8"),
        ("side: upgraded, trigger: gold", "lora_semantics: xadapter-official, side: upgraded"),
        ("{id: net, scale: 0.5}]}", "{id: net, scale: 0.75}]}"),
        ("plugins: [{id: lora}, {id: hatch}]", "plugins: [{id: hatch}, {id: lora}]"),
    ],
)
def test_every_member_enters_the_ids_of_its_stack_alone(
    stacked: Manifest, old: str, new: str
) -> None:
    assert stacked.path is not None
    other = parse_manifest(STACKED.replace(old, new, 1), stacked.path)
    before, after = ({t.trial_id for t in plan_of(m).trials} for m in (stacked, other))
    changed = {t.plugin for t in plan_of(stacked).trials if t.trial_id not in after}
    assert changed
    assert changed <= {"both", "nets", "styles", "remix"}
    assert len(before) == len(after)


def test_own_seeds_replace_the_manifest_s_and_floor_has_them_too(manifest: Manifest) -> None:
    text = SMALL.replace("trigger: outline drawing", "trigger: outline drawing, seeds: [4, 5]")
    assert manifest.path is not None
    plan = plan_of(parse_manifest(text, manifest.path))
    assert {t.seed for t in of(plan, "lora")} == {4, 5}
    assert {t.seed for t in of(plan, "net")} == {0}
    assert {t.seed for t in of(plan, "", "floor")} == {0, 4, 5}
    chosen = plan_of(parse_manifest(text, manifest.path), seeds=(9,))
    assert {t.seed for t in chosen.trials} == {9}


class Watcher(Painter):
    """Remembers the cases and plugins that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, tuple[Stack, RenderCase]] = {}

    def __call__(self, stack: Stack, cases: Sequence[RenderCase], variants, settings):
        self.seen["+".join(file.plugin_id for file in stack)] = (stack, cases[0])
        return super().__call__(stack, cases, variants, settings)


def execute(plan: Plan, folder: Path) -> tuple[RunStore, Watcher]:
    store, watcher = RunStore(folder), Watcher()
    folder.mkdir(exist_ok=True)
    conditions = ConditionSet("pocket", (64, 64), folder=folder, upgraded_size_px=(128, 128))
    store.write_run_facts({"status": "running"})
    store.write_manifest(locked_manifest(plan, folder))
    store.write_cases(plan.cases.values())
    store.write_trials([trial.as_row() for trial in plan.trials])
    Execution(plan, store, conditions, watcher, show_progress=False).run()
    return store, watcher


def test_the_renderer_gets_every_plugin_with_its_condition(
    stacked: Manifest, tmp_path: Path
) -> None:
    _, watcher = execute(plan_of(stacked), tmp_path / "run")
    stack, case = watcher.seen["net+mask"]
    assert [file.weight for file in stack] == [0.5, 0.25]
    assert {name: image.shape for name, image in case.conditions.items()} == {
        "net": (64, 64, 3),
        "mask": (64, 64, 3),
    }
    stack, case = watcher.seen["lora+up+upnet"]
    assert [file.side for file in stack] == ["base", "upgraded", "upgraded"]
    assert case.conditions["upnet"].shape == (128, 128, 3)


def test_every_condition_of_a_stack_is_measured(stacked: Manifest, tmp_path: Path) -> None:
    store, _ = execute(plan_of(stacked), tmp_path / "run")
    images = {i.plugin: i for i in read_images(store).images() if i.method == "base"}
    asked = {
        metric.name: {name for name, image in images.items() if metric.applies_to(image)}
        for metric in (EDGE_F1, MASK_IOU, POCKET_STYLE)
    }
    assert asked["edge-f1"] == {"net", "both", "nets", "remix"}
    assert asked["mask-iou"] == {"mask", "nets"}
    assert asked["pocket-style"] == {"lora", "hatch", "both", "styles", "remix"}
    canny, mask = (images["nets"].condition_of(name) for name in ("canny", "mask"))
    assert canny is not None
    assert mask is not None
    assert not np.array_equal(canny(), mask())
    assert images["both"].trigger == "outline drawing"
    assert images["styles"].trigger is None  # two styles: no single one to be recognized


def test_a_remix_is_compared_with_its_own_floor(stacked: Manifest, tmp_path: Path) -> None:
    store, _ = execute(plan_of(stacked), tmp_path / "run")
    run_images = read_images(store)
    floors = {}
    for image in run_images.images():
        if image.method == "xadapter":
            floor = run_images.floor_of(image)
            assert floor is not None
            floors.setdefault(image.plugin, set()).add(floor.trial_id)
    assert floors["lora"] == floors["both"]
    assert not floors["lora"] & floors["remix"]


def test_the_written_manifest_of_a_stacked_run_plans_the_same_trials(
    stacked: Manifest, tmp_path: Path
) -> None:
    plan = plan_of(stacked)
    execute(plan, tmp_path / "run")
    again = load_manifest(tmp_path / "run" / "manifest.yaml")
    assert [t.trial_id for t in plan_of(again).trials] == [t.trial_id for t in plan.trials]


def test_finished_conditions_come_from_the_case_or_a_folder(tmp_path: Path) -> None:
    image = np.full((32, 48, 3), 9, np.uint8)
    write_bytes(tmp_path / "mlsd.png", png_bytes(image))
    case = Case("c", "a cat", condition_paths=(("mlsd", str(tmp_path / "mlsd.png")),))
    conditions = ConditionSet("sd15-sdxl", (64, 64), upgraded_size_px=(128, 128))
    assert conditions.image(case, "mlsd").shape == (64, 64, 3)
    assert conditions.image(case, "mlsd", side="upgraded").shape == (128, 128, 3)
    assert int(conditions.image(case, "mlsd").max()) == 9
    bare = replace(case, condition_paths=())
    with pytest.raises(UserError, match="no mlsd images of 'c'"):
        conditions.image(bare, "mlsd")


def test_an_embedding_for_the_negative_prompt_reaches_the_base_side_alone(
    manifest: Manifest, tmp_path: Path
) -> None:
    text = SMALL.replace(
        "kind: lora, source: lora.bin, trigger: outline drawing",
        "kind: textual-inversion, source: lora.bin, token: bad, polarity: negative",
    )
    assert manifest.path is not None
    plan = plan_of(parse_manifest(text, manifest.path))
    trial = of(plan, "lora")[0]
    assert trial.kind == "textual_inversion"
    assert trial.base_prompt == trial.upgraded_prompt
    _, watcher = execute(plan, tmp_path / "run")
    _, case = watcher.seen["lora"]
    assert (case.base_negative, case.negative_prompt) == ("bad", "")
    _, case = watcher.seen["net"]
    assert case.base_negative == ""


@pytest.mark.slow
@pytest.mark.timeout(1200)  # minutes where other work runs beside it
@pytest.mark.usefixtures("pocket_weights")
def test_the_shipped_stacks_run_end_to_end(tmp_path: Path) -> None:
    chosen = Selection(methods=("base", "floor"), limit=1, plugins=("canny-and-mask",))
    request = RunRequest("pocket-stacks", chosen, tmp_path / "run", "cpu", show_progress=False)
    assert run_benchmark(request).n_failed == 0
    summary = RunStore.open(tmp_path / "run").summary()
    assert set(summary["plugin"]) == {"canny-and-mask"}
    assert set(summary["kind"]) == {"stack"}
    assert {"edge-f1-1px", "mask-iou"} <= set(summary["metric"])
    assert run_benchmark(request).was_finished


def test_selected_stacks_bring_the_plugins_that_they_need(stacked: Manifest) -> None:
    plan = plan_of(stacked, plugins=("both", "mask"))
    assert {t.plugin for t in plan.trials} == {"", "both", "mask"}
    assert set(plan.plugins) == {"lora", "net", "mask"}
    everything = {t.trial_id for t in plan_of(stacked).trials}
    assert {t.trial_id for t in plan.trials} <= everything


def test_plugins_marked_nsfw_are_rendered_only_when_named(stacked: Manifest) -> None:
    assert stacked.path is not None
    text = STACKED.replace("condition: mask", "condition: mask, nsfw: true", 1)
    marked = parse_manifest(text, stacked.path)
    left_out = {"mask", "nets"}
    assert not left_out & {t.plugin for t in plan_of(marked).trials}
    assert {t.plugin for t in plan_of(marked, plugins=("nets",)).trials} == {"", "nets"}


def test_what_its_site_marks_nsfw_is_rendered_only_when_named(stacked: Manifest) -> None:
    """The lock notes what the site says; another source of the same id was not meant."""
    assert stacked.path is not None
    entry = {"id": "mask", "kind": "controlnet", "origin": Origin(site="local"), "nsfw": True}
    locked = [LockedPlugin(source=source, **entry) for source in ("other.bin", "net.bin")]
    path = stacked.path.with_suffix(".lock.yaml")
    write_lock(path, Lock(manifest="m", plugins=(locked[0],)))
    assert "mask" in {t.plugin for t in plan_of(stacked).trials}
    write_lock(path, Lock(manifest="m", plugins=(locked[1],)))
    assert not {"mask", "nets"} & {t.plugin for t in plan_of(stacked).trials}
    assert {t.plugin for t in plan_of(stacked, plugins=("mask",)).trials} == {"", "mask"}


def test_an_unknown_plugin_is_told_with_the_nearest(stacked: Manifest) -> None:
    with pytest.raises(UserError, match="unknown plugin or stack 'bath': use both"):
        preflight(job_of(stacked, plugins=("bath",)))
