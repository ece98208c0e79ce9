"""Requests by hand: every hop is checked, tokens stay at home, busy servers get time.

Redirects are followed here and not by httpx, so that each host is checked and the token is dropped
when the host changes. After civitai/cli internal/api/download.go (ours: If-Range, retries).
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from plugins_manifest.fetch_errors import FetchError, HostError
from plugins_manifest.http.guard import HTTPS_PORT, AllowList, Resolver, system_resolver
from plugins_manifest.http.retry import patiently
from plugins_manifest.http.status import Response, interpret_response, judge_redirect
from plugins_manifest.http.transport import GuardedTransport
from plugins_manifest.redact import guard_logs, redact_text

USER_AGENT = f"xbench/{version('xbench')} (+https://arxiv.org/abs/2312.02238)"
MAX_HOPS = 10
MAX_JSON_BYTES = 16 << 20
START_BYTES = 4096
_REDIRECTS = (301, 302, 303, 307, 308)
T = TypeVar("T")


@dataclass(frozen=True)
class Token:
    """A bearer token; its value is shown nowhere."""

    value: str = field(repr=False)


@dataclass(frozen=True)
class OpenResponse:
    """An open answer: `start` was read already, `chunks` goes on behind it."""

    seen: Response
    chunks: Iterator[bytes]


class Client:
    """Fetches over https from allowed hosts at public addresses; close it, or use `with`."""

    def __init__(
        self,
        *,
        allow: AllowList | None = None,
        resolve: Resolver = system_resolver,
        ca: Path | None = None,
        timeout_seconds: float = 30.0,
        max_tries: int = 6,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        guard_logs()
        self.allow = allow or AllowList()
        self._sleep, self._max_tries = sleep, max_tries
        # Asked directly: a client would parse redirects itself, keep cookies, and log addresses.
        self._transport = GuardedTransport(self.allow, resolve, ca=ca)
        self._requests = httpx.Client(
            transport=self._transport,
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 10.0)),
            trust_env=False,
            headers={
                "User-Agent": USER_AGENT,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                # Without it Civitai answers 401 by a redirect to its login page.
                "Content-Type": "application/json",
            },
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._requests.close()

    @contextmanager
    def open(
        self,
        url: str,
        *,
        what: str,
        token: Token | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[OpenResponse]:
        """Follow an address to its answer, of whatever status, except a login page's.

        Raises `FetchError`, also for connections that break inside the `with` block.
        """
        broken: FetchError | None = None
        try:
            with self._last_hop(url, what=what, token=token, headers=headers or {}) as answer:
                yield answer
        except httpx.TransportError as error:
            broken = _broken(what, error)
        except HostError as error:
            broken = FetchError(f"{what}: {error}", code=error.code)
        if broken is not None:  # the library's error would drag the request along
            raise broken from None

    def get_json(self, url: str, *, what: str, token: Token | None = None) -> dict[str, Any]:
        """A JSON object of at most 16 MiB, after retries; `FetchError` otherwise."""
        return self.patiently(lambda: self._get_json(url, what, token))

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Call again, after a pause, while it raises errors that time or a new address may heal."""
        return patiently(attempt, max_tries=self._max_tries, sleep=self._sleep)

    def _get_json(self, url: str, what: str, token: Token | None) -> dict[str, Any]:
        with self.open(url, what=what, token=token) as answer:
            error = interpret_response(answer.seen)
            if error is not None:
                raise error
            body = b""
            for chunk in answer.chunks:
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise FetchError(f"{what}: the answer is too large", code="too-large")
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise FetchError(
                f"{what}: {answer.seen.host} sends no JSON object: try again later", code="refused"
            )
        return data

    @contextmanager
    def _last_hop(
        self, url: str, *, what: str, token: Token | None, headers: Mapping[str, str]
    ) -> Iterator[OpenResponse]:
        at = _parsed(url, what)
        first = _origin(at, what)
        for _ in range(MAX_HOPS + 1):
            host, port = origin = _origin(at, what)
            rule = self.allow.rule(host, port)
            # A token that was dropped once does not come back, wherever the chain leads.
            token_now = token if origin == first and rule.gets_token else None
            token = token_now
            sent = dict(headers)
            if token_now is not None:
                sent["Authorization"] = f"Bearer {token_now.value}"
            request = self._requests.build_request("GET", at, headers=sent)
            with closing(self._transport.handle_request(request)) as response:
                location = response.headers.get("location")
                if response.status_code in _REDIRECTS and location:
                    at = _parsed(location, what, base=at)
                    asked = judge_redirect(what, str(at), had_token=token_now is not None)
                    if asked is not None:
                        raise asked
                    continue
                yield _answer(
                    response,
                    what=what,
                    host=host,
                    on_storage=origin != first,
                    sent_token="authorization" in request.headers,
                    had_token=token_now is not None,
                )
                return
        raise FetchError(
            f"{what}: more than {MAX_HOPS} redirects: check the address", code="refused"
        )


def _parsed(text: str, what: str, *, base: httpx.URL | None = None) -> httpx.URL:
    """An address, by the one parser that also opens the connection."""
    try:
        return httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError):
        raise FetchError(
            f"{what}: leads to something that is no address: check the source", code="blocked-host"
        ) from None


def _origin(at: httpx.URL, what: str) -> tuple[str, int]:
    """Host and port of an https address; `FetchError` for every other scheme."""
    if at.scheme != "https" or not at.host or at.userinfo:
        raise FetchError(
            f"{what}: leads to a {at.scheme or 'strange'} address on {at.host!r}: only plain https "
            "addresses are fetched",
            code="blocked-host",
        )
    return at.raw_host.decode("ascii").lower(), at.port or HTTPS_PORT


def _answer(
    response: httpx.Response,
    *,
    what: str,
    host: str,
    on_storage: bool,
    sent_token: bool,
    had_token: bool,
) -> OpenResponse:
    chunks = response.iter_raw()
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= START_BYTES:
            break
    seen = Response(
        what,
        response.status_code,
        host,
        {key.lower(): value for key, value in response.headers.items()},
        start,
        on_storage,
        sent_token=sent_token,
        had_token=had_token,
    )
    return OpenResponse(seen, _joined(start, chunks))


def _joined(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield start
    yield from rest


def _broken(what: str, error: httpx.TransportError) -> FetchError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchError(
                f"{what}: the certificate is not trusted ({cause.verify_message}): somebody may be "
                "listening in; check the network",
                code="unreachable",
            )
        cause = cause.__cause__ or cause.__context__
    return FetchError(
        f"{what}: the connection fails ({redact_text(str(error))}): check the network and run the "
        "same command again; what was fetched is kept",
        code="unreachable",
        remedy="back-off",
    )
