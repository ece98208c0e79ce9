"""Web server part of the study: blinded pictures by key, and a rater cookie."""

from __future__ import annotations

from http.cookies import SimpleCookie

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.errors import UserError
from leaderboard.pictures import Picture, PictureQueue
from leaderboard.study.config import COOKIE, Voting, voting
from leaderboard.study.pictures import study_picture
from leaderboard.study.runs import files_of_run
from leaderboard.study.tokens import TOKEN_DAYS

IMAGE_ROUTE = "/study-image"
_HEADERS = {
    "Cache-Control": "private, max-age=86400",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def study_routes(queue: PictureQueue | None = None) -> list[Route]:
    """Return the route GET /study-image/WHAT/KEY of pictures by their opaque key."""
    queue = queue or PictureQueue()

    async def image(request: Request) -> ASGIApp:
        given = request.path_params
        return queue.answer(lambda: _image(**given), _HEADERS, is_large=True)

    return [Route(IMAGE_ROUTE + "/{what}/{key}", image, methods=["GET"])]


def _image(*, what: str, key: str) -> Picture | None:
    try:
        found = study_picture(voting().database, files_of_run, what=what, key=key)
    except UserError:
        return None
    return Picture(found, "image/png") if found is not None else None


class RaterCookie:
    """ASGI middleware that sets a new rater token for browsers without a valid one.

    The cookie contains only the signed token; it is hidden from scripts and not sent cross-site.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request and add the cookie to the response of a page."""
        token = await run_in_threadpool(_new_token, scope) if _is_page(scope) else None
        if token is None:
            await self._app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("Set-Cookie", _cookie(token, scope))
                headers["Cache-Control"] = "private, no-store"  # specific to one browser
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _is_page(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    accepted = dict(scope["headers"]).get(b"accept", b"")
    return b"text/html" in accepted


def _new_token(scope: Scope) -> str | None:
    """Return a new token unless the browser has a valid one or votes are unavailable."""
    try:
        home: Voting = voting()
    except UserError:
        return None
    known = Request(scope).cookies.get(COOKIE)
    return home.blinding.new_token() if home.blinding.rater_of(known) is None else None


def _cookie(token: str, scope: Scope) -> str:
    cookie: SimpleCookie = SimpleCookie()
    cookie[COOKIE] = token
    cookie[COOKIE]["path"] = scope.get("root_path") or "/"
    cookie[COOKIE]["max-age"] = str(TOKEN_DAYS * 86_400)
    cookie[COOKIE]["httponly"] = "yes"
    cookie[COOKIE]["samesite"] = "Lax"
    if scope.get("scheme") == "https":
        cookie[COOKIE]["secure"] = "yes"
    return cookie[COOKIE].OutputString()
