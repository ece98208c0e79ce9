"""Trial ids are content hashes: they change exactly with what decides the pixels."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from bench.errors import UserError
from bench.plan.cost import cost_facts, estimate
from bench.plan.plan import BATCH_SIZE
from bench.plan.trial import ID_DIGITS, Part, TrialInputs, trial_id
from bench.registry import find_method
from plugins_manifest.cases.cases import Case
from plugins_manifest.schema.manifest import Manifest, MethodSpec, Settings
from plugins_manifest.schema.words import DeltaSchedule
from runners.base import PluginFile, Variant
from runners.methods.delta import DeltaKnobs
from tests.bench.conftest import WEIGHTS, plan_of

VARIANTS = {
    "base": Variant("base"),
    "floor": Variant("floor"),
    "sdedit": Variant("sdedit", t0=0.7),
    "xadapter": Variant("xadapter", t0=0.7, adapter_scale=1.0),
}
CASE = Case("c1", "a red circle")
NET = PluginFile("p", "controlnet", Path("x"), "s" * 64, 1.0, "canny")
FULL = TrialInputs(
    case=CASE,
    seed=0,
    base_prompt="a red circle outline drawing",
    upgraded_prompt="a red circle",
    weights=WEIGHTS,
    settings=Settings(),
    stack=(Part(NET, condition_sha256="c" * 64),),
)


def id_of(method: str, made_of: TrialInputs = FULL, **knobs: float) -> str:
    return trial_id(find_method(method), replace(VARIANTS[method], **knobs), made_of)


def changed(**settings: object) -> TrialInputs:
    return replace(FULL, settings=Settings(**settings))


def test_ids_are_stable() -> None:
    assert all(len(id_of(m)) == ID_DIGITS and id_of(m) == id_of(m) for m in VARIANTS)
    assert len({id_of(m) for m in VARIANTS}) == len(VARIANTS)
    assert id_of("floor") == "7a1ad0fae7a5a8a63341"
    assert id_of("xadapter") == "26d731883b3aa615c21b"


@pytest.mark.parametrize("method", list(VARIANTS))
@pytest.mark.parametrize(
    "made_of",
    [
        replace(FULL, seed=1),
        replace(FULL, case=replace(CASE, case_id="c2")),
        replace(FULL, case=replace(CASE, negative_prompt="blue")),
        changed(steps=51),
        changed(guidance_scale=7.0),
        changed(sampler="ddim"),
        changed(dtype="float16"),
        changed(preset="released"),
    ],
)
def test_what_decides_every_image_changes_every_id(method: str, made_of: TrialInputs) -> None:
    assert id_of(method, made_of) != id_of(method)


def with_plugin(
    *, condition: str = "c" * 64, reference: str | None = None, **changes: object
) -> TrialInputs:
    return replace(FULL, stack=(Part(replace(NET, **changes), condition, reference),))


BASE_SIDE, UPGRADED_SIDE = {"base", "sdedit", "xadapter"}, {"floor", "sdedit", "xadapter"}


@pytest.mark.parametrize(
    ("made_of", "deciding_for"),
    [
        (replace(FULL, weights={**WEIGHTS, "base": "0"}), BASE_SIDE),
        (replace(FULL, weights={**WEIGHTS, "upgraded": "0"}), UPGRADED_SIDE),
        (replace(FULL, weights={**WEIGHTS, "mapper": "0"}), {"xadapter"}),
        (replace(FULL, base_prompt="other"), BASE_SIDE),
        (replace(FULL, upgraded_prompt="other"), UPGRADED_SIDE),
        (replace(FULL, base_negative_prompt="other"), BASE_SIDE),
        (with_plugin(condition="0"), BASE_SIDE),
        (with_plugin(reference="0"), BASE_SIDE),
        (with_plugin(sha256="0"), BASE_SIDE),
        (with_plugin(weight=0.5), BASE_SIDE),
        (with_plugin(lora_semantics="xadapter-official"), BASE_SIDE),
        (with_plugin(lora_semantics="standard"), set()),  # the preset's own
        (with_plugin(token="<cat>"), BASE_SIDE),
        (with_plugin(plugin_id="renamed"), set()),
        (with_plugin(path=Path("moved")), set()),
        (with_plugin(allow_partial=True), set()),
        (replace(FULL, case=replace(CASE, image_path="moved.png")), set()),
        (changed(base_size=(256, 256)), BASE_SIDE),
        (changed(upgraded_size=(512, 512)), UPGRADED_SIDE),
        (changed(stage1_mode="truncated"), {"xadapter"}),
    ],
)
def test_an_id_changes_exactly_for_the_methods_it_matters_to(
    made_of: TrialInputs, deciding_for: set[str]
) -> None:
    assert {m for m in VARIANTS if id_of(m, made_of) != id_of(m)} == deciding_for


@pytest.mark.parametrize(
    ("knob", "deciding_for"),
    [
        ("t0", {"sdedit", "xadapter"}),
        ("adapter_scale", {"xadapter"}),
        ("plugin_scale", BASE_SIDE),
    ],
)
def test_a_knob_enters_only_the_ids_of_methods_that_have_it(
    knob: str, deciding_for: set[str]
) -> None:
    assert {m for m in VARIANTS if id_of(m, **{knob: 0.25}) != id_of(m)} == deciding_for


def test_the_settings_of_delta_are_in_its_ids_and_their_defaults_have_no_name() -> None:
    knobs = DeltaKnobs()
    spec = MethodSpec(name="delta", strength=(1.0, 0.5), route=("pixel", "latent"))
    found = [Variant("delta", 0.7, 1.0, scale, words) for words, scale in knobs.variants(spec)]
    assert [(v.adapter, v.adapter_scale) for v in found] == [
        *((None, 1.0), (None, 0.5), ("latent", 1.0), ("latent", 0.5))
    ]
    default = MethodSpec(name="delta", schedule=get_args(DeltaSchedule))
    found += [Variant("delta", 0.7, 1.0, scale, words) for words, scale in knobs.variants(default)]
    ids = {trial_id(find_method("delta"), v, FULL) for v in found}
    assert len(ids) == len(found) - 1  # the default one is in both
    other = replace(FULL, case=replace(CASE, prompt="a blue circle"))
    assert trial_id(find_method("delta"), found[0], other) not in ids


def test_plan_renders_floor_once_for_all_plugins(manifest: Manifest) -> None:
    plan = plan_of(manifest)
    assert plan.counts() == {"floor": 3, "base": 6, "sdedit": 12, "xadapter": 6}
    assert len({t.trial_id for t in plan.trials}) == len(plan.trials)
    assert {t.plugin for t in plan.trials if t.method == "floor"} == {""}


def test_trials_carry_exactly_the_knobs_of_their_method(manifest: Manifest) -> None:
    for trial in plan_of(manifest).trials:
        assert (trial.t0 is None) == (trial.method in ("base", "floor"))
        assert (trial.adapter_scale is None) == (trial.method != "xadapter")
        assert (trial.plugin_scale is None) == (trial.method == "floor")
        assert (trial.condition_path is None) == (trial.plugin != "net")


def test_lora_trigger_goes_to_the_base_prompt_alone(manifest: Manifest) -> None:
    trial = next(t for t in plan_of(manifest).trials if t.plugin == "lora")
    assert trial.base_prompt == f"{trial.upgraded_prompt} outline drawing"


def test_batches_are_full_and_the_same_for_every_plan(manifest: Manifest) -> None:
    many = manifest.model_copy(update={"seeds": tuple(range(9))})
    plan = plan_of(many)
    sizes = [len(group.members) for group in plan.groups if group.plugin == "lora"]
    assert sizes == [BATCH_SIZE, BATCH_SIZE, 27 - 2 * BATCH_SIZE]
    assert [g.group_id for g in plan.groups] == [g.group_id for g in plan_of(many).groups]


def test_selection_narrows_the_plan_without_changing_ids(manifest: Manifest) -> None:
    everything = {t.trial_id for t in plan_of(manifest).trials}
    narrow = plan_of(manifest, methods=("sdedit",), t0=(0.5,), limit=2)
    assert narrow.counts() == {"sdedit": 4}
    assert {t.trial_id for t in narrow.trials} <= everything
    other_seed = plan_of(manifest, seeds=(7,))
    assert not everything & {t.trial_id for t in other_seed.trials}


def test_only_keeps_the_named_trials_alone(manifest: Manifest) -> None:
    trials = plan_of(manifest).trials
    named = [trials[-1], trials[-3], trials[0]]
    plan = plan_of(manifest, only=tuple(t.trial_id[:12] for t in named))
    assert {t.trial_id for t in plan.trials} == {t.trial_id for t in named}
    for group in plan.groups:
        assert len(group.trials) == len(group.members) * len(group.variants)
        assert [t.case_id for t in group.trials] == [c for c, _ in group.members]
    with pytest.raises(UserError, match="no trial of this manifest begins with 'zzz'"):
        plan_of(manifest, only=("zzz",))
    with pytest.raises(UserError, match=r"27 trials begin with ''"):
        plan_of(manifest, only=("",))


def test_estimate_counts_images_seconds_and_disk(manifest: Manifest) -> None:
    plan = plan_of(manifest)
    cost = estimate(plan)
    assert cost.seconds is not None
    assert cost.seconds > 0 < cost.disk_mib < 10
    assert cost_facts(plan)["trials"] == 27
