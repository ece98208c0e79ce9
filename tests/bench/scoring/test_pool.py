"""Chunks of work in several processes: real processes, really killed."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.scoring.pool import ChunkError, map_chunks
from plugins_manifest.errors import UserError

POISON, FRAGILE, WRONG = -1, 7, 8


@dataclass(frozen=True)
class Doubles:
    """Doubles numbers; some of them kill the process, or fail."""

    folder: Path

    def open(self, worker: int) -> Callable[[int], int]:
        def double(number: int) -> int:
            tried = len(list(self.folder.glob(f"{number}-*")))
            (self.folder / f"{number}-{tried}").touch()
            if number == POISON or (number == FRAGILE and tried < 1):
                os.kill(os.getpid(), signal.SIGKILL)
            if number == WRONG:
                raise ValueError("eight is out")
            return 2 * number

        return double


@dataclass(frozen=True)
class Closed:
    def open(self, worker: int) -> Callable[[int], int]:
        raise OSError(f"no room for worker {worker}")


def test_a_killed_processs_chunk_is_done_again_and_the_third_kill_gives_the_reason(tmp_path: Path):
    chunks = [1, POISON, 2, FRAGILE, WRONG, 3]
    found = dict(map_chunks(chunks, Doubles(tmp_path), workers=2))
    assert found == {
        **{number: 2 * number for number in (1, 2, 3, FRAGILE)},
        POISON: ChunkError("a worker process ended by signal 9"),
        WRONG: ChunkError("ValueError: eight is out"),
    }
    tries = {n: len(list(tmp_path.glob(f"{n}-*"))) for n in chunks}
    assert tries == {1: 1, 2: 1, 3: 1, POISON: 3, FRAGILE: 2, WRONG: 3}


def test_processes_that_cannot_begin_are_one_message():
    with pytest.raises(UserError, match=r"worker process cannot begin: .*no room for worker 0"):
        list(map_chunks([1, 2], Closed(), workers=1))
