"""Share the chunks of a run among workers: processes of this machine, or of a Ray cluster.

A cluster scores where each of its nodes has the run's folder with the same images, metrics and
weights; else, and for a single chunk, this machine does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from bench.errors import UserError, shown_path
from bench.render.engine.choice import CORES_PER_WORKER, Workers, open_pool, visible_gpus
from bench.render.engine.local import LocalTransport
from bench.render.engine.scheduler import Ended, Item, Job, Lost, Scheduler, Transport
from bench.scoring.chunks import ChunkScores, ScoreProgram

_LOG = logging.getLogger(__name__)


def is_shared(workers: Workers, device: str, n_chunks: int) -> bool:
    """Return whether other processes score."""
    return _n_here(workers, device) > 1 or (workers.engine == "ray" and n_chunks > 1)


def share_chunks(
    chunks: Sequence[Sequence[int]],
    program: ScoreProgram,
    workers: Workers,
    inputs: Mapping[str, str],
) -> Iterator[tuple[Sequence[int], ChunkScores | Lost]]:
    """Yield each chunk with its scores, or why it has none, in the order in which they are done.

    `inputs` has those of each metric, as this process has them. Raises `UserError` if the
    processes cannot begin.
    """
    waiting = {f"images {c[0] + 1} to {c[-1] + 1}": c for c in chunks}
    if workers.engine == "ray" and len(chunks) > 1:
        there = replace(program, device=program.device.partition(":")[0])
        try:
            if there.device == "mps":
                raise UserError("its device is mps, which no cluster has")
            pool = open_pool(workers, there.device)
            yield from _done(waiting, pool.open(there), partial(_require_same, there, inputs))
        except UserError as error:
            _LOG.warning("scoring on this machine: %s", error)
    if waiting:
        places = processes_here(workers, program)
        yield from _done(waiting, LocalTransport(program, places), lambda facts: None)


def _done(
    waiting: dict[str, Sequence[int]],
    transport: Transport,
    on_ready: Callable[[Mapping[str, Any]], None],
) -> Iterator[tuple[Sequence[int], ChunkScores | Lost]]:
    """Yield chunks as they are done; what is left in `waiting` is not."""
    jobs = [Job(key, lambda chunk=chunk: chunk) for key, chunk in waiting.items()]
    found: dict[str, ChunkScores] = {}
    scheduler = Scheduler(transport, on_ready)
    with closing(scheduler.run(jobs, is_stopped=lambda: False)) as events:
        for event in events:
            match event:
                case Item(key, value):
                    found[key] = value
                case Ended(key):
                    yield waiting.pop(key), found.pop(key)
                case Lost(key):
                    yield waiting.pop(key), event


def _require_same(
    program: ScoreProgram, inputs: Mapping[str, str], facts: Mapping[str, Any]
) -> None:
    """Raise `UserError` unless a worker of a cluster has this run, and would score it alike."""
    node, found = facts["node"], facts["inputs"]
    if found is None:
        raise UserError(f"{node} does not have the run's folder {shown_path(program.folder)}")
    if differing := [name for name, own in inputs.items() if found.get(name) != own]:
        raise UserError(
            f"{node} has other images, versions or weights of {', '.join(differing)} than this "
            "machine"
        )


def processes_here(workers: Workers, program: ScoreProgram) -> list[dict[str, str]]:
    """Return the environment of each process of this machine; GPUs in turn, unless one is named."""
    n = _n_here(workers, program.device)
    variables = {"OMP_NUM_THREADS": str(max(1, program.threads // n))}
    gpus = visible_gpus() if program.device == "cuda" else []
    chosen = [gpus[int(name)] for name in workers.devices if name != "cpu"] if gpus else []
    gpus = chosen or gpus
    return [
        variables | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})
        for i in range(n)
    ]


def _n_here(workers: Workers, device: str) -> int:
    """Return the processes of this machine that score, where no cluster does."""
    cores = len(os.sched_getaffinity(0))
    if workers.is_here:
        return 1
    if isinstance(workers.count, int):
        return min(workers.count, cores)
    if workers.devices:
        return min(len(workers.devices), cores)
    return max(1, len(visible_gpus()) if device == "cuda" else cores // CORES_PER_WORKER)
