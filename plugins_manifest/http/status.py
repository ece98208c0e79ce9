"""What a response means and what to do about it: one rule per HTTP status.

The statuses and messages are those that Civitai and its storage hosts send; the table of tests is
tests/plugins_manifest/http/test_status.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.outputs import one_line
from plugins_manifest.redact import redact_text

LONGEST_WAIT_SECONDS = 30.0
_LONGEST_MESSAGE = 160
_HTML = (b"<!doctype", b"<html")


@dataclass(frozen=True)
class Response:
    """Status, headers and the first few KiB of a response, and how the request was made.

    `on_storage`: a redirect led to another host. `advice` is what to do if this address does not
    have the file, `login` how to get a token for it; both may be empty.
    """

    what: str
    status: int
    host: str
    headers: Mapping[str, str]
    start: bytes = b""
    on_storage: bool = False
    sent_token: bool = False
    had_token: bool = False
    advice: str = ""
    login: str = ""

    @property
    def is_html(self) -> bool:
        """Whether the body is a web page, by its type or its first bytes."""
        kind = self.headers.get("content-type", "").lower()
        return "text/html" in kind or self.start.lstrip().lower().startswith(_HTML)

    @property
    def body_json(self) -> dict[str, object]:
        """The JSON object of the body; empty for any other body."""
        try:
            data = parse_json(self.start, name="the response")
        except UserError:
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def message(self) -> str:
        """The server's own error message, redacted, on one short line."""
        data = self.body_json
        text = ": ".join(str(data[key]) for key in ("error", "message") if key in data)
        return one_line(redact_text(text), longest=_LONGEST_MESSAGE)

    @property
    def quoted_message(self) -> str:
        """The server's message in parentheses; empty without one."""
        return f" ({self.message!r})" if self.message else ""


def interpret_response(response: Response) -> FetchError | None:
    """Return None for a response with the requested content, otherwise the error."""
    if response.status in (200, 206):
        return _success(response)
    rule = _RULES.get(response.status)
    if rule is not None:
        return rule(response)
    if response.status >= 500:
        return FetchError(
            f"{response.what}: {response.host} fails (status {response.status}): try again later"
            + _or(response.advice),
            code="busy",
            remedy="back-off",
            wait_seconds=retry_after(response.headers),
        )
    fix = response.advice or "open its page in a browser to see whether it is still available"
    return FetchError(
        f"{response.what}: {response.host} responds with status {response.status}"
        f"{response.quoted_message}: {fix}",
        code="refused",
    )


def interpret_redirect(response: Response, location: str) -> FetchError | None:
    """Return an error if a redirect leads to a page for login or payment."""
    first_words = urlsplit(location).path.lower().strip("/").split("/")[:2]
    if "login" in first_words:
        return _needs_token(response)
    if "join" in first_words or "pricing" in first_words:
        return FetchError(
            f"{response.what}: skipped:gated: it is in early access: wait until that ends, or buy "
            "access on the site",
            code="gated",
        )
    return None


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header (a number or a date), at most 30."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT_SECONDS)
    try:
        seconds = (parsedate_to_datetime(text) - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _or(advice: str) -> str:
    return f", or {advice}" if advice else ""


def _needs_token(response: Response) -> FetchError:
    if response.had_token:
        problem = f"{response.host} does not accept the token"
    else:
        problem = f"{response.host} provides files only to logged-in users"
    fix = response.login or response.advice or "download the file yourself and give its path"
    return FetchError(f"{response.what}: {problem}: {fix}", code="needs-token")


def _success(response: Response) -> FetchError | None:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return FetchError(
            f"{response.what}: {response.host} compresses the file although the request forbids "
            f"it: {response.advice or 'name another source'}",
            code="refused",
        )
    if response.body_json.get("error") and len(response.start) < 1024:
        if "unauthorized" in response.message.lower():
            return _needs_token(response)
        return FetchError(
            f"{response.what}: {response.host} sends an error message instead of the file"
            f"{response.quoted_message}",
            code="not-a-plugin",
        )
    if not response.is_html:
        return None
    fix = response.login or response.advice or "check the address"
    return FetchError(
        f"{response.what}: {response.host} sends a web page instead of the file: {fix}",
        code="not-a-plugin",
    )


def _bad_request(response: Response) -> FetchError:
    if response.on_storage and response.sent_token:
        return FetchError(
            f"{response.what}: a token reached the storage host {response.host}: this is a bug in "
            "xbench, please report it",
            code="our-bug",
        )
    if response.on_storage:
        return FetchError(
            f"{response.what}: the storage host {response.host} rejects the request"
            f"{response.quoted_message}: if this persists, please report it as a bug of xbench",
            code="our-bug",
        )
    fix = response.advice or "check model id, version and file id in the manifest"
    return FetchError(
        f"{response.what}: {response.host} rejects the request as malformed"
        f"{response.quoted_message}: {fix}",
        code="bad-request",
    )


def _unauthorized(response: Response) -> FetchError:
    return _expired(response) if response.on_storage else _needs_token(response)


def _forbidden(response: Response) -> FetchError:
    if response.is_html and "cf-ray" in response.headers:
        return FetchError(
            f"{response.what}: the web firewall of {response.host} blocks this machine for now: "
            "wait a few minutes, or use another network",
            code="cloudflare",
            remedy="back-off",
            wait_seconds=retry_after(response.headers),
        )
    if response.on_storage:
        return _expired(response)
    data = response.body_json
    deadline = data.get("deadline") or data.get("earlyAccessDeadline")
    until = f" until {str(deadline)[:40]}" if deadline else ""
    fix = response.advice or "wait, buy access on the site, or remove the plugin"
    return FetchError(
        f"{response.what}: skipped:gated: {response.host} withholds it{until}"
        f"{response.quoted_message}: {fix}",
        code="gated",
    )


def _expired(response: Response) -> FetchError:
    return FetchError(
        f"{response.what}: the storage host {response.host} rejects the signed address repeatedly: "
        "check this machine's clock and try later",
        code="expired",
        remedy="fresh-url",
    )


def _missing(response: Response) -> FetchError:
    fix = response.advice or ("it may be unpublished; check the ids, or choose another version")
    return FetchError(
        f"{response.what}: {response.host} has no such version or file (status 404): {fix}",
        code="missing",
        remedy="file-id",
    )


def _gone(response: Response) -> FetchError:
    fix = response.advice or "give the path of a copy as the plugin's source, with the same sha256"
    return FetchError(
        f"{response.what}: gone: it is archived and no longer available from {response.host}"
        f"{response.quoted_message}: {fix}",
        code="gone",
        remedy="mirror",
    )


def _range(response: Response) -> FetchError:
    return FetchError(
        f"{response.what}: {response.host} cannot resume the download",
        code="range",
        remedy="restart",
    )


def _busy(response: Response) -> FetchError:
    return FetchError(
        f"{response.what}: {response.host} gets too many requests (status 429): try again in some "
        "minutes" + _or(response.advice),
        code="busy",
        remedy="back-off",
        wait_seconds=retry_after(response.headers),
    )


_RULES = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _missing,
    410: _gone,
    416: _range,
    429: _busy,
    451: _forbidden,
}
