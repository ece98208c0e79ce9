"""One folder of weights for all tests of metrics: no test sees those of the person who runs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("metric-weights")
    patch = pytest.MonkeyPatch()
    patch.setenv("XBENCH_METRIC_WEIGHTS", str(folder))
    patch.setenv("XBENCH_METRIC_STATISTICS", str(tmp_path_factory.mktemp("metric-statistics")))
    patch.delenv("XBENCH_METRIC_DEVICE", raising=False)
    patch.delenv("XBENCH_REFERENCE_IMAGES", raising=False)
    yield folder
    patch.undo()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
