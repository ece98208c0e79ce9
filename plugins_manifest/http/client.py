"""One HTTP client for every download: checked redirects, no leaked token, size caps, retries.

Redirects are followed here and not by httpx, so that each host is checked and the token is dropped
when the host changes. After civitai/cli internal/api/download.go (ours: If-Range, retries).
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import FetchError, HostError, UserError
from plugins_manifest.http.guard import Resolver, system_resolver
from plugins_manifest.http.hosts import AllowList, HostRule, PublicHosts, Token
from plugins_manifest.http.pace import Limits, Pace, limits_of_environment
from plugins_manifest.http.retry import with_retries
from plugins_manifest.http.status import Response, interpret_redirect, interpret_response
from plugins_manifest.http.transport import Transport
from plugins_manifest.redact import guard_logs, redact_text

USER_AGENT = f"xbench/{version('xbench')} (+https://arxiv.org/abs/2312.02238)"
MAX_HOPS = 10
MAX_JSON_BYTES = 16 << 20
START_BYTES = 4096
PARTIAL_CONTENT = 206
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"https": 443, "http": 80}
_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    # Without it Civitai answers 401 by a redirect to its login page.
    "Content-Type": "application/json",
}
T = TypeVar("T")


@dataclass(frozen=True)
class OpenResponse:
    """A response whose body is still being received; `chunks` begins with `response.start`."""

    response: Response
    chunks: Iterator[bytes]


class Client:
    """HTTP client; close it, or use `with`. Several threads may share one.

    With an `AllowList` it contacts only these hosts, by https, at public addresses, and ignores
    the environment. With `allow=None`, for addresses that the user or this project chose: any
    host, http too, with the proxies and certificates of the environment (HTTPS_PROXY,
    SSL_CERT_FILE). `advice` ends messages about files that cannot be downloaded; `n_connections`
    are the most at once with an `AllowList`.
    """

    def __init__(
        self,
        *,
        allow: AllowList | None,
        resolve: Resolver = system_resolver,
        ca: Path | None = None,
        advice: str = "",
        timeout_seconds: float = 30.0,
        limits: Limits | None = None,
        max_tries: int = 6,
        n_connections: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        guard_logs()
        self._allow, self._advice = allow, advice
        self._sleep, self._max_tries = sleep, max_tries
        limits = limits or limits_of_environment()
        self._limits = replace(
            limits,
            idle_seconds=timeout_seconds,
            connect_seconds=min(timeout_seconds, limits.connect_seconds),
        )
        # Not httpx.Client, which would parse redirects itself and keep cookies.
        self._transport = Transport(allow, resolve, ca=ca, n_connections=n_connections)

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
        self._transport.close()

    @contextmanager
    def open(
        self,
        url: str,
        *,
        what: str,
        token: Token | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[OpenResponse]:
        """Request an address and follow its redirects; yield the response, of whatever status.

        Raises `FetchError`, also for connections that break inside the `with` block.
        """
        broken: FetchError | None = None
        try:
            with self._last_hop(url, what=what, token=token, headers=headers or {}) as opened:
                yield opened
        except httpx.TransportError as error:
            broken = self._broken(what, error)
        except HostError as error:
            broken = FetchError(f"{what}: {error}", code=error.code)
        if broken is not None:  # httpx's exception keeps the request, and so its token
            raise broken from None

    def get(self, url: str, *, what: str, most_bytes: int, token: Token | None = None) -> bytes:
        """Return a whole body of at most `most_bytes`, with retries; `FetchError` otherwise."""

        def attempt() -> bytes:
            with self.open(url, what=what, token=token) as opened:
                if (error := interpret_response(opened.response)) is not None:
                    raise error
                return self._whole(opened, what, most_bytes)

        return self.retry(attempt)

    def get_json(self, url: str, *, what: str, token: Token | None = None) -> dict[str, Any]:
        """Return a JSON object of at most 16 MiB, with retries; `FetchError` otherwise."""
        body = self.get(url, what=what, most_bytes=MAX_JSON_BYTES, token=token)
        try:
            data = parse_json(body, name="the response")
        except UserError:
            data = None
        if not isinstance(data, dict):
            host = httpx.URL(url).host
            raise FetchError(
                f"{what}: the response of {host} is not a JSON object: try again later",
                code="refused",
            )
        return data

    def retry(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` with this client's number of tries and pauses."""
        return with_retries(attempt, max_tries=self._max_tries, sleep=self._sleep)

    def _whole(self, opened: OpenResponse, what: str, most_bytes: int) -> bytes:
        body, ends = bytearray(), time.monotonic() + self._limits.whole_seconds
        for chunk in opened.chunks:
            body += chunk
            if time.monotonic() > ends:
                raise FetchError(
                    f"{what}: the response is not complete after {self._limits.whole_seconds:g} s: "
                    f"{self._advice or 'try again later'}",
                    code="unreachable",
                )
            if len(body) > most_bytes:
                raise FetchError(
                    f"{what}: the response has more than {most_bytes >> 20} MiB, so it is not the "
                    f"expected file: {self._advice or 'nothing was kept'}",
                    code="too-large",
                )
        return bytes(body)

    @contextmanager
    def _last_hop(
        self, url: str, *, what: str, token: Token | None, headers: Mapping[str, str]
    ) -> Iterator[OpenResponse]:
        at = _parsed(url, what)
        first, login = self._origin(at, what), None
        pace = Pace(self._limits)
        for _ in range(MAX_HOPS + 1):
            host, port = origin = self._origin(at, what)
            rule = HostRule(host) if self._allow is None else self._allow.rule(host, port)
            login = rule.login if login is None else login
            # A token that was dropped once does not come back, wherever the chain leads.
            token = token if origin == first and rule.gets_token else None
            authorization = {"Authorization": f"Bearer {token.value}"} if token else _basic(at)
            given = {**_HEADERS, **headers, **authorization}
            request = httpx.Request("GET", at, headers=given)
            with closing(self._transport.send(request, pace, self._limits)) as raw:
                response = Response(
                    what,
                    raw.status_code,
                    host,
                    {key.lower(): value for key, value in raw.headers.items()},
                    on_storage=origin != first,
                    sent_token="authorization" in request.headers,
                    had_token=token is not None,
                    advice=self._advice,
                    login=login,
                )
                location = raw.headers.get("location")
                if raw.status_code in _REDIRECTS and location:
                    at = _redirected(at, location, what)
                    if (error := interpret_redirect(response, str(at))) is not None:
                        raise error
                    continue
                pace.begin_body()
                yield _opened(response, raw)
                return
        raise FetchError(
            f"{what}: more than {MAX_HOPS} redirects: check the address", code="refused"
        )

    def _origin(self, at: httpx.URL, what: str) -> tuple[str, int]:
        """Return host and port; raise `FetchError` for addresses that are never requested."""
        is_guarded = self._allow is not None
        takes_http = not is_guarded or isinstance(self._allow, PublicHosts)
        is_plain = at.scheme == "https" or (at.scheme == "http" and takes_http)
        if not is_plain or not at.host or (is_guarded and at.userinfo):
            raise FetchError(
                f"{what}: leads to a {at.scheme or 'strange'} address on {at.host!r}: only plain "
                "https addresses are fetched",
                code="blocked-host",
            )
        return at.raw_host.decode("ascii").lower(), at.port or _PORTS[at.scheme]

    def _broken(self, what: str, error: httpx.TransportError) -> FetchError:
        """Return the error for a connection that failed, by its certificate or otherwise."""
        fixes = [self._advice] if self._advice else []
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                known = ["set SSL_CERT_FILE"] if self._allow is None else []
                return FetchError(
                    f"{what}: the certificate is not trusted ({cause.verify_message}), so the "
                    "connection may be intercepted: "
                    + ", or ".join([*known, "check the network", *fixes]),
                    code="unreachable",
                )
            cause = cause.__cause__ or cause.__context__
        return FetchError(
            f"{what}: the connection fails ({redact_text(str(error)) or type(error).__name__}): "
            + ", or ".join(["check the network", *fixes])
            + "; then run the same command again, downloaded parts are kept",
            code="unreachable",
            remedy="back-off",
        )


