"""The real leaderboard in a process of its own, and real browsers that look at it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
# nothing that a browser does on its own may leave this machine
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
_START_SECONDS = 60


@contextmanager
def running_leaderboard(results: Path, votes: str, log: Path) -> Iterator[StudyServer]:
    """A server on a free port of this machine, stopped at the end."""
    server = StudyServer(results, votes, log)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGTERM)


class StudyServer:
    """One server process; it can be killed and started again on the same port."""

    def __init__(self, results: Path, votes: str, log: Path) -> None:
        self._results, self._log = results, log
        self._environment = {**os.environ, "XBENCH_VOTES": votes, "OMP_NUM_THREADS": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, and wait until a page comes."""
        command = [sys.executable, "-m", "bench.cli", "votes", "collect", str(self._results)]
        command += ["--port", str(self._port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=self._environment
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, f"no page came:\n{self._log.read_text()}"
            time.sleep(0.1)

    def stop(self, how: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=30)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


def need_chromium() -> None:
    """Skip, saying why, where the browser is not installed."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: run scripts/install-test-servers")
