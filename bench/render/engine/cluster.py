"""Workers on a Ray cluster: an actor has a place on a node and starts the worker's process there.

The process is that of a local worker, so a death, a deadline and SIGTERM mean the same. An actor is
neither restarted nor are its tasks repeated by Ray, which would use the same broken place.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from bench.errors import UserError
from bench.render.engine.choice import CORES_PER_WORKER, Count, Pool
from bench.render.engine.messages import Died, Done, Failed, Left, Message, Placed, Program
from bench.render.engine.process import WorkerProcess, log_level

_LOCAL_STORE_BYTES = 256 * 2**20  # images pass through it one by one
# Read when Ray is imported. A busy machine takes longer than the default of 30 s to start a node.
_START = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else `uv run` copies the checkout to every node
}
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on loopback addresses alone
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",  # as by default, but without a line about it
}
_LONGEST_FOLDER = 36  # characters: a socket below it has a path of at most 103


@dataclass(frozen=True)
class Cluster:
    """The module of Ray, connected; `folder` has the files of a local cluster."""

    ray: Any
    folder: TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Leave the cluster; a local one ends, and its files are removed."""
        with suppress(Exception):
            self.ray.shutdown()
        if self.folder is not None:
            self.folder.cleanup()


def connect() -> Cluster:
    """Connect to the cluster of RAY_ADDRESS, or to a new local one."""
    address = os.environ.get("RAY_ADDRESS")
    for name, value in (_START if address else _START | _LOCAL).items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"address": address}
    folder = None
    if not address:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else a file in ~/.ray
        folder = _local_folder()  # before Ray is imported: it ends after Ray at the exit
        options = {
            "include_dashboard": False,
            "object_store_memory": _LOCAL_STORE_BYTES,
            "_temp_dir": folder.name,
        }
    ray = importlib.import_module("ray")
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(ray, folder)
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray raises just that where a node is late
        cluster.close()
        what = f"the cluster {address} (RAY_ADDRESS)" if address else "a local cluster"
        raise UserError(f"Ray cannot connect to {what}: {error}") from error
    finally:
        if on_main:
            signal.signal(signal.SIGTERM, before)  # Ray ends the process in its handler
    return cluster


def _local_folder() -> TemporaryDirectory[str]:
    """Return a new folder whose path is short enough for sockets."""
    folder = TemporaryDirectory(prefix="xbench-ray-", ignore_cleanup_errors=True)
    if len(os.fsencode(folder.name)) > _LONGEST_FOLDER:
        folder.cleanup()
        folder = TemporaryDirectory(prefix="xbench-ray-", dir="/tmp", ignore_cleanup_errors=True)
    return folder


def cluster_pool(count: Count, device: str) -> Pool:
    """Connect, and return a pool of workers there; on GPUs by default, if the cluster has any."""
    cluster = connect()
    if device == "auto":
        device = "cuda" if cluster.ray.cluster_resources().get("GPU", 0) else "cpu"
    return Pool(
        device, lambda program: ClusterTransport(program, count, cluster, has_gpu=device != "cpu")
    )


class Host:
    """The actor: it has the worker's place and passes on the messages of its process."""

    def __init__(self, program: Program, variables: Mapping[str, str], level: int) -> None:
        self._process = WorkerProcess(program, variables, level=level)
        signal.signal(signal.SIGTERM, lambda *_: self._process.leave())

    def placed(self) -> int:
        """Return the number of the worker's process."""
        return self._process.pid

    def work(self, payload: Any) -> Iterator[Message]:
        """Do a job and yield its messages."""
        self._process.give(payload)
        while True:
            message = self._process.receive()
            yield message
            if isinstance(message, Done | Left | Died | Failed):
                return

    def stop(self) -> None:
        """End the job in progress early."""
        self._process.stop()


