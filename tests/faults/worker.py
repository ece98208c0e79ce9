"""Provoke the faults of one kind in this process and print one JSON line each.

Usage: python -m tests.faults.worker KIND SEED FIRST STOP
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from itertools import islice
from pathlib import Path
from random import Random

from tests.faults import kinds
from tests.faults.base import Fault


class Hang(BaseException):
    """A fault took longer than its kind allows."""


def main() -> None:
    """Provoke faults FIRST to STOP - 1 of a kind."""
    name, seed, first, stop = sys.argv[1], *map(int, sys.argv[2:5])
    kind = next(kind for kind in kinds() if kind.name == name)
    signal.signal(signal.SIGALRM, _hang)
    for fault in islice(kind.faults(Random(seed)), first, stop):
        _print({"begun": fault.name})
        _print(_outcome(fault, kind.limit_s))


def _print(data: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(data)}\n")
    sys.stdout.flush()


def _hang(*_: object) -> None:
    raise Hang


def _outcome(fault: Fault, limit_s: int) -> dict[str, object]:
    started = time.monotonic()
    problem = None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        signal.alarm(limit_s)
        try:
            fault.provoke(Path(folder))
        except BaseException as error:  # noqa: BLE001 (whatever it is, the fault was not survived)
            problem = "".join(traceback.format_exception(error))[-3000:]
        finally:
            signal.alarm(0)
    used = max(resource.getrusage(who).ru_maxrss for who in _WHO)
    return {
        "name": fault.name,
        "seconds": round(time.monotonic() - started, 2),
        "peak_mib": used // 1024,
        "problem": problem,
    }


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


if __name__ == "__main__":
    main()
