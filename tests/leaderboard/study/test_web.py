"""Claims about the study's part of the web server."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from bench.store.rows import records
from leaderboard.study.config import COOKIE, VOTES_VARIABLE, voting
from leaderboard.study.design import design_study
from leaderboard.study.runs import RESULTS_VARIABLE
from leaderboard.study.tokens import SECRET_VARIABLE
from leaderboard.study.web import RaterCookie, study_routes
from tests.leaderboard.study_run import RUN_ID, write_study_run

PAGE = {"Accept": "text/html"}


async def page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("a page")


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / "runs"))
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path / "votes.sqlite"))
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    routes = [*study_routes(), Route("/", page)]
    app = Starlette(routes=routes, middleware=[Middleware(RaterCookie)])
    with TestClient(app) as client:
        yield client
    voting().database.close()


def test_a_browser_gets_one_signed_cookie_that_scripts_cannot_read(client):
    first = client.get("/", headers=PAGE)
    cookie = first.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=15552000"):
        assert part in cookie
    assert "Secure" not in cookie
    assert first.headers["cache-control"] == "private, no-store"
    assert voting().blinding.rater_of(first.cookies[COOKIE]) is not None
    assert "set-cookie" not in client.get("/", headers=PAGE).headers


def test_over_https_the_cookie_stays_there(client):
    client.base_url = "https://testserver"
    assert "Secure" in client.get("/", headers=PAGE).headers["set-cookie"]


def test_a_forged_cookie_is_replaced_and_other_requests_get_none(client):
    assert "set-cookie" not in client.get("/").headers
    client.cookies.set(COOKIE, "0" * 32 + ".forged.token")
    assert "set-cookie" in client.get("/", headers=PAGE).headers


def test_pages_open_where_votes_cannot_be_kept(client, monkeypatch, tmp_path):
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path))
    answer = client.get("/", headers=PAGE)
    assert answer.status_code == 200 and "set-cookie" not in answer.headers
    assert client.get("/study-image/picture/" + "0" * 32).status_code == 404
    monkeypatch.undo()
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path / "votes.sqlite"))


def test_pictures_come_by_key_alone(client, tmp_path):
    store = write_study_run(tmp_path / "runs" / "one")
    found = records(store.trials().merge(store.results(), on="trial_id"))
    study = design_study(found, run_id=RUN_ID, run_name="one", family="pocket")
    home = voting()
    home.database.add_study(study, home.blinding)
    row = home.database.pictures(study.study_id)[0]
    answer = client.get(f"/study-image/picture/{row.picture_key}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not {"content-disposition", "last-modified"} & set(answer.headers)
    for path in (row.trial_id, row.image, "..%2F..%2Frun.json", "0" * 32, "%00"):
        assert client.get(f"/study-image/picture/{path}").status_code == 404
    assert client.post(f"/study-image/picture/{row.picture_key}").status_code == 405
