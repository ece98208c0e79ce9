"""Claims about the list of pages: built-in ones in order, those of other packages, broken ones."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboard.ui.pages import pages
from plugins_manifest.installed import installed

BUILT_IN = [
    *("overview", "compare", "study", "about"),
    *("plugin", "tradeoff", "t0", "provenance"),
]


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a package without entry points on the import path; write them to the result."""
    (tmp_path / "other_package.py").write_text(
        "from leaderboard.ui.pages import Page\n"
        "LAST = Page('Last', 'last', lambda: None)\n"
        "SECOND = Page('Second', 'second', lambda: None, order=0.5)\n"
        "NOT_A_PAGE = 'a page'\n"
        "def __getattr__(name):\n"
        "    if name == 'RAISES':\n"
        "        raise ValueError('from the module')\n"
        "    raise AttributeError(name)\n"
    )
    info = tmp_path / "other_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (pages, installed):
        cached.cache_clear()
    yield info / "entry_points.txt"
    for cached in (pages, installed):
        cached.cache_clear()


def test_built_in_pages_have_their_order() -> None:
    assert [page.path for page in pages()] == BUILT_IN


def test_pages_of_another_package_are_listed_by_order(other_package: Path) -> None:
    other_package.write_text("[xbench.pages]\na = other_package:LAST\nb = other_package:SECOND\n")
    assert [page.path for page in pages()] == [BUILT_IN[0], "second", *BUILT_IN[1:], "last"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("missing_package:PAGE", "cannot be imported: ModuleNotFoundError"),
        ("other_package:MISSING", "cannot be imported: AttributeError"),
        ("other_package:RAISES", "cannot be imported: ValueError: from the module"),
        ("other_package:NOT_A_PAGE", "lacks path, show, order, is_listed, draw()"),
    ],
)
def test_a_broken_page_is_logged_and_left_out(
    target: str, why: str, other_package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other_package.write_text(f"[xbench.pages]\nbroken = {target}\nlast = other_package:LAST\n")
    with caplog.at_level(logging.ERROR):
        found = [page.path for page in pages()]
    assert found == [*BUILT_IN, "last"]
    assert f"page 'broken' of other-package 1.0 ({target}) {why}" in caplog.text
