"""Claims about the study in real browsers: keys vote, votes are counted, methods stay hidden."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserType, Page, expect
from sqlalchemy import select

from leaderboard.study.database import reading
from leaderboard.study.schema import VOTES
from leaderboard.study.votes import VotesDatabase
from tests.leaderboard.browsing import CHROMIUM, CHROMIUM_ARGUMENTS, WAIT_MS
from tests.leaderboard.studies import rows
from tests.leaderboard.study_run import write_study_run
from tests.leaderboard.web_server import STUDY, WebServer, running_server

pytestmark = pytest.mark.parametrize(
    "votes_place",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)],
    indirect=True,
)


@pytest.fixture
def server(tmp_path, votes_place) -> Iterator[WebServer]:
    write_study_run(tmp_path / "runs" / "one")
    with running_server(tmp_path / "runs", votes_place, tmp_path / "log", site=STUDY) as server:
        yield server


@pytest.fixture(params=[2, pytest.param(5, marks=pytest.mark.slow)])
def browsers(request: pytest.FixtureRequest, chromium: BrowserType) -> Iterator[list[Browser]]:
    """Start several browsers, each in a separate process."""
    with ExitStack() as stack:
        found = []
        for _ in range(request.param):
            found.append(chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS))
            stack.callback(found[-1].close)
        yield found


def open_study(browser: Browser, server: WebServer) -> tuple[Page, list[str]]:
    """Open the page and record all requested addresses."""
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    return page, asked


def expect_count(page: Page, n: int) -> None:
    """Wait until this many answers are counted and the page accepts keys."""
    expect(page.get_by_text(f"{n} of 24 answers counted")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_test_id("stApp")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=WAIT_MS
    )


def stored(votes_place: str) -> list:
    with VotesDatabase.open(votes_place) as database, reading(database.engine) as connection:
        return list(connection.execute(select(VOTES)).all())


def test_browsers_vote_by_keyboard_and_every_counted_vote_is_stored_once(
    server, browsers, votes_place
):
    seats = [open_study(browser, server) for browser in browsers]
    for page, _ in seats:
        expect_count(page, 0)
    for n, key in enumerate(("ArrowLeft", "ArrowRight", "0", "s"), start=1):
        for page, _ in seats:
            page.keyboard.press(key)
        for page, _ in seats:
            expect_count(page, n)
    rows_stored = stored(votes_place)
    assert len(rows_stored) == 4 * len(browsers) == len({(r[1], r[2], r[3]) for r in rows_stored})
    raters = {row.rater_id for row in rows_stored}
    assert len(raters) == len(browsers)
    for rater in raters:
        own = [row for row in rows_stored if row.rater_id == rater]
        decided = [row.answer == row.shown_left for row in own if row.answer in ("first", "second")]
        assert decided == [True, False]  # left, then right
        assert [row.answer for row in own[2:]] == ["tie", "skip"]
    page, asked = seats[0]
    check_blind(page, asked)
    page.reload()
    expect_count(page, 4)  # the cookie identifies the rater


def check_blind(page: Page, asked: list[str]) -> None:
    """Assert that neither the page nor an address names a method, a plugin or a file."""
    content = page.content().lower()
    paths = " ".join(urlsplit(url).path.lower() for url in asked if "study-image" in url)
    assert paths
    for name in ("sdedit", "xadapter", "floor", "images/", *trial_ids()):
        assert name not in content and name not in paths
    labels = page.evaluate("Array.from(document.images).map(image => image.alt)")
    assert {"left picture", "right picture"} <= set(labels)
    assert "xbench_rater" not in page.evaluate("document.cookie")


def trial_ids() -> list[str]:
    return [row["trial_id"].lower() for row in rows()]


@pytest.mark.slow
@pytest.mark.parametrize("browsers", [1], indirect=True)
def test_a_killed_server_loses_no_vote_that_a_browser_saw_counted(server, browsers, votes_place):
    page, _ = open_study(browsers[0], server)
    expect_count(page, 0)
    for n in range(1, 4):
        page.keyboard.press("ArrowLeft")
        expect_count(page, n)
    server.stop(signal.SIGKILL)
    assert len(stored(votes_place)) == 3
    server.start()
    page.reload()
    expect_count(page, 3)
