from __future__ import annotations

import time

import numpy as np

from runners.memory import PeakMemory


def test_the_peak_stays_after_memory_is_freed() -> None:
    with PeakMemory("cpu") as memory:
        before_mib = memory.peak_mib
        block = np.ones(200 * 2**20, dtype=np.uint8)
        time.sleep(0.1)
        del block
        assert memory.peak_mib > before_mib + 150
