"""Shared fixtures: browsers, servers and votes databases."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserType, sync_playwright
from sqlalchemy import create_engine, make_url, text
from streamlit.components.v2 import manifest_scanner

from tests.leaderboard.browsing import CHROMIUM, CHROMIUM_ARGUMENTS, need_chromium
from tests.leaderboard.drawn_results import write_gated_pair
from tests.leaderboard.web_server import WebServer, running_server
from tests.postgres_server import PostgresServer, running_postgres

_ENOUGH_BYTES = 512 << 20


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


@contextmanager
def _in_memory(name: str) -> Iterator[Path]:
    """Make a folder in memory if possible: databases flush each vote, and tests kill no disks."""
    memory = Path("/dev/shm")
    home = str(memory) if memory.is_dir() and _free_bytes(memory) > _ENOUGH_BYTES else None
    with tempfile.TemporaryDirectory(prefix=f"xbench-{name}-", dir=home) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def one_scan() -> Iterator[None]:
    """Let Streamlit scan the installed packages for components once, as its server does."""
    with pytest.MonkeyPatch.context() as patch:
        scan = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server for all tests; its account needs access to the folder."""
    with _in_memory("postgres") as folder:
        folder.chmod(0o755)
        inner = folder / "server"
        inner.mkdir()
        with running_postgres(inner) as server:
            yield server


def emptied(server: PostgresServer) -> str:
    """Return the address of the server's database, emptied."""
    url = make_url(server.url).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server.url


@pytest.fixture
def memory() -> Iterator[Path]:
    """Make a folder for databases."""
    with _in_memory("votes") as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def votes_place(request: pytest.FixtureRequest, memory: Path) -> str:
    """Provide a new SQLite file, then an empty PostgreSQL database."""
    if request.param == "sqlite":
        return str(memory / "votes" / "votes.sqlite")
    return emptied(request.getfixturevalue("postgres"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[BrowserType]:
    """Start Playwright."""
    need_chromium()
    with sync_playwright() as playwright:
        yield playwright.chromium


@pytest.fixture(scope="module")
def browser(chromium: BrowserType) -> Iterator[Browser]:
    """Start a browser; each visit gets a new context."""
    with chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """Serve the leaderboard of two runs; the gate of the newer one found a regression."""
    folder = tmp_path_factory.mktemp("site")
    write_gated_pair(folder / "runs")
    with running_server(folder / "runs", str(folder / "votes.sqlite"), folder / "log") as server:
        yield server
