"""Claims about the host names that the site answers to."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from bench.errors import UserError
from leaderboard.serve import serve
from leaderboard.web.hosts import KnownHosts


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("welcome")
    await socket.close()


async def page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("a page")


def client(*, bound: str = "127.0.0.1", allowed: tuple[str, ...] = ()) -> TestClient:
    hosts = Middleware(KnownHosts, bound=bound, allowed=allowed)
    routes = [Route("/", page), WebSocketRoute("/", greet)]
    return TestClient(Starlette(routes=routes, middleware=[hosts]))


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8501", "127.0.0.1:80", "[::1]:8501", "localhost."]
)
def test_names_of_this_machine_are_known(host):
    assert client().get("/", headers={"Host": host}).text == "a page"
    with client().websocket_connect("/", headers={"Host": host}) as socket:
        assert socket.receive_text() == "welcome"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8501", "10.0.0.1"),
        *("me@localhost", "localhost/", "[::1", "::1", "", "127.0.0.1:x", "a b", "2130706433"),
        *("localhost, evil.example", "<script>", "x" * 300, "127.1", "0.0.0.0", "[::ffff:7f00:1]"),
    ],
)
def test_other_names_are_refused_with_the_option_that_allows_them(host):
    answer = client().get("/", headers={"Host": host})
    assert answer.status_code in (400, 421) and "a page" not in answer.text
    assert answer.headers["content-type"].startswith("text/plain") and "<" not in answer.text
    if host == "evil.example":
        assert answer.status_code == 421 and "--allow-host evil.example" in answer.text
    with pytest.raises(WebSocketDisconnect) as caught:
        client().websocket_connect("/", headers={"Host": host}).__enter__()
    assert caught.value.code == 1008


def test_an_allowed_name_is_known_and_its_neighbors_are_not():
    site = client(allowed=("Bench.example.org.", "b\u00fccher.example"))
    for host in ("bench.example.org", "BENCH.example.org:443", "xn--bcher-kva.example"):
        assert site.get("/", headers={"Host": host}).status_code == 200
    for host in ("a.bench.example.org", "example.org"):
        assert site.get("/", headers={"Host": host}).status_code == 421


def test_a_server_on_all_addresses_is_known_by_any_address_and_no_other_name():
    for bound in ("0.0.0.0", "::"):
        site = client(bound=bound)
        for host in ("192.0.2.7:8501", "[2001:db8::1]:8501", "localhost"):
            assert site.get("/", headers={"Host": host}).status_code == 200
        assert site.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_the_bound_address_is_known():
    assert client(bound="192.0.2.7").get("/", headers={"Host": "192.0.2.7"}).status_code == 200


@pytest.mark.parametrize("name", ["https://x.org", "x.org:80", "x.org/a", "", "*", "a b"])
def test_an_allowed_name_that_is_not_a_host_name_is_refused(name):
    with pytest.raises(UserError, match="is not a host name"):
        serve(None, port=1, host="127.0.0.1", allowed_hosts=[name])
