"""Claims about use in a real browser: keys suffice, points show pictures, votes count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect
from sqlalchemy import select

from leaderboard.study.database import reading
from leaderboard.study.schema import VOTES
from leaderboard.study.votes import VotesDatabase
from tests.leaderboard.browsing import Visit, images_of, new_visit
from tests.leaderboard.drawn_results import METHODS
from tests.leaderboard.test_hostile_store import EVIL, PARTS, evil_run
from tests.leaderboard.web_server import WebServer, running_server

pytestmark = pytest.mark.system

NAVIGATION = ["Plugins", "Compare", "Study", "About"]
# name of the focused element, also inside a component
_FOCUSED = """
(() => {
  let at = document.activeElement;
  while (at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
  const name = at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText || "";
  return name.trim().split("\\n")[0];
})()
"""


def tab_until(page: Page, wanted: Callable[[str], bool], *, most: int = 200) -> list[str]:
    """Press Tab until an element has focus; return the names of all focused elements."""
    names: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        names.append(page.evaluate(_FOCUSED))
        if wanted(names[-1]):
            return names
    raise AssertionError(f"Tab does not reach it: {names}")


def open_new(browser: Browser, url: str) -> Visit:
    visit = new_visit(browser)
    visit.open(url)
    return visit


def test_tab_reaches_navigation_choices_and_the_pages_of_a_gallery(
    server: WebServer, browser: Browser
) -> None:
    visit = open_new(browser, server.url + "/plugin?run=old&plugin=ink-lora")
    first = [image["src"] for image in images_of(visit.page) if not image["isFragment"]]
    names = tab_until(visit.page, lambda name: name == "Page 2")
    assert names[: 1 + len(NAVIGATION)] == ["Skip to main content", *NAVIGATION]
    for wanted in ("Run", "Plugin", "Images", "Methods", "Scores"):
        assert any(name.startswith(wanted) for name in names), (wanted, names)
    visit.act(lambda: visit.page.keyboard.press("Enter"))
    assert "page=2" in visit.page.url
    then = [image["src"] for image in images_of(visit.page) if not image["isFragment"]]
    assert first and then and not set(first) & set(then)
    assert visit.errors == []


def test_arrow_keys_choose_a_part_and_move_the_line_between_two_pictures(
    server: WebServer, browser: Browser
) -> None:
    visit = open_new(browser, server.url + "/plugin?plugin=ink-lora")
    tab_until(visit.page, lambda name: name == "Images")
    for key in ("ArrowRight", "ArrowRight"):
        visit.page.keyboard.press(key)
    visit.act(lambda: visit.page.keyboard.press("Enter"))
    assert "part=Side+by+side" in visit.page.url
    tab_until(visit.page, lambda name: name.startswith("Visible part of the left picture"))
    line = visit.page.locator(".both")
    widths = [line.locator("i").evaluate("e => e.offsetLeft")]
    for _ in range(10):
        visit.page.keyboard.press("ArrowRight")
    widths.append(line.locator("i").evaluate("e => e.offsetLeft"))
    slider = visit.page.get_by_role("slider", name="Visible part of the left picture")
    assert slider.input_value() == "60"
    assert widths[1] - widths[0] == pytest.approx(line.evaluate("e => e.offsetWidth") / 10, abs=2)
    left, right = (image for image in images_of(visit.page) if not image["isFragment"])
    assert left["loaded"] and right["loaded"] and left["src"] != right["src"]
    assert left["alt"].startswith("Base model") and right["alt"].startswith("X-Adapter")
    assert visit.errors == []


def test_each_point_of_the_plane_shows_an_image_of_its_setting(
    server: WebServer, browser: Browser
) -> None:
    visit = open_new(browser, server.url + "/tradeoff?run=old&plugin=ink-lora")
    points = visit.page.locator(".mark-symbol.role-mark path")
    assert points.count() == sum(len(t0s) for t0s in METHODS.values())
    sources = set()
    for point in points.all():
        point.hover(force=True)
        tooltip = visit.page.locator("#vg-tooltip-element.visible img")
        tooltip.wait_for()
        visit.wait_until_idle()
        assert tooltip.evaluate("i => i.naturalWidth") > 0
        sources.add(tooltip.get_attribute("src"))
    assert len(sources) == points.count()
    assert visit.errors == []


def test_a_vote_by_key_is_counted_on_the_page_and_stored_once(
    server: WebServer, browser: Browser
) -> None:
    visit = open_new(browser, server.url + "/study?run=old")
    for n, key in enumerate(("ArrowLeft", "0"), start=1):
        visit.act(lambda key=key: visit.page.keyboard.press(key))
        expect(visit.page.get_by_text(f"{n} of ")).to_be_visible()
    with VotesDatabase.open(server.votes) as database, reading(database.engine) as connection:
        stored = connection.execute(select(VOTES)).all()
    assert len(stored) == 2 and len({row.rater_id for row in stored}) == 1
    assert stored[0].answer == stored[0].shown_left and stored[1].answer == "tie"
    assert visit.errors == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """Serve two runs in which every text is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    evil_run(folder / "runs" / "<b>run")
    evil_run(folder / "runs" / "other", loss=0.2)
    with running_server(folder / "runs", str(folder / "votes"), folder / "log") as server:
        yield server


@pytest.mark.parametrize(
    "paths",
    [
        ["/plugin", "/compare"],
        ["/", "/about"],
        pytest.param(["/tradeoff", "/t0", "/study", "/provenance"], marks=pytest.mark.slow),
        pytest.param([f"/plugin?part={part}" for part in PARTS[1:]], marks=pytest.mark.slow),
    ],
    ids=["images", "answers", "pages", "parts"],
)
def test_hostile_text_runs_no_script_and_is_read_as_text(
    hostile: WebServer, browser: Browser, paths: list[str]
) -> None:
    visit = new_visit(browser)
    dialogs: list[str] = []

    def hear(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    visit.page.on("dialog", hear)
    for path in paths:
        mark = "&" if "?" in path else "?"
        visit.open(f"{hostile.url}{path}{mark}{urlencode({'plugin': EVIL})}")
        # a script blocked by the content policy would also be reported as an error
        assert (path, dialogs, visit.errors) == (path, [], [])
        made = visit.page.locator("[onerror], a[href^='javascript:'], img[src='x'], main b")
        assert (path, made.count()) == (path, 0)
        if path.startswith("/plugin"):
            expect(visit.page.get_by_role("combobox", name="Plugin")).to_have_value(EVIL)
    assert all(url.startswith((hostile.url, "data:", "blob:")) for url in visit.asked)
