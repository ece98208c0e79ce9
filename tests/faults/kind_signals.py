"""Signals to processes at work: status and checkpoint are written, nothing temporary is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from tests.faults.base import Fault, Kind

_ROOT = Path(__file__).resolve().parents[2]
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_WAIT_S = 240  # also on a machine with much other work
# also where the tests themselves run under `nohup`
_HEAR_HANGUPS = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
_PROGRAM = """
from bench.cli.start import main
main()
"""

_SMALL = ("data.n_images=64", "optimizer.batch=2", "log.every=1")
_TRAIN = ("train", "--steps", "100000", *(word for value in _SMALL for word in ("--set", value)))


def _start(folder: Path, *words: str, ignored: str = "") -> subprocess.Popen[str]:
    """Start the command line, with a small training; `ignored` names an ignored signal."""
    env = {**os.environ, "PYTHONPATH": str(_ROOT), "XBENCH_CACHE": str(folder / "cache")}
    trap = f"trap '' {ignored}; " if ignored else ""
    program = _PROGRAM if ignored else _HEAR_HANGUPS + _PROGRAM
    return subprocess.Popen(
        ["bash", "-c", f'{trap}exec "{sys.executable}" -c "$0" "$@"', program, *words],
        cwd=folder,
        env={**env, "HOME": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _end(process: subprocess.Popen[str], signum: int) -> tuple[int, str]:
    """Send a signal; return exit code and output."""
    process.send_signal(signum)
    output, error = process.communicate(timeout=_WAIT_S)
    return process.returncode, output + error


def _wait(process: subprocess.Popen[str], is_ready: Callable[[], bool]) -> None:
    ends = time.monotonic() + _WAIT_S
    while not is_ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "the process did not begin its work"
        time.sleep(0.05)


def _is_tidy(folder: Path) -> bool:
    left = [p for p in folder.rglob("*") if p.name.startswith(".tmp-") or p.suffix == ".partial"]
    return not left


def _of_run(folder: Path, *, signum: int) -> None:
    process = _start(folder, "run", "--manifest", "pocket", "--limit", "8", "--out", "run")
    _wait(process, lambda: any((folder / "run" / "images").glob("*")))
    code, text = _end(process, signum)
    assert code in (128 + signum, 0) and "Traceback" not in text, text
    if code == 0:
        return  # it was finished before the signal
    facts = json.loads((folder / "run" / "run.json").read_text())
    assert facts["status"] == "interrupted" and "run the same command again" in text
    assert _is_tidy(folder)


def _of_train(folder: Path, *, signum: int) -> None:
    process = _start(folder, *_TRAIN, "--out", "mapper")
    log = folder / "mapper" / "metrics.jsonl"
    _wait(process, lambda: log.exists() and log.stat().st_size > 0)
    code, text = _end(process, signum)
    assert code == 128 + signum and "Traceback" not in text, text
    assert (folder / "mapper" / "checkpoint.safetensors").is_file()
    assert _is_tidy(folder)


def _of_leaderboard(folder: Path, *, signum: int) -> None:
    port = _free_port()
    process = _start(folder, "leaderboard", "--port", str(port))
    _wait(process, lambda: _answers(f"http://127.0.0.1:{port}/_stcore/health"))
    code, text = _end(process, signum)
    expected = signal.SIGTERM if signum == signal.SIGHUP else signum
    assert code == 128 + expected and "Traceback" not in text, text


def _of_nohup(folder: Path, *, signum: int) -> None:
    """Send SIGHUP to a command that was started with it ignored: only another signal ends it."""
    process = _start(folder, *_TRAIN, "--out", "m", ignored="HUP")
    log = folder / "m" / "metrics.jsonl"
    _wait(process, lambda: log.exists() and log.stat().st_size > 0)
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    code, text = _end(process, signal.SIGTERM)
    assert code == 143, text


def _twice(folder: Path, *, signum: int) -> None:
    """End a process that hangs in its cleanup with a second signal."""
    code = (
        _HEAR_HANGUPS + "import time\n"
        "from plugins_manifest.interrupts import watched_interrupts\n"
        "with watched_interrupts():\n"
        "    try:\n        print('ready', flush=True)\n        time.sleep(60)\n"
        "    finally:\n        print('cleaning', flush=True)\n        time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.send_signal(signum)
            assert process.stdout.readline() == "cleaning\n"
            time.sleep(0.5)
            process.send_signal(signum)
            started = time.monotonic()
            assert process.wait(30) == -signum and time.monotonic() - started < 5
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_WORK = {
    "second signal": _twice,
    "run": _of_run,
    "train": _of_train,
    "leaderboard": _of_leaderboard,
    "nohup": _of_nohup,
}


def _faults(rng: Random) -> Iterator[Fault]:
    while True:
        for name, provoke in _WORK.items():
            signum = rng.choice(_SIGNALS)
            yield Fault(f"{name}, {signum.name}", partial(provoke, signum=signum))


KIND = Kind("signals", "C messages", "a signal ends as Ctrl-C does", _faults, 12, 1, 600)
