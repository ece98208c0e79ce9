"""Claims about every page in a real browser: no errors, usable, and linkable by its URL."""

import re
import shutil
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect

from leaderboard.data.sources import SHIPPED
from leaderboard.web.headers import security_headers
from tests.leaderboard.browsing import Visit, images_of, new_visit, serious_findings
from tests.leaderboard.web_server import WebServer, running_server

pytestmark = pytest.mark.system

PAGES = {
    "/": r"\d of \d plugins .* on the upgraded model.*",
    "/tradeoff": "What does quality cost.",
    "/t0": "How much should the new model redraw.",
    "/plugin": r"\S+ \S+ .*",  # name, kind, verdict
    "/compare": "Did the new weights make anything worse.",
    "/study": "Study",
    "/about": "About",
    "/provenance": "Where do the numbers come from.",
}
PARTS = {
    "/plugin?part=Best+and+worst": PAGES["/plugin"],
    "/plugin?part=Side+by+side": PAGES["/plugin"],
    "/plugin?part=Card": PAGES["/plugin"],
    "/study?part=Rate": "Study",
    "/study?part=Results": "Study",
}
LOOKS = {
    "light": {},
    "dark phone": {"scheme": "dark", "width_px": 390},
    "dark": {"scheme": "dark"},
    "phone": {"width_px": 390},
}
# a page of each kind in a dark and narrow window: charts, pictures, tables, a form
OFTEN = {"light": [*PAGES], "dark phone": ["/", "/plugin", "/compare", "/study"]}


def width_beyond(page: Page) -> int:
    """Return the horizontal overflow of the page in px."""
    return page.evaluate(
        "Math.max(...[document.documentElement, document.querySelector('[data-testid=stMain]')]"
        ".map(e => e.scrollWidth - e.clientWidth))"
    )


def check_page(visit: Visit, server: WebServer, path: str, title: str) -> None:
    visit.open(server.url + path)
    heading = visit.page.get_by_role("heading", name=re.compile(f"^{title}$"), level=1)
    expect(heading).to_be_visible()
    assert visit.page.title().endswith(" | xbench")
    assert (path, visit.errors) == (path, [])
    assert (path, serious_findings(visit.page)) == (path, [])
    assert (path, width_beyond(visit.page)) == (path, 0)
    shown = [image for image in images_of(visit.page) if image["src"]]  # dialogs have none yet
    bad = [image for image in shown if not (image["loaded"] and image["alt"])]
    assert (path, bad) == (path, [])
    assert all(url.startswith((server.url, "data:", "blob:")) for url in visit.asked)


@pytest.mark.parametrize("look", OFTEN)
def test_every_page_opens_without_errors_or_serious_findings(server, browser, look):
    visit = new_visit(browser, **LOOKS[look])
    for path in OFTEN[look]:
        check_page(visit, server, path, PAGES[path])
    visit.page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_every_part_of_a_page_opens_without_errors_or_serious_findings(server, browser, look):
    visit = new_visit(browser, **LOOKS[look])
    for path, title in {**PAGES, **PARTS}.items():
        if path not in OFTEN.get(look, ()):
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


def image_sources(page: Page, *, in_fragments: bool = False) -> list[str]:
    """Return the paths of the runs' pictures in the gallery of a page, or in its fragments."""
    gallery = [image for image in images_of(page) if image["isFragment"] == in_fragments]
    paths = [urlsplit(image["src"]).path for image in gallery]
    return [path for path in paths if path.startswith("/run-image/")]


def chart_text(page: Page) -> str:
    """Return the alt text of the page's only chart."""
    return page.get_by_test_id("stVegaLiteChart").get_attribute("aria-label") or ""


def chosen(page: Page, label: str) -> str:
    """Return the value of a select box."""
    return page.get_by_role("combobox", name=label).input_value()


def choose(visit: Visit, label: str, option: str) -> None:
    """Choose from a select box with the keyboard."""
    box = visit.page.get_by_role("combobox", name=label)
    box.fill(option)
    visit.page.get_by_role("option", name=option, exact=True).wait_for()
    visit.act(lambda: box.press("Enter"))


