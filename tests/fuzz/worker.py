"""Read the inputs of one kind in this process and print one JSON line each; see scripts/fuzz.

Usage: python -m tests.fuzz.worker KIND FIRST_SEED STOP_SEED
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.kinds import FUZZ_KINDS, FuzzKind, check, warm_up

LIMIT_S = 10
_ADDRESS_SPACE = 6 << 30  # libraries reserve some; the resident peak is what is measured


class Hang(BaseException):
    """An input took longer than `LIMIT_S`."""


def main() -> None:
    """Read the inputs of the seeds FIRST to STOP - 1."""
    name, first, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    kind = next(kind for kind in FUZZ_KINDS if kind.name == name)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    signal.signal(signal.SIGALRM, _hang)
    answers: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        warm_up(kind, Path(folder))
        for seed in range(first, stop):
            _print({"seed": seed})
            answers[_answer(kind, seed, Path(folder))] += 1
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    _print({"answers": answers, "peak_mib": peak_mib})


def _answer(kind: FuzzKind, seed: int, folder: Path) -> str:
    signal.alarm(LIMIT_S)
    try:
        return check(kind, seed, folder)
    except BaseException as error:  # noqa: BLE001 (whatever it is, the input was not survived)
        signal.alarm(0)
        text = "".join(traceback.format_exception(error))[-3000:]
        _print({"failed": seed, "problem": text})
        return type(error).__name__
    finally:
        signal.alarm(0)


def _hang(*_: object) -> None:
    raise Hang


def _print(data: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(data)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
