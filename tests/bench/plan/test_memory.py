"""Claims about the estimate of memory: counted at real size, without weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.plan import Selection
from bench.plan.gpus import Gpus
from bench.plan.memory import GIB, memory_facts, memory_need
from bench.plan.plan import BATCH_SIZE, Plan
from bench.run import RunRequest, look_ahead, plan_run
from runners.families import family_traits
from runners.families.registry import AdapterFile
from runners.families.traits import FamilyMemory
from tests.bench.cli.test_answers import call
from tests.scripts import load_script_module

pytestmark = pytest.mark.system


def declared() -> FamilyMemory:
    memory = family_traits("sd15-sdxl").memory
    assert memory is not None
    return memory


def plan_of(manifest: str, *plugins: str) -> Plan:
    return look_ahead(RunRequest(manifest, Selection(plugins=plugins or None)))[0]


def test_the_declared_parameters_are_those_of_models_of_real_size() -> None:
    found = load_script_module("gpu_check.counted_memory").counted_parameters()
    memory = declared()
    assert memory.base_unet == found["base_unet"]
    assert memory.denoisers == found["base_unet"] + found["upgraded_unet"] + found["mapper"]
    assert memory.vaes == found["base_vae"] + found["upgraded_vae"]
    assert memory.text_encoders == found["base_text"] + found["upgraded_text"]


@pytest.mark.parametrize("index", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_declared_bytes_are_those_of_counted_tensors(index: int) -> None:
    counted = load_script_module("gpu_check.counted_memory")
    memory, px = declared(), declared().upgraded_px[index]
    assert memory.step_bytes[index] == counted.counted_step(upgraded_px=px)
    pictures = counted.counted_decode(px), counted.counted_encode(px)
    assert memory.picture_bytes[index] == max(pictures)


def test_a_batch_takes_its_number_of_images_times_one_image() -> None:
    counted = load_script_module("gpu_check.counted_memory")
    one, three = (counted.counted_step(upgraded_px=256, n_images=n) for n in (1, 3))
    assert three == pytest.approx(3 * one, rel=0.01)


@pytest.mark.parametrize("plugin", ["add-detail", "canny", "add-detail-under-canny"])
def test_sd15_to_sdxl_at_1024_px_fits_12_gib_with_low_memory(plugin: str) -> None:
    plan = plan_of("smoke", plugin)
    assert plan.manifest.family == "sd15-sdxl" and plan.groups
    assert plan.groups[0].settings.upgraded_size == (1024, 1024)
    need, low = memory_need(plan), memory_need(plan, low_memory=True)
    assert need is not None and low is not None
    weights = 2 * (declared().denoisers + (361_279_120 if "canny" in plugin else 0))
    assert low.weights == pytest.approx(weights, rel=0.001)
    assert low.gpu_bytes(1) < 9 * GIB < 12 * GIB
    assert low.largest_batch(12 * GIB) >= 6 and low.largest_batch(8 * GIB) == 0
    assert need.gpu_bytes(1) > low.gpu_bytes(1) + 1.5 * GIB
    assert low.gpu_bytes(BATCH_SIZE) - low.gpu_bytes(1) == pytest.approx(
        (BATCH_SIZE - 1) * declared().step_bytes[1]
    )


def test_each_further_adapter_takes_one_mapper() -> None:
    plan = plan_of("smoke", "canny")
    one, three = (
        replace(plan, adapters=tuple(AdapterFile(f"a{i}", Path("none")) for i in range(n)))
        for n in (1, 3)
    )
    need, more = memory_need(one), memory_need(three)
    assert need is not None and more is not None and declared().mapper > 2e8
    assert need == memory_need(plan)
    assert more.weights - need.weights == more.ram - need.ram == 2 * 2 * declared().mapper


def test_plan_prints_the_memory_and_the_batch_that_fits_a_gpu() -> None:
    text = call("plan", "--manifest", "paper", "--gpu", "t4").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("memory ")]
    assert "GiB on the GPU at batch 12 (8." in line and "at batch 1 with --low-memory)" in line
    assert line.endswith("GiB of RAM")
    assert "T4 (16 GiB): fits at batch 12\n" in text
    facts = json.loads(call("plan", "--manifest", "paper", "--json").stdout)["memory"]
    assert facts["batch"] == 12 and facts["low_memory_gib_batch_1"] < 9 < facts["gpu_gib"]
    assert "gpu" not in facts


def test_a_smaller_gpu_takes_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("paper")
    for gib, batch, low in ((16, 12, 12), (12, 5, 8), (9, 0, 1), (8, 0, 0)):
        small = {"t4": type("Type", (), {"memory_gib": gib})()}
        monkeypatch.setattr("bench.plan.memory.GPUS", small)
        facts = memory_facts(plan, Gpus("t4"))
        assert facts is not None
        assert (facts["fits_batch"], facts["fits_batch_low_memory"]) == (batch, low)


def test_a_family_that_is_not_counted_has_no_estimate() -> None:
    assert memory_facts(plan_run(RunRequest("pocket-smoke", Selection()))) is None
    assert "memory " not in call("plan", "--manifest", "pocket-smoke").stdout
