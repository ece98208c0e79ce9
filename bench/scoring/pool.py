"""Do chunks of work in processes of this machine; what a process that ends had is done again.

Ours, instead of concurrent.futures: there the first process that is killed breaks the whole pool.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, Protocol, TypeVar

from plugins_manifest.errors import UserError
from plugins_manifest.installed import describe_error

Chunk = TypeVar("Chunk", bound=Hashable)
Chunk_contra = TypeVar("Chunk_contra", bound=Hashable, contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
TRIES = 3
_LOG = logging.getLogger(__name__)


class Work(Protocol[Chunk_contra, Result_co]):
    """What a process does; it is pickled, as are chunks and results."""

    def open(self, worker: int) -> Callable[[Chunk_contra], Result_co]:
        """Return what does a chunk; called once in each process, `worker` counts from 0."""
        ...


@dataclass(frozen=True)
class ChunkError:
    """A chunk that failed `TRIES` times, in as many processes if those ended; and why."""

    reason: str


def map_chunks(
    chunks: Iterable[Chunk], work: Work[Chunk, Result], *, workers: int
) -> Iterator[tuple[Chunk, Result | ChunkError]]:
    """Yield each chunk with its result, in the order in which they are done.

    A chunk that fails goes to the end of the queue.

    Raises `UserError` if the processes cannot begin.
    """
    queue, tries = deque(chunks), Counter[Chunk]()
    pool = [_Worker(work, number) for number in range(min(workers, len(queue)))]
    try:
        for worker in pool:
            worker.start()
        while queue or any(worker.chunk is not None for worker in pool):
            for worker in pool:
                if queue and worker.chunk is None:
                    worker.send(queue.popleft())
            ready = wait([worker.connection for worker in pool if worker.chunk is not None])
            for worker in (w for w in pool if w.connection in ready):
                chunk, result = worker.receive()
                if not isinstance(result, ChunkError):
                    yield chunk, result
                    continue
                tries[chunk] += 1
                _LOG.warning("%s; try %d of %d", result.reason, tries[chunk], TRIES)
                if tries[chunk] < TRIES:
                    queue.append(chunk)
                else:
                    yield chunk, result
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """A process and the chunk that it does; another process is started where one ended."""

    def __init__(self, work: Work[Any, Any], number: int) -> None:
        self.chunk: Any = None
        self._arguments = (work, number)

    def start(self) -> None:
        context = _context()
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, chunk: Any) -> None:
        self.chunk = chunk
        try:
            self.connection.send(chunk)
        except OSError:
            return  # it ended: `receive` finds that out

    def receive(self) -> tuple[Any, Any]:
        """Return the chunk and its result, or a `ChunkError`."""
        chunk, self.chunk = self.chunk, None
        try:
            has_begun, result = self.connection.recv()
        except (EOFError, OSError):
            return chunk, self._replace()
        if not has_begun:
            raise UserError(f"a worker process cannot begin: {result.reason}")
        return chunk, result

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _replace(self) -> ChunkError:
        self._process.join()
        code = self._process.exitcode or 0
        self.connection.close()
        self.start()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ChunkError(f"a worker process ended by {how}")


def _context() -> ForkServerContext | SpawnContext:
    """Return how processes start: from one that has the imports, never as copies of this one.

    A copy would share the locks of this process's threads, and its GPU.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["bench.scoring.chunks"])
    return context


def _serve(connection: Connection, work: Work[Any, Any], number: int) -> None:
    """Do chunks until the connection ends, which it does with the other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the other process ends this
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads leave the cores to others
    try:
        do = work.open(number)
    except Exception as error:  # noqa: BLE001 - the other process raises it
        connection.send((False, ChunkError(describe_error(error))))
        return
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            return
        try:
            result = do(chunk)
        except Exception as error:  # noqa: BLE001 - metrics may raise anything
            result = ChunkError(describe_error(error))
        connection.send((True, result))
