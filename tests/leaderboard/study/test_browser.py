"""Claims about the study in real browsers: keys vote, votes are counted, methods stay hidden."""

import re
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
from tests.leaderboard.browsing import (
    CHROMIUM,
    CHROMIUM_ARGUMENTS,
    WAIT_MS,
    images_of,
    new_visit,
    serious_findings,
    wait_for_key,
)
from tests.leaderboard.studies import rows
from tests.leaderboard.study_run import write_study_run
from tests.leaderboard.web_server import STUDY, WebServer, running_server

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize(
        "votes_place",
        ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)],
        indirect=True,
    ),
]


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


def expect_count(page: Page, n: int, *, skipped: int = 0) -> None:
    """Wait until this many answers are counted and the page accepts keys."""
    text = f"{n} of {24 - skipped} answers counted" + (f", {skipped} skipped" if skipped else "")
    expect(page.get_by_text(text, exact=True)).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_test_id("stApp")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=WAIT_MS
    )
    wait_for_key(page, re.compile(r"^Right( Shortcut.*)?$"))


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
            expect_count(page, n - (key == "s"), skipped=int(key == "s"))
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
    expect_count(page, 3, skipped=1)  # the cookie identifies the rater


def check_blind(page: Page, asked: list[str]) -> None:
    """Assert that neither the page nor an address names a method, a plugin or a file."""
    content = page.content().lower()
    paths = " ".join(urlsplit(url).path.lower() for url in asked if "study-image" in url)
    assert paths
    for name in ("sdedit", "xadapter", "floor", "images/", *trial_ids()):
        assert name not in content and name not in paths
    labels = {image["alt"] for image in images_of(page)}
    assert {"left picture", "right picture"} <= labels
    shown = " ".join(labels).lower()
    assert not any(name in shown for name in ("sdedit", "x-adapter", "xadapter", "base", "floor"))
    assert "xbench_rater" not in page.evaluate("document.cookie")


@pytest.mark.parametrize("browsers", [1], indirect=True)
def test_on_a_phone_pictures_enlarge_answers_are_undone_and_methods_follow_the_answers(
    server, browsers, votes_place
):
    visit = new_visit(browsers[0], width_px=390)
    page = visit.page
    page.set_viewport_size({"width": 390, "height": 844})
    visit.open(server.url)
    expect_count(page, 0)
    check_order(page)
    check_enlarging(page)
    visit.act(lambda: page.keyboard.press("ArrowLeft"))
    expect(page.get_by_role("button", name="Show the methods")).to_have_count(0)
    visit.act(lambda: page.get_by_role("button", name="Undo").click())
    expect_count(page, 0)
    assert stored(votes_place) == []
    for key in ("ArrowLeft", "0"):
        visit.act(lambda key=key: page.keyboard.press(key))
    check_blind(page, visit.asked)
    visit.act(lambda: page.get_by_role("button", name="Show the methods").click())
    expect(page.locator(".st-key-last")).to_contain_text("No difference")
    shown = page.locator(".st-key-study").inner_text().replace("\u2060", "")
    assert "; Right: " in shown and (", plugin canny" in shown or ", plugin outline" in shown)
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    assert len(stored(votes_place)) == 2
    assert serious_findings(page) == [] and visit.errors == []


def check_order(page: Page) -> None:
    """Assert that question, left picture, right picture and answers follow on one screen."""
    places = [page.get_by_role("heading", level=3), page.get_by_alt_text("left picture")]
    places += [page.get_by_alt_text("right picture"), page.get_by_role("button", name="Left ")]
    boxes = [place.first.bounding_box() for place in places]
    assert all(box is not None for box in boxes)
    question, left, right, answer = [box for box in boxes if box is not None]
    assert question["y"] < left["y"] == right["y"] < answer["y"] and left["x"] < right["x"]
    assert answer["y"] + answer["height"] <= 844


def check_enlarging(page: Page) -> None:
    """Assert that keys and taps open and close a large picture, and that no key votes meanwhile."""
    large, small = page.locator("dialog img"), page.locator(".picture button")
    page.keyboard.press("e")
    expect(large).to_have_attribute("alt", "left picture")
    for key in ("ArrowRight", "0", "s"):
        page.keyboard.press(key)
    expect(large).to_have_attribute("alt", "right picture")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    small.nth(1).tap()
    expect(large).to_be_visible()
    large.tap()
    expect(large).to_be_hidden()
    small.nth(0).focus()
    page.keyboard.press("Enter")
    expect(large).to_have_attribute("alt", "left picture")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect_count(page, 0)


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
