"""Claims about allowed origins of connections to the pages."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from leaderboard.web.origin import OwnOrigin


async def greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("welcome")
    await socket.close()


def greeting(headers: dict[str, str]) -> str:
    app = Starlette(routes=[WebSocketRoute("/", greet)], middleware=[Middleware(OwnOrigin)])
    with TestClient(app).websocket_connect("/", headers=headers) as socket:
        return socket.receive_text()


@pytest.mark.parametrize("origin", [None, "http://bench.example.org", "https://bench.example.org"])
def test_pages_of_this_site_and_programs_connect(origin):
    headers = {"Host": "bench.example.org"} | ({"Origin": origin} if origin else {})
    assert greeting(headers) == "welcome"


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "https://bench.example.org:8080", "null", "", "http://["),
        *("https://bench.example.org.evil.example", "http://localhost", "http://127.0.0.1"),
    ],
)
def test_pages_of_other_sites_are_refused(origin):
    with pytest.raises(WebSocketDisconnect) as caught:
        greeting({"Host": "bench.example.org", "Origin": origin})
    assert caught.value.code == 1008