def test_a_filter_is_kept_in_the_url_and_a_link_shows_the_same(server, browser):
    visit = new_visit(browser)
    visit.open(server.url)
    assert "canny-net" in chart_text(visit.page)
    visit.page.get_by_text("Filters", exact=True).click()
    visit.wait_until_idle()  # the filters open
    choose(visit, "Plugin kind", "LoRA")
    assert "only_kind=lora" in visit.page.url
    text = chart_text(visit.page)
    assert "ink-lora" in text and "canny-net" not in text
    other = new_visit(browser)
    other.open(visit.page.url)
    assert chart_text(other.page) == text
    assert visit.errors == other.errors == []


def test_a_gallery_is_paged_and_each_page_is_a_link(server, browser):
    visit = new_visit(browser)
    visit.open(server.url + "/plugin?run=old&plugin=ink-lora")
    first = image_sources(visit.page)
    assert len(first) == 24
    assert all("/run-image/old/small/" in source for source in first)
    visit.act(visit.page.get_by_role("button", name="Page 2").click)
    second = image_sources(visit.page)
    assert len(second) == 24 and not set(first) & set(second)
    other = new_visit(browser)
    other.open(visit.page.url)
    assert image_sources(other.page) == second
    assert visit.errors == other.errors == []


def test_two_runs_are_compared_from_the_keyboard(server, browser):
    visit = new_visit(browser)
    visit.open(server.url)
    visit.page.get_by_role("link", name="Compare", exact=True).focus()
    visit.act(lambda: visit.page.keyboard.press("Enter"))
    assert chosen(visit.page, "Baseline") == "old"
    expect(visit.page.get_by_test_id("stMultiSelect").get_by_text("new")).to_be_visible()
    expect(visit.page.get_by_text("1 of 1 tests found a loss")).to_be_visible()
    assert chosen(visit.page, "Method") == "X-Adapter"
    matrix = visit.page.get_by_role("region", name="Plugins by runs")
    expect(matrix.get_by_role("row", name="ink-lora").get_by_text("-0.2")).to_be_visible()
    worst = image_sources(visit.page, in_fragments=True)
    assert worst and len({source.split("/")[2] for source in worst}) == 2
    choose(visit, "Method", "SDEdit")
    assert "compared_method=sdedit" in visit.page.url
    expect(matrix.get_by_role("row", name="ink-lora").get_by_text("0.00")).to_be_visible()
    choose(visit, "Baseline", "new")
    expect(visit.page.get_by_text("Choose two different runs.")).to_be_visible()
    assert visit.errors == []


def test_a_table_is_downloaded(server, browser):
    visit = new_visit(browser)
    visit.open(server.url)
    with visit.page.expect_download() as started:
        visit.page.get_by_role("button", name="Download CSV").click()
    path = started.value.path()
    header, *lines = path.read_text().splitlines()
    assert "plugin" in header.split(",") and len(lines) == 8
    assert visit.errors == []


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/plugin?run=old", "/no-such-page", "/favicon.png", "/_stcore/health"),
        *("/run-image/old/small/aaa-canny-net-base-None-0-0", "/run-image/old/small/none"),
        *("/study-image/picture/none", "/..%2f..%2fetc/passwd"),
    ],
)
def test_every_answer_carries_the_headers_once(server, path):
    try:
        with urlopen(server.url + path, timeout=30) as found:
            answer = found.headers
    except HTTPError as error:
        answer = error.headers
    for name, value in security_headers().items():
        own = ["no-referrer"] if name == "Referrer-Policy" and "study-image" in path else []
        assert answer.get_all(name) in ([value], own), name


def test_markup_that_came_into_a_page_runs_no_script_and_reaches_no_other_site(server, browser):
    visit = new_visit(browser)
    visit.open(server.url)
    assert visit.errors == []
    visit.page.evaluate(
        """() => {
          document.body.insertAdjacentHTML("beforeend",
            '<img src="/favicon.png" onload="window.hit = 1"><img src="http://127.0.0.1:9/x.png">');
          document.body.append(Object.assign(document.createElement("script"),
            { textContent: "window.hit = 1" }));
        }"""
    )
    visit.wait_until_idle()
    visit.page.wait_for_timeout(200)
    assert visit.page.evaluate("window.hit") is None
    refused = {error.split()[1] for error in visit.errors if error.startswith("policy:")}
    assert refused == {"script-src-attr", "script-src-elem", "img-src"}
