from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from runners import device
from runners.memory import PeakMemory
from runners.passes import SharedWork


def test_the_peak_stays_after_memory_is_freed() -> None:
    with PeakMemory("cpu") as memory:
        before_mib = memory.peak_mib
        block = np.ones(200 * 2**20, dtype=np.uint8)
        time.sleep(0.1)
        del block
        assert memory.peak_mib > before_mib + 150


def test_each_variant_begins_at_the_memory_in_use() -> None:
    with PeakMemory("cpu") as memory:
        block = np.ones(200 * 2**20, dtype=np.uint8)
        assert memory.growth_bytes > 150 * 2**20
        del block
        memory.reset()
        assert memory.growth_bytes < 100 * 2**20


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_every_kind_of_gpu_is_waited_for_and_emptied(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(getattr(torch, kind), name, lambda *_, name=name: calls.append(name))
    SharedWork([], kind).timed({}, lambda: None)
    device.release_memory(kind)
    assert calls == ["synchronize", "synchronize", "empty_cache"]
