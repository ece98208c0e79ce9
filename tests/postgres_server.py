"""A PostgreSQL server of our own for tests: real, on loopback, in a temporary folder.

It never runs as root (PostgreSQL refuses to), and nothing of it outlives the tests.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_DEBIAN = Path("/usr/lib/postgresql")
_ACCOUNTS = ("postgres", "nobody")


class PostgresServer:
    """One server; `url` connects to its database `postgres`."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self._folder, self._tools = folder, tools
        self._data, self._port = folder / "data", _free_port()
        self._password = secrets.token_hex(16)
        self._account = _account()

    @property
    def url(self) -> str:
        """The address of the database, password included."""
        return f"postgresql://study:{self._password}@127.0.0.1:{self._port}/postgres"

    def make(self) -> None:
        """Make an empty database cluster."""
        password_file = self._folder / "password"
        password_file.write_text(self._password)
        if self._account is not None:
            for path in (self._folder, password_file):
                shutil.chown(path, self._account)
        self._run(
            *("initdb", "--pgdata", str(self._data), "--username", "study", "--no-sync"),
            *("--auth", "scram-sha-256", "--pwfile", str(password_file), "--encoding", "UTF8"),
        )

    def start(self) -> None:
        """Start, and wait until it answers."""
        settings = (
            f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
            f"{self._folder} -c max_connections=120"
        )
        log = self._folder / "server.log"
        start = ("--pgdata", str(self._data), "--log", str(log), "--options", settings)
        self._run("pg_ctl", "start", "--wait", *start)

    def stop(self, *, mode: str = "fast") -> None:
        """Stop; mode `immediate` is a crash: recovery follows at the next start."""
        self._run("pg_ctl", "stop", "--wait", "--pgdata", str(self._data), "--mode", mode)

    def _run(self, tool: str, *arguments: str) -> None:
        groups = {} if self._account is None else {"group": self._group, "extra_groups": []}
        with (self._folder / f"{tool}.out").open("w+") as output:
            # a file, no pipe: the server inherits it and would hold a pipe open
            code = subprocess.call(
                [self._tools / tool, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                user=self._account,
                cwd=self._folder,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                **groups,
            )
            output.seek(0)
            assert code == 0, f"{tool} failed:\n{output.read()}"

    @property
    def _group(self) -> int:
        assert self._account is not None
        return pwd.getpwnam(self._account).pw_gid


@contextmanager
def running_postgres(folder: Path) -> Iterator[PostgresServer]:
    """Return a fresh server in an empty folder; skip where PostgreSQL is missing."""
    server = PostgresServer(folder, _tools())
    server.make()
    server.start()
    try:
        yield server
    finally:
        server.stop(mode="immediate")


def _tools() -> Path:
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed: run scripts/install-test-servers")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


def _account() -> str | None:
    """Return the account to run under; None: our own, as it is not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _ACCOUNTS if name in known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
