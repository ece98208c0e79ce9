"""Claims about the headers of responses."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from leaderboard.web.headers import SecurityHeaders, security_headers


async def page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("a page", headers={"Referrer-Policy": "no-referrer"})


async def failing(_: Request) -> PlainTextResponse:
    raise RuntimeError("a bug")


@pytest.fixture
def client():
    routes = [Route("/page", page), Route("/failing", failing)]
    app = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders)])
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(("path", "status"), [("/page", 200), ("/none", 404), ("/failing", 500)])
def test_every_answer_has_the_headers(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert "bug" not in answer.text
    for name, value in security_headers().items():
        if (path, name) != ("/page", "Referrer-Policy"):
            assert answer.headers[name] == value


def test_headers_of_a_route_are_kept(client):
    assert client.get("/page").headers["Referrer-Policy"] == "no-referrer"


def test_scripts_come_from_this_site_alone_and_are_never_evaluated():
    policy = dict(
        rule.split(" ", 1) for rule in security_headers()["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    scripts = policy["script-src"].split()
    assert not {"'unsafe-inline'", "'unsafe-eval'", "data:", "https:", "*"} & set(scripts)
    assert sum(source.startswith("'sha256-") for source in scripts) == 1
    assert not any("//" in sources or "*" in sources for sources in policy.values())
