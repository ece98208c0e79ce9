"""Claims about every page in a real browser: it opens clean, can be used, and its URL is a link."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from leaderboard.sources import SHIPPED
from tests.leaderboard.browsing import Visit, new_visit, serious_findings
from tests.leaderboard.drawn_results import write_gate, write_results
from tests.leaderboard.web_server import WebServer, running_server

PAGES = {
    "/": "Do plugins survive the upgrade?",
    "/tradeoff": "What does quality cost?",
    "/t0": "How long should the new model draw?",
    "/plugin": "Plugin",
    "/compare": "Did the new weights make anything worse?",
    "/study": "Study",
    "/provenance": "Where do the numbers come from?",
}
PARTS = {
    "/plugin?part=Best+and+worst": "Plugin",
    "/plugin?part=Side+by+side": "Plugin",
    "/plugin?part=Card": "Plugin",
    "/study?part=Rate": "Study",
    "/study?part=Results": "Study",
}
LOOKS = {"light": {}, "dark": {"scheme": "dark"}, "phone": {"width_px": 390}}
REGRESSION = {
    "verdict": "regression",
    "created": "2026-11-21T11:00:00+00:00",
    "baseline": {"run_id": "old-id"},
    "tests": [{"plugin": "ink-lora", "metric": "style-clip-i", "verdict": "regression"}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("site")
    write_results(folder / "runs" / "old")
    later = "2026-11-21T10:00:00+00:00"
    store = write_results(folder / "runs" / "new", adapter="b" * 64, created=later, loss=0.2)
    write_gate(store, REGRESSION)
    with running_server(folder / "runs", str(folder / "votes.sqlite"), folder / "log") as server:
        yield server


def width_beyond(page: Page) -> int:
    """By how many pixels the page can be scrolled sideways."""
    return page.evaluate(
        "Math.max(...[document.documentElement, document.querySelector('[data-testid=stMain]')]"
        ".map(e => e.scrollWidth - e.clientWidth))"
    )


def check_page(visit: Visit, server: WebServer, path: str, title: str) -> None:
    visit.open(server.url + path)
    expect(visit.page.get_by_role("heading", name=title, exact=True, level=1)).to_be_visible()
    assert (path, visit.errors) == (path, [])
    assert (path, serious_findings(visit.page)) == (path, [])
    assert (path, width_beyond(visit.page)) == (path, 0)
    broken = "Array.from(document.images).filter(i => i.naturalWidth === 0).map(i => i.src)"
    assert (path, visit.page.evaluate(broken)) == (path, [])
    assert all(url.startswith((server.url, "data:", "blob:")) for url in visit.asked)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_opens_without_errors_or_serious_findings(server, browser, look):
    visit = new_visit(browser, **LOOKS[look])
    for path, title in PAGES.items():
        check_page(visit, server, path, title)
    visit.page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_every_part_of_a_page_opens_without_errors_or_serious_findings(server, browser, look):
    visit = new_visit(browser, **LOOKS[look])
    for path, title in PARTS.items():
        check_page(visit, server, path, title)
    visit.page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_the_shipped_results_open_without_errors_or_serious_findings(browser, look, tmp_path):
    results = shutil.copytree(SHIPPED, tmp_path / "shipped")
    visit = new_visit(browser, **LOOKS[look])
    with running_server(results, str(tmp_path / "votes.sqlite"), tmp_path / "log") as server:
        for path, title in {**PAGES, **PARTS}.items():
            check_page(visit, server, path, title)
    visit.page.context.close()
