"""scripts/gpu-check: stages that fail are recorded, and all of it runs on a CPU at a small size."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu_stages import Row, dying, failing, last, slow, sound
from tests.scripts import SCRIPTS, load_script_module

pytestmark = pytest.mark.system

stages = load_script_module("gpu_check.stages")
goals = load_script_module("gpu_check.goals")
models = load_script_module("gpu_check.models")
LIMIT_S = 40.0


def n_goals(rows: Any) -> list[Row]:
    return [{"n_rows": sum(map(len, rows.values()))}]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Return the content of the file after each of five stages."""
    out = tmp_path_factory.mktemp("gpu-check") / "out.json"
    after: list[Row] = []
    functions = {"slow": (8, slow), "sound": (13, sound), "failing": (13, failing)}
    functions |= {"dying": (13, dying), "last": (13, last)}
    stages.run_stages(
        [stages.Stage(name, *parts) for name, parts in functions.items()],
        stages.Setting("cpu", small=True),
        out=out,
        total_s=LIMIT_S,
        goals=n_goals,
        on_end=lambda _: after.append(json.loads(out.read_text())),
        preload=["bench.store.files", "bench.provenance"],
    )
    return after


def test_a_stage_that_runs_out_of_time_keeps_its_rows_and_the_next_one_runs(
    written: list[Row],
) -> None:
    slow_one, sound_one = written[-1]["stages"][:2]
    assert slow_one["status"] == "out of time" and slow_one["rows"] == [{"n": 1}]
    assert slow_one["reason"].startswith("stopped after") and slow_one["seconds"] < LIMIT_S / 2
    assert sound_one["status"] == "ok" and sound_one["reason"] is None


def test_an_error_and_the_end_of_a_process_are_recorded_with_the_reason(
    written: list[Row],
) -> None:
    failed, died = written[-1]["stages"][2:4]
    assert failed["status"] == died["status"] == "failed"
    assert failed["reason"].endswith("CUDA error: an illegal memory access was encountered")
    assert died["reason"] == "the process ended with code -9"
    assert failed["rows"] == [{"n": 2}] and died["rows"] == [{"n": 3}]


def test_the_file_is_written_after_each_stage_and_the_ceiling_reaches_later_ones(
    written: list[Row],
) -> None:
    assert [len(content["stages"]) for content in written] == [1, 2, 3, 4, 5]
    assert written[-1]["stages"][-1]["rows"] == [{"ceiling": 4.0}]
    assert [content["goals"][0]["n_rows"] for content in written] == [1, 2, 3, 4, 5]
    assert written[0]["size"] == "small" and written[0]["versions"]["python"]


def test_goals_are_met_missed_or_not_measured() -> None:
    rows = {
        "compiled": [
            {"share_of_ceiling": 0.7, "offsets_act": True, "equals_eager": True},
            {"share_of_ceiling": 0.4, "offsets_act": True, "equals_eager": False},
        ],
        "end-to-end": [{"wall_s": 2.0}, {"idle_share": 0.05}],
        "agreement": [{"agrees": True}, {"agrees": True}],
    }
    found = goals.goals_of(rows, small=False)
    assert [goal["is_met"] for goal in found] == [False, None, True, True, False]
    assert [goal["measured"] for goal in found] == [0.4, None, 0.05, "2 of 2", "3 of 4"]
    on_small_models = goals.goals_of(rows, small=True)
    assert [goal["is_met"] for goal in on_small_models] == [None, None, None, True, False]


def test_the_real_models_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        built = [
            models.unet_of("sd15"),
            models.unet_of("sdxl"),
            models.controlnet_of(),
            models.vae_of("sdxl"),
        ]
    counted = [sum(p.numel() for p in model.parameters()) for model in built]
    assert counted == [859_520_964, 2_567_463_684, 361_279_120, 83_653_863]


def test_random_weights_preserve_variance_and_repeat() -> None:
    like = torch.empty(64, 32, 3, 3, device="meta")
    one, two = (
        models.drawn("conv.weight", like, torch.Generator().manual_seed(0)) for _ in range(2)
    )
    assert torch.equal(one, two)
    assert one.float().std().item() == pytest.approx((32 * 9) ** -0.5, rel=0.02)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_stage_runs_on_a_cpu_at_the_small_size(tmp_path: Path) -> None:
    out = tmp_path / "gpu-check.json"
    options = ["--device", "cpu", "--size", "small", "--minutes", "25", "--out", str(out)]
    command = [sys.executable, str(SCRIPTS / "gpu-check"), *options]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = {stage["name"]: stage["rows"] for stage in json.loads(out.read_text())["stages"]}
    assert all(row["agrees"] for row in found["agreement"]) and len(found["agreement"]) == 24
    assert {row["method"] for row in found["throughput"]} == {
        *("base", "floor", "sdedit", "xadapter")
    }
    assert all(0 < row["share_of_ceiling"] < 1.5 for row in found["throughput"])
    assert all(row["non_finite"] == 0 for row in found["vae"]) and len(found["vae"]) == 24
    assert all(row["offsets_act"] and row["equals_eager"] for row in found["compiled"])
    assert found["end-to-end"][1]["kernel_s"] > 0
    for limit in {row["limit_gib"] for row in found["memory"]}:  # halved until it fits
        end = [row for row in found["memory"] if row["limit_gib"] == limit][-1]
        assert end["images"] == end["batch"] >= 1 and end["reason"] is None
    assert found["released"][0]["deviation"] < 1e-4
