"""Open the votes database: a SQLite file, or PostgreSQL by URL; commits are durable on both.

SQLite: write-ahead log with synchronous=FULL, so a commit is on disk before it returns
(sqlite.org/pragma.html#pragma_synchronous); writers queue at the start of their transaction
(BEGIN IMMEDIATE), so none fails half-way. PostgreSQL: synchronous_commit=on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

try:
    import fcntl
except ImportError:  # Windows: only SQLite's busy timeout
    fcntl = None

from bench.errors import UserError, disk_error, shown_path
from leaderboard.study.schema import prepare

BUSY_SECONDS = 60  # timeout of a waiting writer
_FILE_MODE = 0o600
_READS = "xbench_reads"
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}


def open_engine(place: str | Path) -> Engine:
    """Open an engine with the study's tables; `place` is a file or a URL.

    `UserError`, with the password redacted, if it cannot be opened.
    """
    url = _url_of(place)
    if url.get_backend_name() == "sqlite":
        _make_file(Path(url.database or ""))
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
    else:
        options = {"options": "-c synchronous_commit=on", "connect_timeout": 10}
        engine = create_engine(
            url, connect_args=options, hide_parameters=True, pool_pre_ping=True, pool_size=8
        )
    try:
        with writing(engine) as connection:
            prepare(connection)
    except (DatabaseError, UserError) as error:
        engine.dispose()
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"the votes database {_redacted(url)} cannot be opened ({error.orig}): check "
            "the address, and that the server runs"
        ) from error
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a connection in a transaction that is committed durably at the end of the block."""
    with _turn(engine), engine.begin() as connection:
        yield connection


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Queue for SQLite's single writer by a file lock: its own busy loop can starve writers.

    The kernel wakes waiters in order and releases the lock of a process that dies.
    """
    if engine.dialect.name != "sqlite" or fcntl is None:
        yield
        return
    line = os.open(f"{engine.url.database}.queue", os.O_WRONLY | os.O_CREAT, _FILE_MODE)
    try:
        fcntl.flock(line, fcntl.LOCK_EX)
        yield
    finally:
        os.close(line)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a read connection that does not block writers; `UserError` on a timeout."""
    try:
        with engine.connect() as connection:
            yield connection.execution_options(**{_READS: True})
    except OperationalError as error:
        raise UserError("the votes database did not answer: try again in a moment") from error


def _url_of(place: str | Path) -> URL:
    if isinstance(place, Path) or "://" not in place:
        return URL.create(_DRIVERS["sqlite"], database=str(Path(place).expanduser()))
    try:
        url = make_url(place)
    except (ArgumentError, ValueError) as error:  # the latter for a port that is not a number
        raise UserError(
            "the votes database's address is not a URL: use a file name or "
            "postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    backend = url.get_backend_name()
    if backend not in _DRIVERS or (backend == "sqlite" and not url.database):
        raise UserError(
            f"votes cannot be stored in {_redacted(url)!r}: use a file name or "
            "postgresql://USER:PASSWORD@HOST/NAME"
        )
    return url.set(drivername=_DRIVERS[backend])


def _redacted(url: URL) -> str:
    """Return the address without passwords, neither in the authority nor in the query."""
    return url.set(query={}).render_as_string()


def _make_file(path: Path) -> None:
    """Create the votes file, from the start readable only by its owner."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"{shown_path(path)} is a folder: name a file for the votes")
        path.touch(mode=_FILE_MODE)
    except OSError as error:
        raise disk_error(error, path) from error


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin` starts the transactions
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert statement with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    is_postgresql = connection.dialect.name == "postgresql"
    return postgresql.insert(table) if is_postgresql else sqlite.insert(table)