def _basic(at: httpx.URL) -> dict[str, str]:
    """Return the header for the user name and password of an address that the user chose."""
    if not at.userinfo:
        return {}
    encoded = base64.b64encode(f"{at.username}:{at.password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}


def _parsed(text: str, what: str, *, base: httpx.URL | None = None) -> httpx.URL:
    """Parse an address with the parser that also opens the connection."""
    try:
        return httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError):
        raise FetchError(
            f"{what}: leads to an invalid address: check the source", code="blocked-host"
        ) from None


def _redirected(at: httpx.URL, location: str, what: str) -> httpx.URL:
    """Return the address after a redirect; raise `FetchError` if it gives up encryption."""
    new = _parsed(location, what, base=at)
    if at.scheme == "https" and new.scheme == "http":
        raise FetchError(
            f"{what}: {at.host} redirects to an http address on {new.host!r}, without encryption: "
            "name another source",
            code="blocked-host",
        )
    return new


def _opened(response: Response, raw: httpx.Response) -> OpenResponse:
    """Read the first bytes of a body; the chunks yield them again."""
    chunks, broken = raw.iter_raw(), None
    start = b""
    try:
        for chunk in chunks:
            start += chunk
            if len(start) >= START_BYTES:
                break
    except httpx.TransportError as error:
        if response.status != PARTIAL_CONTENT:
            raise
        broken = error  # the first bytes of a part are as good as any: the next range follows them
    return OpenResponse(replace(response, start=start), _joined(start, chunks, broken))


def _joined(
    start: bytes, rest: Iterator[bytes], broken: httpx.TransportError | None
) -> Iterator[bytes]:
    yield start
    if broken is not None:
        raise broken
    yield from rest
