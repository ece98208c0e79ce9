"""Claims about the files of runs that the server makes: the same as those of a static site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from bench.site import SiteOptions, build_site
from bench.store import RunStore
from leaderboard.data.sources import RESULTS_VARIABLE
from leaderboard.pictures import PictureQueue
from leaderboard.web import picture_routes, site_routes
from tests.bench.drawn_run import compatible_run
from tests.bench.site.conftest import copied_run
from tests.bench.site.reading import Page

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    copied_run(compatible_run(tmp_path_factory.getbasetemp()), folder / "drawn")
    copied_run(RunStore(folder / "drawn"), folder / "stopped", status="interrupted")
    return folder


@pytest.fixture
def client(results: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv(RESULTS_VARIABLE, str(results))
    queue = PictureQueue()
    with TestClient(Starlette(routes=[*site_routes(queue), *picture_routes(queue)])) as client:
        yield client


@pytest.fixture(scope="module")
def static(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static") / "out"
    build_site([results / "drawn"], folder, SiteOptions(url="http://testserver"))
    return folder


@pytest.mark.parametrize(
    "name", ["badge.svg", "badge.json", "pocket-canny/badge.svg", "pocket-canny/badge.json"]
)
def test_badges_are_those_of_the_static_site(client: TestClient, static: Path, name: str) -> None:
    answer = client.get(f"/runs/drawn/{name}")
    assert answer.status_code == 200
    assert answer.content == (static / "runs" / "drawn" / name).read_bytes()


def test_the_page_of_a_plugin_says_what_the_static_one_says(
    client: TestClient, static: Path, tmp_path: Path
) -> None:
    path = tmp_path / "index.html"
    path.write_bytes(client.get("/runs/drawn/pocket-canny/").content)
    served, written = Page(path), Page(static / "runs" / "drawn" / "pocket-canny" / "index.html")
    for name in ("og:title", "og:description", "og:image"):
        assert served.meta(name) == written.meta(name)
    shown = [a["data-trial"] for _, a in served.tags if "data-trial" in a]
    assert shown == [a["data-trial"] for _, a in written.tags if "data-trial" in a]
    assert [a["data-score"] for _, a in served.tags if "data-score" in a] == [
        a["data-score"] for _, a in written.tags if "data-score" in a
    ]
    assert served.words.replace(" Run drawn", "") == written.words.replace(" Run drawn", "")


def test_every_link_of_a_served_page_is_answered(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    place = "/runs/drawn/pocket-canny/"
    path.write_bytes(client.get(place).content)
    links = {str(client.base_url.join(place).join(link)) for link in Page(path).links}
    assert len(links) > 30
    for link in links - {"http://testserver/index.html"}:
        assert client.get(link.partition("#")[0], follow_redirects=False).status_code in (200, 307)


def test_an_unfinished_run_has_no_plugin_and_is_called_so(client: TestClient) -> None:
    assert client.get("/runs/stopped/pocket-canny/badge.svg").status_code == 404
    assert "unfinished" in client.get("/runs/stopped/badge.svg").text
    data = client.get("/results.json").json()
    assert [run["answers"] for run in data["runs"] if not run["is_finished"]] == [[]]


@pytest.mark.parametrize(
    "place", ["/runs/none/badge.svg", "/runs/drawn/none/badge.svg", "/runs/drawn/run.json"]
)
def test_what_is_not_there_is_not_found(client: TestClient, place: str) -> None:
    assert client.get(place).status_code == 404