@dataclass(eq=False)
class _Remote:
    """A worker as the driver has it; `answer` is the stream of the job in flight."""

    ray: Any
    actor: Any
    transport: ClusterTransport
    placing: Any
    answer: Any = None

    def give(self, payload: Any) -> None:
        """Begin a job."""
        self.answer = self.actor.work.options(num_returns="streaming").remote(payload)

    def stop(self) -> None:
        """End the job in progress early."""
        self.actor.stop.remote()

    def close(self) -> None:
        """End the actor, which ends its process, and free its place."""
        self.transport.running.remove(self)
        self.ray.kill(self.actor)

    @property
    def awaited(self) -> Any:
        """What is ready once there is a message; None for an idle worker."""
        return self.answer if self.placing is None else self.placing

    def received(self) -> Message | None:
        """Return the message that is there; None at the end of a stream."""
        errors = self.ray.exceptions
        try:
            if self.placing is not None:
                self.ray.get(self.placing)
                self.placing = None
                return Placed()
            return self.ray.get(next(self.answer))
        except StopIteration:
            self.answer = None
            return None
        except errors.OutOfDiskError as error:
            raise UserError(f"no room left for Ray's objects: free some space ({error})") from error
        except errors.RayTaskError:
            raise
        except errors.RayError as error:  # of the actor, its node, its memory or its objects
            self.placing = self.answer = None
            return Died(f"was lost ({' '.join(str(error).split())[:200]})")


@dataclass
class ClusterTransport:
    """Starts workers on the nodes of a cluster, also on nodes that join it later.

    `count` "auto" is one for each GPU; without `has_gpu`, one for each four cores.
    """

    program: Program
    count: Count
    cluster: Cluster
    has_gpu: bool
    running: list[_Remote] = field(default_factory=list)

    @property
    def ray(self) -> Any:
        """The module of Ray."""
        return self.cluster.ray

    def size(self) -> int:
        """Return the number of workers that the cluster is to have now."""
        if self.count != "auto":
            return self.count
        found = self.ray.cluster_resources()
        n = found.get("GPU", 0) if self.has_gpu else found.get("CPU", 0) // self._cpus()
        return max(1, int(n))

    def start(self) -> _Remote:
        """Start an actor, which may have to wait for a place."""
        cpus = 1 if self.has_gpu else self._cpus()
        threads = os.environ.get("OMP_NUM_THREADS", str(cpus))
        variables = {} if self.has_gpu else {"OMP_NUM_THREADS": threads}
        kind = self.ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=2)(Host)
        actor = kind.options(num_cpus=cpus, num_gpus=int(self.has_gpu)).remote(
            self.program, variables, log_level()
        )
        worker = _Remote(self.ray, actor, self, actor.placed.remote())
        self.running.append(worker)
        return worker

    def wait(self, seconds: float) -> Sequence[tuple[_Remote, Message]]:
        """Return a message of each worker that has any, as soon as one has."""
        awaited = {worker.awaited: worker for worker in self.running if worker.awaited is not None}
        if not awaited:
            return []
        refs = [*awaited]
        ready, _ = self.ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        more, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        found = [(awaited[ref], awaited[ref].received()) for ref in dict.fromkeys([*ready, *more])]
        return [(worker, message) for worker, message in found if message is not None]

    def shortage(self) -> str:
        """Return what a worker needs, and what the cluster has."""
        needed = "1 GPU and 1 CPU" if self.has_gpu else _counted(self._cpus(), "CPU")
        whole, free = self.ray.cluster_resources(), self.ray.available_resources()
        listed = ", ".join(
            f"{_counted(whole.get(kind, 0), kind)} ({free.get(kind, 0):g} free)"
            for kind in ("GPU", "CPU")
        )
        nodes = sum(node["Alive"] for node in self.ray.nodes())
        return (
            f"the demand is {_counted(self.size(), 'worker')}, each with {needed}; the cluster has "
            f"{listed} on {_counted(nodes, 'node')}: add nodes, wait until enough is free, or take "
            "fewer --workers"
        )

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self.cluster.close()

    def _cpus(self) -> int:
        """Return the cores of each worker: as many as let all of them have a place."""
        cores = [int(n["Resources"].get("CPU", 0)) for n in self.ray.nodes() if n["Alive"]]
        if self.count == "auto":
            return min(CORES_PER_WORKER, max([1, *cores]))
        most = max(1, sum(cores) // self.count)
        fits = (n for n in range(most, 0, -1) if sum(c // n for c in cores) >= self.count)
        return next(fits, 1)


def _counted(n: float, noun: str) -> str:
    return f"{n:g} {noun}{'' if n == 1 else 's'}"
