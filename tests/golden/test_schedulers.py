"""Grids and solver steps equal the recorded ones, with and without stale history."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from tests.golden.conftest import FORWARD_LIMIT, golden_folder, require, worst
from xadapter.solvers import noised, released_solver


def recorded_schedulers() -> dict[str, Any]:
    path = golden_folder() / "schedulers" / "schedulers.json"
    if not path.exists():
        pytest.skip(f"no {path}; set XBENCH_GOLDEN")
    return json.loads(path.read_text(encoding="utf-8"))


def from_source(side: dict[str, Any]) -> Any:
    return DPMSolverMultistepScheduler.from_config(side["source_file_json"])


@pytest.mark.parametrize("name", ["base", "upgraded"])
def test_grids_equal_the_recorded_ones(name: str) -> None:
    side = recorded_schedulers()[name]
    for n_steps, timesteps in side["timesteps_at_construction"].items():
        scheduler = from_source(side)
        scheduler.set_timesteps(int(n_steps))
        assert scheduler.timesteps.tolist() == timesteps
    for n_steps, timesteps in side["timesteps_after_setting_leading"].items():
        solver = released_solver(from_source(side), int(n_steps), "cpu")
        assert solver.timesteps.tolist() == timesteps


def walk(solver: Any, latents: Tensor, outputs: Tensor, *, first: int = 0) -> Tensor:
    steps = []
    for i, timestep in enumerate(solver.timesteps[first:]):
        latents = solver.step(outputs[first + i], timestep, latents, return_dict=False)[0]
        steps.append(latents)
    return torch.stack(steps)


@pytest.mark.parametrize("first", ["from_0", "from_k"])
def test_stale_history_gives_the_recorded_second_pass(first: str) -> None:
    case = require("schedulers", "stale_history")
    tensors, n_steps = case.tensors, len(case.json["timesteps"])
    solver = released_solver(from_source(recorded_schedulers()["base"]), n_steps, "cpu")
    assert solver.timesteps.tolist() == case.json["timesteps"]
    outputs = tensors["model_outputs"]
    first_pass = walk(solver, tensors["initial"], outputs[:n_steps])
    assert worst(first_pass, tensors["first_pass"]) <= FORWARD_LIMIT
    timestep = torch.tensor(case.json["add_noise_timestep"])
    fresh = released_solver(from_source(recorded_schedulers()["base"]), n_steps, "cpu")
    again = noised(fresh, first_pass[-1], tensors["second_pass_noise"], timestep)
    assert worst(again, tensors["second_pass_initial"]) <= FORWARD_LIMIT
    index = 0 if first == "from_0" else case.json["k"]
    second = walk(solver, again, outputs[n_steps:], first=index)
    assert worst(second, tensors[f"second_pass_{first}"]) <= FORWARD_LIMIT
