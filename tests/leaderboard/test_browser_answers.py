"""Claims about the first page and a plugin's page in a browser: search, cards, viewer, slider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.bench.drawn_run import compatible_run
from tests.bench.site.conftest import copied_run
from tests.leaderboard.browsing import Visit, new_visit
from tests.leaderboard.web_server import WebServer, running_server

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """Serve a run with native plugins and verdicts."""
    folder = tmp_path_factory.mktemp("judged")
    copied_run(compatible_run(tmp_path_factory.getbasetemp()), folder / "runs" / "drawn")
    with running_server(folder / "runs", str(folder / "votes"), folder / "log") as server:
        yield server


def opened(browser: Browser, url: str, **look: int) -> Visit:
    visit = new_visit(browser, **look)
    visit.open(url)
    return visit


def current(page: Page) -> str:
    return page.locator("dialog.viewer img.current").get_attribute("src") or ""


def test_the_first_screen_answers_and_a_card_leads_to_the_plugin_and_back(
    judged: WebServer, browser: Browser
) -> None:
    visit = opened(browser, judged.url, width_px=1440)
    page = visit.page
    expect(page.get_by_role("heading", level=1)).to_contain_text("plugins")
    cards = page.locator(".card")
    assert cards.count() == 3
    for part in ("img.bar", ".three img", ".advice", ".verdict"):
        expect(cards.first.locator(part).first).to_be_in_viewport()
    visit.act(page.get_by_role("link", name="pocket-outline").first.click)
    expect(page.get_by_role("heading", level=1)).to_contain_text("pocket-outline")
    assert "plugin=pocket-outline" in page.url and page.title().startswith("pocket-outline")
    visit.act(page.go_back)
    assert page.locator(".card").count() == 3 and visit.errors == []


def test_search_and_verdicts_choose_cards(judged: WebServer, browser: Browser) -> None:
    visit = opened(browser, judged.url)
    search = visit.page.get_by_role("textbox", name="Search")
    search.fill("CANNY")
    visit.act(lambda: search.press("Enter"))
    assert visit.page.locator(".card").count() == 1 and "search=CANNY" in visit.page.url
    search.fill("no such plugin")
    visit.act(lambda: search.press("Enter"))
    expect(visit.page.get_by_text("No plugin matches.")).to_be_visible()
    search.fill("")
    visit.act(lambda: search.press("Enter"))
    chip = visit.page.locator(".st-key-verdicts button").first
    word = chip.inner_text()
    visit.act(chip.click)
    shown = visit.page.locator(".card .verdict").all_inner_texts()
    assert 0 < len(shown) < 3 and all(word in text for text in shown)
    assert f"verdicts={word}" in visit.page.url and visit.errors == []


def test_the_viewer_works_by_keys(judged: WebServer, browser: Browser) -> None:
    visit = opened(browser, judged.url + "/plugin?plugin=pocket-canny")
    page = visit.page
    page.locator("a.shot:visible").first.click()
    first = current(page)
    page.keyboard.press("ArrowRight")
    other = current(page)
    assert other != first and "/run-image/drawn/full/" in other
    page.keyboard.press("Space")
    assert current(page) == first
    page.keyboard.press("Space")
    page.keyboard.press("+")
    zoom = "e => getComputedStyle(e).getPropertyValue('--zoom')"
    assert float(page.locator(".stage").evaluate(zoom)) == 1.5
    page.keyboard.press("ArrowDown")
    assert current(page) not in (first, other)
    page.get_by_role("button", name="Condition over it").click()
    over = page.locator("dialog.viewer img.over")
    expect(over).to_be_visible()
    assert "/condition/" in (over.get_attribute("src") or "")
    page.get_by_role("button", name="Difference").click()
    assert (over.get_attribute("src") or "").endswith(
        page.locator(".strip tbody tr").nth(1).locator("a.shot").first.get_attribute("href") or "-"
    )
    assert "xbench explain drawn case-" in page.locator("dialog.viewer").inner_text()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.viewer")).to_be_hidden()
    assert visit.errors == []


def test_the_viewer_works_by_touch_and_its_slider_changes_t0(
    judged: WebServer, browser: Browser
) -> None:
    visit = opened(browser, judged.url + "/plugin?plugin=pocket-canny", width_px=390)
    page = visit.page
    page.locator("a.shot[data-method=SDEdit]:visible").first.tap()
    first = current(page)
    slider = page.locator("dialog.viewer input[type=range]")
    slider.press("End")
    assert current(page) != first
    slider.press("Home")
    page.get_by_role("button", name="Method →").tap()
    assert current(page) != first
    page.get_by_role("button", name="Close").tap()
    expect(page.locator("dialog.viewer")).to_be_hidden()
    assert visit.errors == []


def test_the_slider_of_the_strip_shows_one_t0(judged: WebServer, browser: Browser) -> None:
    visit = opened(browser, judged.url + "/plugin?plugin=pocket-canny")
    headings = visit.page.locator(".strip thead th:visible")
    assert sum("SDEdit" in text for text in headings.all_inner_texts()) == 1
    visit.page.locator(".choices input").first.press("End")
    assert "SDEdit\nt0 0.9" in headings.all_inner_texts()
    visit.page.get_by_role("button", name="Show all t0").click()
    assert sum("SDEdit" in text for text in headings.all_inner_texts()) == 2


def test_a_badge_is_shown_and_every_file_of_the_plugin_is_there(
    judged: WebServer, browser: Browser
) -> None:
    visit = opened(browser, judged.url + "/plugin?plugin=pocket-canny")
    badge = visit.page.locator(".files img").first
    assert badge.evaluate("i => i.naturalWidth") > 50
    for link in visit.page.locator(".files").first.locator("a").all():
        place = link.get_attribute("href") or ""
        answer = visit.page.request.get(place)
        assert answer.ok and place.startswith(judged.url + "/runs/drawn/pocket-canny/")
