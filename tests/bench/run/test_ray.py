"""Claims about workers on a Ray cluster, which listens on loopback addresses and is ended here."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.bench.run.worker_runs import require_end, require_run, start
from tests.warm import WarmProcess

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("pocket_weights"),
    pytest.mark.timeout(600),
]
# The cluster ends by SIGTERM, and with the server that this process started.
CODE = """
import os, signal, sys
from pathlib import Path
from bench.render.engine.cluster import connect
parent, cluster = os.getppid(), connect()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
address = cluster.ray.get_runtime_context().gcs_address
Path(sys.argv[1]).write_text(f"{address} {cluster.folder.name}\\n")
while os.getppid() == parent and signal.sigtimedwait([signal.SIGTERM], 1) is None:
    continue
cluster.close()
"""
AUTHENTICATION = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
SECONDS_TO_END = 30


@dataclass(frozen=True)
class Cluster:
    """A cluster of this machine; `env` are the variables of a run on it."""

    env: dict[str, str]
    folder: Path
    keeper: psutil.Process

    def processes(self) -> list[psutil.Process]:
        return self.keeper.children(recursive=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start the cluster that a run without RAY_ADDRESS starts; require that nothing of it stays."""
    folder = tmp_path_factory.mktemp("cluster")
    started, log = folder / "started", folder / "log"
    env = {**os.environ, **AUTHENTICATION, "RAY_ADDRESS": ""}
    process = WarmProcess(CODE, str(started), env=env, output=log, errors=log)
    while process.poll() is None and not (started.is_file() and started.read_text()):
        time.sleep(0.05)
    assert process.poll() is None, log.read_text()
    address, files = started.read_text().split()
    keeper = psutil.Process(process.pid)
    yield Cluster({**AUTHENTICATION, **LOOPBACK, "RAY_ADDRESS": address}, Path(files), keeper)
    left = keeper.children(recursive=True)
    process.terminate()
    assert process.wait() == 0
    assert psutil.wait_procs(left, timeout=SECONDS_TO_END)[1] == []
    assert not Path(files).exists()
    assert log.read_text() == ""


def test_workers_of_a_cluster_give_the_tables_of_one_process(
    cluster: Cluster, one: Path, tmp_path: Path
) -> None:
    assert cluster.env["RAY_ADDRESS"].startswith("127.0.0.1:")
    out = tmp_path / "run"
    text = require_end(start(out, "--engine", "ray", "--workers", "2", **cluster.env), out)
    assert "ray" not in text.lower().replace(str(out).lower(), "")
    require_run(out, one, engine="ray, 2 workers")
    assert [p for p in cluster.processes() if "bench.render.engine.serve" in p.cmdline()] == []


IMPATIENT = """
from bench.render.engine import scheduler
scheduler.PATIENCE_SECONDS = 1.0
"""


def test_a_demand_that_a_cluster_cannot_meet_is_one_message(
    cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("--engine", "ray", "--workers", "3", "--device", "cuda")
    text = require_end(start(out, *words, before=IMPATIENT, **cluster.env), out, code=2)
    assert "no worker has a place after 1 s: the demand is 3 workers, each with 1 GPU" in text
    assert "the cluster has 0 GPUs (0 free), " in text and " on 1 node: add nodes" in text
