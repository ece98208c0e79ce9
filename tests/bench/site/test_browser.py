"""The site in Chromium, from the disk: slider, viewer by keys and touch, search, no errors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.leaderboard.browsing import (
    CHROMIUM,
    CHROMIUM_ARGUMENTS,
    Visit,
    images_of,
    need_chromium,
    new_visit,
    serious_findings,
)

pytestmark = pytest.mark.system

_LOAD_ALL = """Promise.allSettled([...document.images].map((image) => {
  image.loading = "eager";
  return image.decode();
}))"""
PAGES = ("index.html", "about.html", "runs/drawn/pocket-canny/index.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_chromium()
    with (
        sync_playwright() as player,
        player.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS) as browser,
    ):
        yield browser


def opened(browser: Browser, site: Path, page: str, *, width_px: int = 1440) -> Visit:
    visit = new_visit(browser, width_px=width_px)
    visit.page.goto((site / page).as_uri())
    return visit


def shown_headings(page: Page) -> list[str]:
    return page.locator(".strip thead th:visible").all_inner_texts()


@pytest.mark.parametrize("width_px", [1440, 390])
@pytest.mark.parametrize("name", PAGES)
def test_pages_open_from_the_disk_without_errors(
    browser: Browser, site: Path, name: str, width_px: int
):
    visit = opened(browser, site, name, width_px=width_px)
    visit.page.evaluate(_LOAD_ALL)
    assert all(image["loaded"] or not image["src"] for image in images_of(visit.page))
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.errors == [] and all(place.startswith("file://") for place in visit.asked)
    assert serious_findings(visit.page) == []


def test_the_slider_shows_one_t0_and_without_script_all_are_there(browser: Browser, site: Path):
    page = opened(browser, site, PAGES[2]).page
    assert "SDEdit\nt0 0.5" in shown_headings(page) or "SDEdit\nt0 0.9" in shown_headings(page)
    assert sum("SDEdit" in text for text in shown_headings(page)) == 1
    page.locator(".choices input").first.press("End")
    assert [t for t in shown_headings(page) if "SDEdit" in t] == ["SDEdit\nt0 0.9"]
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto((site / PAGES[2]).as_uri())
    assert sum("SDEdit" in text for text in shown_headings(plain)) == 2


def test_the_viewer_works_by_keys(browser: Browser, site: Path):
    page = opened(browser, site, PAGES[2]).page
    page.locator("a.shot").first.click()
    viewer, image = page.locator("dialog.viewer"), page.locator("dialog.viewer img.current")
    first = image.get_attribute("src")
    page.keyboard.press("ArrowRight")
    other = image.get_attribute("src")
    assert other != first and "SDEdit" in viewer.inner_text()
    page.keyboard.press("Space")
    assert image.get_attribute("src") == first
    page.keyboard.press("Space")
    assert image.get_attribute("src") == other
    page.keyboard.press("ArrowDown")
    assert image.get_attribute("src") not in (first, other)
    assert "xbench explain drawn case-" in viewer.inner_text()
    page.keyboard.press("Escape")
    assert not viewer.is_visible()


def test_the_viewer_works_by_touch(browser: Browser, site: Path):
    page = opened(browser, site, PAGES[2], width_px=390).page
    page.locator("a.shot").first.tap()
    image = page.locator("dialog.viewer img.current")
    first = image.get_attribute("src")
    page.get_by_role("button", name="Method →").tap()
    assert image.get_attribute("src") != first
    page.locator("dialog.viewer .stage").tap()
    assert image.get_attribute("src") == first
    page.get_by_role("button", name="Close").tap()
    assert not page.locator("dialog.viewer").is_visible()


def test_search_leaves_the_cards_that_match(browser: Browser, site: Path):
    page = opened(browser, site, "index.html").page
    assert page.locator(".card:visible").count() == 3
    page.get_by_role("searchbox").fill("CANNY")
    assert page.locator(".card:visible h2").all_inner_texts()[0].startswith("pocket-canny")
    assert page.locator(".card:visible").count() == 1
