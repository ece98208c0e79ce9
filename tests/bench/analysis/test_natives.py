"""Native twins: plugins made for the upgraded model, from the manifest to the trials."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.plan.checks import preflight
from bench.plan.conditions import ConditionSet
from bench.plan.plan import make_plan
from bench.plan.selection import Selection
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from runners.methods.floor import Oracle
from runners.methods.hires import Hires
from runners.methods.sdedit import SDEdit
from runners.protocols import arrangement_of, uses_upgraded
from tests.bench.conftest import SMALL, WEIGHTS, job_of, plan_of
from tests.bench.plugin_bytes import plugin_bytes
from tests.bench.test_stacks import execute, of

TWINS = """\
  - {id: up, kind: lora, source: up.bin, side: upgraded, trigger: outline drawing, weight: 0.7}
  - {id: upnet, kind: controlnet, source: upnet.bin, side: upgraded, condition: canny}
stacks:
  - {id: both, plugins: [{id: lora}, {id: net, scale: 0.5}]}
cases:"""
METHODS = """  - {name: hires, t0: [0.5]}
  - name: oracle
settings:"""
NATIVE = (
    SMALL.replace("cases:", TWINS, 1)
    .replace("settings:", METHODS, 1)
    .replace("trigger: outline drawing}", "trigger: outline drawing, native: up}", 1)
    .replace("condition: canny}", "condition: canny, native: upnet}", 1)
)


@pytest.fixture
def native(manifest_file: Path) -> Manifest:
    for name in ("up", "upnet"):
        (manifest_file.parent / f"{name}.bin").write_bytes(plugin_bytes(name))
    return parse_manifest(NATIVE, manifest_file)


def problems_of(text: str, path: Path | None) -> str:
    assert path is not None
    with pytest.raises(UserError) as caught:
        parse_manifest(text, path)
    return "\n".join(caught.value.problems)


def test_oracle_trials_hold_the_twins_and_their_words(native: Manifest) -> None:
    plan = plan_of(native)
    (group,) = [g for g in plan.groups if g.arrangement == "native" and g.plugin == "lora"]
    assert [file.plugin_id for file in plan.stack(group)] == ["up"]
    trial = of(plan, "lora", "oracle")[0]
    assert json.loads(trial.stack) == ["up"]
    assert trial.upgraded_prompt.endswith("outline drawing")
    assert of(plan, "lora", "sdedit")[0].upgraded_prompt == trial.base_prompt
    assert (trial.plugin_scale, trial.t0) == (None, None)
    both = of(plan, "both", "oracle")[0]
    assert json.loads(both.stack) == ["up", "upnet"]
    assert json.loads(both.conditions) == {"upnet": f"conditions/canny-upgraded/{both.case_id}.png"}


def test_older_trials_keep_their_ids_beside_the_twins(manifest: Manifest, native: Manifest) -> None:
    assert {t.trial_id for t in plan_of(manifest).trials} <= {
        t.trial_id for t in plan_of(native).trials
    }


def test_the_twin_s_weights_decide_the_oracle_s_ids_alone(native: Manifest) -> None:
    assert native.path is not None
    before = plan_of(native)
    (native.path.parent / "up.bin").write_bytes(b"another")
    after = plan_of(parse_manifest(NATIVE, native.path))
    old, new = ({t.trial_id for t in plan.trials} for plan in (before, after))
    changed = [t for t in before.trials if t.trial_id not in new]
    assert {(t.plugin, t.method) for t in changed} == {("lora", "oracle"), ("both", "oracle")}
    assert len(old) == len(new)


def test_hires_ids_do_not_hold_the_upgraded_model(native: Manifest) -> None:
    job = job_of(native)
    plans = [
        make_plan(replace(job, weights={**WEIGHTS, "upgraded": u * 64}), ConditionSet.of_job(job))
        for u in "uv"
    ]
    hires, sdedit = (
        [{t.trial_id for t in plan.trials if t.method == method} for plan in plans]
        for method in ("hires", "sdedit")
    )
    assert hires[0] == hires[1]
    assert not sdedit[0] & sdedit[1]


def test_a_plugin_without_a_twin_has_no_oracle_row(native: Manifest) -> None:
    assert native.path is not None
    text = NATIVE.replace(", native: up}", "}", 1).replace("stacks:", "#", 1)
    text = text.replace("  - {id: both", "  # {id: both").replace(
        "side: upgraded, trigger", "trigger"
    )
    plan = plan_of(parse_manifest(text, native.path))
    assert {t.plugin for t in plan.trials if t.method == "oracle"} == {"net"}


def test_choosing_a_plugin_keeps_its_twin(native: Manifest) -> None:
    chosen = Selection(plugins=("lora",)).apply(native)
    assert [spec.id for spec in chosen.plugins] == ["lora", "up"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("native: up}", "native: upp}", "use up"),
        ("native: up}", "native: net}", "side: upgraded"),
        ("weight: 0.7}", "weight: 0.7, native: upnet}", "remove 'native'"),
        (", native: up}", "}", "plugin's 'native'"),
    ],
)
def test_wrong_twins_are_refused(native: Manifest, old: str, new: str, message: str) -> None:
    assert message in problems_of(NATIVE.replace(old, new, 1), native.path)


def test_oracle_without_any_twin_is_refused_before_anything_runs(manifest: Manifest) -> None:
    with pytest.raises(UserError, match="native: ID"):
        preflight(job_of(manifest, methods=("oracle",)))


def test_oracle_and_hires_are_rendered_scored_and_listed(native: Manifest, tmp_path: Path) -> None:
    store, watcher = execute(plan_of(native), tmp_path / "run")
    assert "up" in watcher.seen
    assert watcher.seen["upnet"][1].conditions["upnet"].shape == (128, 128, 3)
    done = store.results().merge(store.trials(), on="trial_id")
    assert set(done.loc[done["method"] == "oracle", "plugin"]) == {"lora", "net", "both"}
    assert set(done["status"]) == {"ok"}


def test_optional_traits_have_the_meaning_of_older_methods() -> None:
    assert (arrangement_of(Oracle()), arrangement_of(SDEdit())) == ("native", "own")
    assert uses_upgraded(SDEdit()) and not uses_upgraded(Hires())
