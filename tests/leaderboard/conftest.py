"""Places for votes that the tests of the study share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.postgres_server import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all tests; its folder must be open to the account it runs under."""
    with tempfile.TemporaryDirectory(prefix="xbench-postgres-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder, "server")
        home.mkdir()
        with running_postgres(home) as server:
            yield server


def emptied(server: PostgresServer) -> str:
    """The address of the server's database, with nothing in it."""
    url = make_url(server.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def votes_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where votes are kept: a new file, then an empty database of a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "votes" / "votes.sqlite")
    return emptied(request.getfixturevalue("postgres"))
