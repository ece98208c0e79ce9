"""The family `pocket-flow`: SD3's kind of upgraded model, its training and what refuses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.plan.checks import preflight
from plugins_manifest.errors import UserError
from plugins_manifest.schema import parse_manifest
from pocket import flow
from pocket.fit import FitSettings
from pocket.train_flow import flow_loss
from pocket.train_unet import N_TIMESTEPS, Latents, tokenize
from pocket.weights import part_path
from runners.base import PluginFile, RenderCase, RenderSettings, Variant
from runners.families import Family, family_fingerprint, load_family
from runners.group import run_group
from runners.plugins import load_stack
from runners.prompts import TextReading, encode_prompt
from tests.bench.conftest import job_of
from xadapter.guidance import Guidance

PROMPT = "a large red circle on a white background"
SETTINGS = RenderSettings((64, 64), (128, 128), steps=4, guidance_scale=3.0)
TEXT = """
schema: 1
name: small
family: pocket-flow
plugins:
  - {id: outline, kind: lora, source: "pocket:lora-outline", trigger: outline drawing}
cases: {source: pocket, seed: 5, n: 1}
methods: [{name: base}]
metrics: [pocket-style-rate]
"""


@pytest.fixture(scope="module")
def family() -> Family:
    return load_family("pocket-flow")


def test_the_upgraded_model_has_its_own_schedule_text_and_latents(family: Family) -> None:
    pipe = family.upgraded
    assert type(pipe).__name__ == "StableDiffusion3Pipeline"
    assert pipe.scheduler.config.shift == 2.0
    assert pipe.vae.config.shift_factor != 0.0
    found = encode_prompt(
        pipe, PROMPT, "", guidance=Guidance(3.0), size_px=(128, 128), reading=TextReading()
    )
    theirs = pipe.encode_prompt(PROMPT, None, None, max_sequence_length=0)
    ours = (found.text, found.negative_text, found.pooled, found.negative_pooled)
    for own, other in zip(ours, theirs, strict=True):
        assert own is not None
        assert torch.equal(own, other)


def rendered(
    family: Family, case: RenderCase, variants: list[Variant], settings: RenderSettings
) -> list[np.ndarray]:
    done = {r.variant: r.image for r in run_group(family, None, [case], variants, settings)}
    found = [done[variant] for variant in variants]
    return [image for image in found if image is not None]


def test_methods_without_a_mapper_render(family: Family) -> None:
    case = RenderCase("one", 0, PROMPT, PROMPT)
    variants = [
        Variant("base"),
        Variant("floor"),
        Variant("sdedit", t0=0.5),
        Variant("sdedit", t0=1.0),
        Variant("delta", t0=1.0, adapter_scale=0.0),
    ]
    floor, low, high, delta = rendered(family, case, variants, SETTINGS)[1:]
    assert floor.shape == low.shape == (128, 128, 3)
    assert not np.array_equal(low, high)
    # no plugin and no strength: the upgraded model alone
    assert np.array_equal(high, delta)


def test_both_sides_may_be_flow_models(family: Family) -> None:
    twice = replace(family, name="twice", base=family.upgraded, one_layout=True)
    same = replace(SETTINGS, base_size_px=(128, 128))
    variants = [Variant("base"), Variant("floor"), Variant("sdedit", t0=0.5)]
    base, floor, sdedit = rendered(twice, RenderCase("one", 0, PROMPT, PROMPT), variants, same)
    # without a plugin, and from one noise
    assert np.array_equal(base, floor)
    assert not np.array_equal(base, sdedit)


def test_a_mapper_is_refused_before_the_run(tmp_path: Path) -> None:
    manifest = parse_manifest(TEXT, tmp_path / "small.yaml")
    assert preflight(job_of(manifest, methods=("base", "floor"))) is None
    with pytest.raises(UserError) as caught:
        preflight(job_of(manifest, methods=("base", "xadapter", "floor"), t0=(0.7,)))
    (problem,) = caught.value.problems
    assert problem.startswith("xadapter cannot run: the upgraded model of 'pocket-flow' is a")
    with pytest.raises(UserError, match="use the methods 'sdedit' and 'delta'"):
        family_fingerprint("pocket-flow", adapter=tmp_path)


def test_the_transformer_takes_its_own_lora_and_no_controlnet(family: Family) -> None:
    def plugin(kind: str, part: str) -> PluginFile:
        return PluginFile("own", kind, part_path(part), side="upgraded")

    (loaded,) = load_stack([plugin("lora", "flow-lora-outline")], family)
    assert loaded.audit.rows
    assert not any(row.missing for row in loaded.audit.rows)
    with pytest.raises(UserError, match="is a transformer, which takes weight plugins"):
        load_stack([plugin("controlnet", "controlnet-canny")], family)


def test_settings_of_diffusion_are_refused(family: Family) -> None:
    case = RenderCase("one", 0, PROMPT, PROMPT)
    odd = replace(SETTINGS, upgraded_size_px=(120, 128), preset="released")
    with pytest.raises(UserError) as caught:
        list(run_group(family, None, [case], [Variant("floor")], odd))
    width, preset = sorted(caught.value.problems, key=lambda problem: "preset" in problem)
    assert "the upgraded width is 120 px: use a multiple of 16" in width
    assert "the preset 'released'" in preset


def test_a_model_that_predicts_the_velocity_has_no_loss() -> None:
    z = torch.randn(4, 4, 4)

    def perfect(x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor) -> Tensor:
        # x = (1 - t) z + t e, solved for e - z
        return (x_bchw - z) / (timestep_b / N_TIMESTEPS).view(-1, 1, 1, 1)

    batch = Latents(z.expand(8, -1, -1, -1), tokenize([PROMPT] * 8))
    loss_at = flow_loss(perfect, batch, null_share=0.1)
    assert loss_at(8, torch.Generator().manual_seed(0)) < 1e-6


def test_the_model_and_its_lora_train_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLOW", "FLOW_MORE", "FLOW_LORA"):
        monkeypatch.setattr(flow, name, FitSettings(2, 2, 1e-3, seed=1))
    for name in ("FLOW_SET", "FLOW_OUTLINE_SET"):
        monkeypatch.setattr(flow, name, replace(getattr(flow, name), n_images=16))
    loss = flow.train_flow(tmp_path, null_share=0.1)
    assert np.isfinite(loss)
    assert flow.train_flow(tmp_path, null_share=0.1) == loss
    assert np.isfinite(flow.train_flow_lora(tmp_path, null_share=0.1))
