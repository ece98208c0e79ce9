"""Run the real leaderboard in a separate process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LEADERBOARD = ("leaderboard",)
STUDY = ("votes", "collect")
_START_SECONDS = 60


@contextmanager
def running_server(
    results: Path | str,
    votes: str,
    log: Path,
    *,
    site: Sequence[str] = LEADERBOARD,
    environment: Mapping[str, str] | None = None,
) -> Iterator[WebServer]:
    """Start a server on a free local port; stop it at the end."""
    server = WebServer(results, votes, log, site=site, environment=environment)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGTERM)


class WebServer:
    """One server process, which can be killed and restarted on the same port.

    `site` is the serving command: the leaderboard, or only the study.
    """

    def __init__(
        self,
        results: Path | str,
        votes: str,
        log: Path,
        *,
        site: Sequence[str] = LEADERBOARD,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._results, self._log, self._site = results, log, site
        self.votes = votes
        own = {"XBENCH_VOTES": votes, "OMP_NUM_THREADS": "1"}
        self._environment = {**os.environ, **own, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until a page is served."""
        command = [sys.executable, "-m", "bench.cli.main", *self._site, str(self._results)]
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
        """Send a signal and wait for the process to exit."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=30)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False
