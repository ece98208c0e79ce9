"""Claims about the estimate of a run on a number and type of GPUs."""

from __future__ import annotations

import json

import pytest

from bench.errors import UserError
from bench.plan import Selection, estimate
from bench.plan.gpus import GPUS, Gpus, gpu_facts
from bench.run import RunRequest, look_ahead, plan_run
from tests.bench.cli.test_answers import call


def test_gpu_hours_are_the_counted_operations_over_the_rate() -> None:
    plan, _ = look_ahead(RunRequest("smoke", Selection()))
    work = estimate(plan).tera_operations
    assert work is not None and work > 100
    assumed, measured = gpu_facts(plan, Gpus("a100")), gpu_facts(plan, Gpus("a100", tflops=100.0))
    assert assumed["gpu_hours"] == pytest.approx(work / 156 / 3600)
    assert measured["gpu_hours"] == pytest.approx(work / 100 / 3600)
    assert measured["wall_hours"] == measured["gpu_hours"]
    assert (assumed["is_measured"], measured["is_measured"]) == (False, True)


def test_more_gpus_share_the_batches_and_never_split_one() -> None:
    plan, _ = look_ahead(RunRequest("smoke", Selection()))
    one, two, many = (gpu_facts(plan, Gpus("l4", count)) for count in (1, 2, 500))
    assert one["gpu_hours"] == two["gpu_hours"] == many["gpu_hours"]
    assert one["wall_hours"] > two["wall_hours"] >= one["wall_hours"] / 2
    assert many["used"] == len(plan.groups) and many["wall_hours"] > one["wall_hours"] / 500


def test_a_family_without_counted_operations_is_refused() -> None:
    plan = plan_run(RunRequest("pocket-smoke", Selection()))
    with pytest.raises(UserError, match="operations of the family 'pocket' are not counted"):
        gpu_facts(plan, Gpus("t4"))


@pytest.mark.parametrize("kind", GPUS)
def test_plan_prints_that_the_rate_is_an_assumption_until_it_is_given(kind: str) -> None:
    text = call("plan", "--manifest", "smoke", "--gpu", kind.upper(), "--gpus", "4").stdout
    assert f"GPUs       4 x {kind.upper()}: about" in text
    assert "an assumption, half of the type's peak" in text and "scripts/gpu-check" in text


def test_plan_prints_a_given_rate_and_has_it_in_json() -> None:
    options = ("--manifest", "smoke", "--gpu", "h100", "--tflops", "400")
    text = call("plan", *options).stdout
    assert "at 400 TFLOP/s each, the rate that you gave" in text and "assumption" not in text
    facts = json.loads(call("plan", *options, "--json").stdout)["gpus"]
    assert facts["rate_tflops"] == 400 and facts["is_measured"] and facts["count"] == 1


def test_a_number_of_gpus_without_a_type_is_refused() -> None:
    done = call("plan", "--manifest", "smoke", "--gpus", "4")
    assert "--gpus and --tflops need a type: --gpu a100" in done.output
