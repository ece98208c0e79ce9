"""A run of one process, with which those of workers are compared."""

from pathlib import Path

import pytest

from tests.bench.run.worker_runs import require_end, start


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory, pocket_weights: None) -> Path:
    """Return a run of one process."""
    out = tmp_path_factory.mktemp("workers") / "one"
    require_end(start(out), out)
    return out
