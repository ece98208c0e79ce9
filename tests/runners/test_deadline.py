from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from runners.deadline import Deadline, DeadlineError


def sleep_on() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001 - what is tested is that this does not help
            continue


def test_a_loop_that_catches_every_exception_is_interrupted() -> None:
    deadline, started = Deadline(0.2, what="work"), time.monotonic()
    with pytest.raises(DeadlineError), deadline.running():
        sleep_on()
    assert time.monotonic() - started < 10
    assert deadline.reason == "no result within 0.2 s (--batch-timeout)"


def test_the_time_is_that_of_all_parts_together() -> None:
    deadline = Deadline(0.5, what="work")
    with deadline.running():
        time.sleep(0.3)
    time.sleep(0.5)  # between the parts
    with pytest.raises(DeadlineError), deadline.running():
        time.sleep(30)


def test_without_a_limit_and_in_time_nothing_happens() -> None:
    for seconds in (None, 30.0):
        with Deadline(seconds, what="work").running():
            time.sleep(0.01)
    time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hangs", "code"),
    [
        ("hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)", 70),
        ("sum(range(10**13))", -signal.SIGKILL),  # the interpreter is locked
    ],
)
def test_what_cannot_be_interrupted_ends_the_process_without_a_verdict(
    hangs: str, code: int
) -> None:
    script = "import hashlib\nfrom runners.deadline import Deadline\n"
    script += f"with Deadline(0.5, what='batch one').running():\n    {hangs}\n"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code
    assert "Error: batch one: no result within 0.5 s" in done.stderr
