"""Stages for the tests of scripts/gpu-check; their processes import nothing heavy."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]


def slow(_setting: Any) -> Iterator[Row]:
    yield {"n": 1}
    time.sleep(600)


def sound(_setting: Any) -> Iterator[Row]:
    yield {"ceiling_tflops": 4.0}


def failing(_setting: Any) -> Iterator[Row]:
    yield {"n": 2}
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def dying(_setting: Any) -> Iterator[Row]:
    yield {"n": 3}
    os.kill(os.getpid(), signal.SIGKILL)


def last(setting: Any) -> Iterator[Row]:
    yield {"ceiling": setting.ceiling_tflops}
