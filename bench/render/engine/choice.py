"""Which workers render: chosen on the command line, checked against this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from bench.errors import UserError
from bench.provenance import choose_device
from bench.render.engine.local import LocalTransport

if TYPE_CHECKING:
    from bench.render.engine.messages import Program
    from bench.render.engine.scheduler import Transport

EngineName = Literal["local", "ray"]
Count = int | Literal["auto"]
CORES_PER_WORKER = 4  # of a worker without a GPU, unless their number is chosen


@dataclass(frozen=True)
class Workers:
    """The engine and its workers; by default this process renders.

    `devices` has an entry for each local process: the number of a GPU, or "cpu".
    """

    engine: EngineName = "local"
    count: Count | None = None
    devices: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Return whether this process renders."""
        return self.engine == "local" and self.count is None and not self.devices

    def __str__(self) -> str:
        if self.is_here:
            return "local, this process"
        if self.devices:
            return f"local, {len(self.devices)} processes on {', '.join(self.devices)}"
        return f"{self.engine}, {self.count or 'auto'} workers"


def local_places(workers: Workers, device: str) -> list[dict[str, str]]:
    """Return the environment of each local process; raise `UserError` for a GPU that is missing.

    `device` is "cpu" or "cuda" and counts where no devices are named. Cores are divided, unless
    OMP_NUM_THREADS is set.
    """
    names = workers.devices or _counted(workers.count or "auto", device)
    cores = len(os.sched_getaffinity(0))
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // len(names))))
    gpus = visible_gpus() if device != "cpu" else []
    missing = [name for name in names if name != "cpu" and int(name) >= len(gpus)]
    if missing:
        raise UserError(f"no GPU {', '.join(missing)}: this machine has {_numbered(len(gpus))}")
    return [
        {"OMP_NUM_THREADS": threads}
        | ({} if name == "cpu" else {"CUDA_VISIBLE_DEVICES": gpus[int(name)]})
        for name in names
    ]


@dataclass(frozen=True)
class Pool:
    """Chosen workers with their kind of device; `open` returns what starts them.

    They keep `n_cores` of this machine busy; None where that is not known.
    """

    device: str
    open: Callable[[Program], Transport]
    n_cores: int | None = None


def open_pool(workers: Workers, device: str) -> Pool:
    """Return the pool of chosen workers; with Ray, the cluster is connected.

    `device` is the option's value: "auto" is a GPU where there are any. Raises `UserError` for a
    GPU that is missing and for a cluster that does not answer.
    """
    if workers.engine == "ray":
        from bench.render.engine.cluster import cluster_pool

        return cluster_pool(workers.count or "auto", device)
    if workers.devices:
        kind = "cpu" if workers.devices[0] == "cpu" else "cuda"
    else:
        kind = choose_device(device)
    places = local_places(workers, kind)
    threads = [int(place["OMP_NUM_THREADS"]) if kind == "cpu" else 1 for place in places]
    return Pool(kind, partial(LocalTransport, places=places), n_cores=sum(threads))


def _counted(count: Count, device: str) -> list[str]:
    if device == "cpu":
        n = max(1, len(os.sched_getaffinity(0)) // CORES_PER_WORKER) if count == "auto" else count
        return ["cpu"] * n
    return [str(i) for i in range(max(1, len(visible_gpus())) if count == "auto" else count)]


def visible_gpus() -> list[str]:
    """Return the GPUs of this process as CUDA_VISIBLE_DEVICES lists them."""
    import torch

    n = torch.cuda.device_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed.split(",")[:n] if listed else [str(i) for i in range(n)]


def _numbered(n: int) -> str:
    return f"GPUs 0 to {n - 1}" if n > 1 else "GPU 0 alone" if n else "none that torch can use"
