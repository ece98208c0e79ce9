"""Claims about what a browser may do with the pages, by a real server and a real browser."""

from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from leaderboard.headers_web import security_headers
from tests.leaderboard.browsing import new_visit
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.web_server import WebServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("site")
    write_results(folder / "runs" / "one", n_cases=2, n_seeds=1)
    with running_server(folder / "runs", str(folder / "votes.sqlite"), folder / "log") as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/plugin?run=one", "/no-such-page", "/favicon.png", "/_stcore/health"),
        *("/run-image/one/small/aaa-canny-net-base-None-0-0", "/run-image/one/small/none"),
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
