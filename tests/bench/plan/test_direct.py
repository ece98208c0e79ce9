"""Planning of method `direct`: what decides its images, and what is refused before a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.plan.checks import preflight
from bench.plan.trial import trial_id
from bench.registry import find_method
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.stacks import arrange_sets
from runners.base import Variant
from tests.bench.conftest import job_of
from tests.bench.plan.test_plan import FULL, WEIGHTS

TEXT = """
schema: 1
name: small
family: pocket-near
plugins:
  - {id: outline, kind: lora, source: "pocket:lora-outline", trigger: outline drawing}
cases: {source: pocket, seed: 5, n: 1}
methods:
  - name: base
  - {name: direct, plugin_scale: [0.5, 1.0]}
  - name: floor
metrics: [pocket-style-rate]
"""


def id_of(method: str, inputs: object = FULL, scale: float = 1.0) -> str:
    return trial_id(find_method(method), Variant(method, None, scale), inputs)  # type: ignore[arg-type]


def test_the_base_model_does_not_decide_an_image_of_direct() -> None:
    without = replace(FULL, weights={**WEIGHTS, "base": "0"}, base_prompt="other")
    assert id_of("direct", without) == id_of("direct")
    assert id_of("direct", replace(FULL, upgraded_prompt="other")) != id_of("direct")
    assert id_of("direct", scale=0.5) != id_of("direct")


def test_a_floor_from_the_base_noise_has_an_id_of_its_own() -> None:
    alike = FULL.settings.model_copy(update={"upgraded_size": FULL.settings.base_size})
    same_size = replace(FULL, settings=alike)
    assert id_of("floor", replace(same_size, one_layout=True)) != id_of("floor", same_size)
    assert id_of("floor", replace(FULL, one_layout=True)) == id_of("floor")


def test_the_words_of_a_moved_plugin_are_in_the_upgraded_prompt(tmp_path: Path) -> None:
    manifest = parse_manifest(TEXT, tmp_path / "small.yaml")
    (plugin_set,) = arrange_sets(manifest, "direct").values()
    prompts = plugin_set.prompts_of("a red circle", separator=" ")
    assert prompts == ("a red circle", "a red circle outline drawing")
    assert plugin_set.members[0].is_moved


def test_methods_with_a_mapper_are_refused_once_between_models_of_one_layout(
    tmp_path: Path,
) -> None:
    manifest = parse_manifest(TEXT, tmp_path / "small.yaml")
    assert preflight(job_of(manifest)) is None
    methods = ("base", "xadapter", "xadapter-truncated", "floor")
    with pytest.raises(UserError) as caught:
        preflight(job_of(manifest, methods=methods, t0=(0.7,)))
    (problem,) = caught.value.problems
    assert problem.startswith("xadapter, xadapter-truncated cannot run")
    assert "method 'direct'" in problem


def test_a_plugin_of_another_layout_is_refused_before_the_run(tmp_path: Path) -> None:
    text = TEXT.replace("pocket-near", "pocket")
    with pytest.raises(UserError) as caught:
        preflight(job_of(parse_manifest(text, tmp_path / "small.yaml")))
    first, fix = caught.value.problems
    assert first.startswith("method 'direct', plugin 'outline' in the upgraded model")
    assert "leave out the method 'direct'" in fix
