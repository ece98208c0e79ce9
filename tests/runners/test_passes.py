from __future__ import annotations

import time

import pytest

from runners.methods import BaseModel, SDEdit
from runners.passes import SharedWork, pass_key

READERS = [{pass_key(name, 1.0): 1.0 for name in m.shares} for m in (BaseModel, SDEdit)]
STAGE1 = pass_key("stage1", 1.0)


def test_a_pass_runs_once_and_its_seconds_are_split_over_its_users() -> None:
    work, runs = SharedWork(READERS, "cpu"), []

    def stage1() -> str:
        runs.append(1)
        time.sleep(0.1)
        return "latents"

    outcomes = [work.timed(keys, lambda: work.get(STAGE1, stage1)) for keys in READERS]
    assert runs == [1]
    assert [outcome.value for outcome in outcomes] == ["latents", "latents"]
    for outcome in outcomes:
        assert 0.04 < outcome.seconds < 0.09


def test_readers_of_a_pass_share_its_seconds_by_their_weights() -> None:
    work = SharedWork([{STAGE1: 1.0}, {STAGE1: 3.0}], "cpu")
    outcomes = [
        work.timed({STAGE1: weight}, lambda: work.get(STAGE1, lambda: time.sleep(0.1)))
        for weight in (1.0, 3.0)
    ]
    assert outcomes[1].seconds / outcomes[0].seconds == pytest.approx(3.0, rel=0.3)


def test_nested_passes_are_not_counted_twice() -> None:
    work = SharedWork(READERS, "cpu")

    def picture() -> str:
        time.sleep(0.05)
        return work.get(STAGE1, lambda: time.sleep(0.1) or "latents")

    key = pass_key("stage1_picture", 1.0)
    start_s = time.perf_counter()
    outcomes = [work.timed(keys, lambda: work.get(key, picture)) for keys in READERS]
    elapsed_s = time.perf_counter() - start_s
    assert sum(outcome.seconds for outcome in outcomes) == pytest.approx(elapsed_s, abs=0.01)


def test_a_failed_pass_fails_for_each_user_without_a_second_try() -> None:
    work, runs = SharedWork(READERS, "cpu"), []

    def stage1() -> None:
        runs.append(1)
        raise RuntimeError("no such layer")

    outcomes = [work.timed(keys, lambda: work.get(STAGE1, stage1)) for keys in READERS]
    assert runs == [1]
    failures = [outcome.failure for outcome in outcomes]
    assert [f and f.reason for f in failures] == ["RuntimeError: no such layer"] * 2
    assert all(f is not None and "in stage1" in f.trace for f in failures)


def test_the_upgraded_text_is_shared_by_all_plugin_scales() -> None:
    assert pass_key("upgraded_text", 0.5) == pass_key("upgraded_text", None)
    assert pass_key("stage1", 0.5) != pass_key("stage1", 1.0)


def test_forgetting_a_scale_keeps_what_does_not_depend_on_it() -> None:
    work, runs = SharedWork(READERS, "cpu"), []
    keys = (STAGE1, pass_key("upgraded_text", 1.0))

    def read() -> None:
        for key in keys:
            work.get(key, lambda key=key: runs.append(key.name))

    work.timed(READERS[1], read)
    work.forget(1.0)
    work.timed(READERS[1], read)
    assert runs == ["stage1", "upgraded_text", "stage1"]
