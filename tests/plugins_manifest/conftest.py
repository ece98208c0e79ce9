"""A misbehaving Civitai and an empty store for the tests of fetching."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins_manifest.store import Store
from tests.plugins_manifest.servers import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def hub_is_local(online: None) -> None:
    """Use a local server as the Hub."""
