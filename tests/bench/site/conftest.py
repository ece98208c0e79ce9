"""A drawn run with native plugins and verdicts, and the site of it, made once for all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.site import SiteOptions, build_site
from bench.store import RunStore
from tests.bench.drawn_run import compatible_run


def copied_run(store: RunStore, folder: Path, *, status: str = "complete") -> RunStore:
    """Return a run of its own that a test may change; drawn runs have a status of their own."""
    shutil.copytree(store.folder, folder)
    copy = RunStore(folder)
    copy.write_run_facts({**copy.run_facts(), "status": status, "manifest": "drawn"})
    return copy


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return compatible_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def run(drawn: RunStore, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return copied_run(drawn, tmp_path_factory.mktemp("finished") / "drawn")


@pytest.fixture(scope="session")
def site(run: RunStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "out"
    build_site([run.folder], folder, SiteOptions())
    return folder
