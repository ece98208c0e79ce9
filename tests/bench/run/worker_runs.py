"""Runs with workers in processes of their own: how tests start, end and compare them."""

import os
import time
from pathlib import Path

from bench.render.audit import read_audits
from bench.store.run_store import RunStore
from tests.bench.chaos import pids_of
from tests.bench.run.test_shards import require_equal
from tests.bench.warm_workers import COMMAND, PIDS, WORKERS_BEGIN, warm_workers
from tests.warm import WarmProcess

OPTIONS = ["--manifest", "pocket-smoke", "--methods", "base,floor,sdedit", "--no-cache"]
IMAGES = 10
SECONDS_TO_END = 10
DEATH = "(1 of 3)"  # of the workers that had a batch: it goes to another one


def start(out: Path, *more: str, before: str = "", **env: str) -> WarmProcess:
    """Start `xbench run` in a process of its own, with one thread, as its workers have."""
    words = ("run", *OPTIONS, "--out", str(out), *more)
    cache = str(out.parent / "cache")
    whole = {**os.environ, "XBENCH_CACHE": cache, "OMP_NUM_THREADS": "1", PIDS: str(pids_of(out))}
    log = log_of(out)
    return WarmProcess(before + COMMAND, *words, env={**whole, **env}, output=log, errors=log)


def log_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.log")


def require_end(process: WarmProcess, out: Path, *, code: int = 0) -> str:
    """Require an exit code and no worker that is left; return what the command printed."""
    returncode, text = process.wait(), log_of(out).read_text()
    assert returncode == code, text
    deadline = time.monotonic() + SECONDS_TO_END
    while warm_workers(pids_of(out)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert warm_workers(pids_of(out)) == []
    assert "Traceback" not in text
    return text


def wait_for_image(out: Path, process: WarmProcess, *, n: int = 1) -> None:
    while process.poll() is None and len(RunStore(out).image_ids()) < n:
        time.sleep(0.005)


# The first worker that has made an image of a batch ends, amid the batch.
_DIES_ONCE = """
import os, signal
from multiprocessing.connection import Connection
from pathlib import Path
send, died = Connection.send, Path({died!r})
def send_and_die(self, message):
    send(self, message)
    if type(message).__name__ == "Result":
        try:
            died.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
Connection.send = send_and_die
"""


def loses_a_worker(out: Path) -> dict[str, str]:
    """Return the variables of a run that loses one worker amid a batch."""
    return {WORKERS_BEGIN: _DIES_ONCE.format(died=str(out.with_name(f"{out.name}.died")))}


def require_run(out: Path, one: Path, *, engine: str) -> None:
    """Require the run of one process, and what the run records of its workers."""
    require_equal(out, one)
    store = RunStore(out)
    assert len(store.image_ids()) == IMAGES and len(read_audits(store)) == 2
    facts = store.run_facts()
    assert (facts["status"], facts["counts"]["failed"]) == ("complete", 0)
    assert facts["engine"] == engine
    assert [node["threads"] for node in facts["nodes"]] == [1]
    assert facts["render_context"] == RunStore(one).run_facts()["render_context"]
