"""What an answer means and what to do about it: one rule per status that Civitai and its storage
send. Statuses and texts: see the test table in tests/plugins_manifest/http/test_status.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.redact import one_line, redact_text

LONGEST_WAIT_SECONDS = 30.0
_LONGEST_WORDS = 160
_HTML = (b"<!doctype", b"<html")


@dataclass(frozen=True)
class Response:
    """An answer as far as it was looked at; `start` is the first few KiB of its body.

    `on_storage` says that a redirect to another host led here; `host` is named in messages.
    """

    what: str
    status: int
    host: str
    headers: Mapping[str, str]
    start: bytes = b""
    on_storage: bool = False
    sent_token: bool = False
    had_token: bool = False

    @property
    def is_html(self) -> bool:
        """Whether the body is a web page, whatever it claims."""
        kind = self.headers.get("content-type", "").lower()
        return "text/html" in kind or self.start.lstrip().lower().startswith(_HTML)

    @property
    def facts(self) -> dict[str, object]:
        """The JSON object of the body; empty where it is none."""
        try:
            data = json.loads(self.start)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def words(self) -> str:
        """What the server says, in one short line without control characters."""
        said = ": ".join(str(self.facts[key]) for key in ("error", "message") if key in self.facts)
        return one_line(redact_text(said), longest=_LONGEST_WORDS)


def interpret_response(seen: Response) -> FetchError | None:
    """None for an answer that holds what was asked for; otherwise the error with its remedy."""
    if seen.status in (200, 206):
        return _judge_success(seen)
    rule = _RULES.get(seen.status)
    if rule is not None:
        return rule(seen)
    if seen.status >= 500:
        return FetchError(
            f"{seen.what}: {seen.host} fails (status {seen.status}): try again later",
            code="busy",
            remedy="back-off",
            wait_seconds=retry_after(seen.headers),
        )
    return FetchError(
        f"{seen.what}: {seen.host} answers status {seen.status}{_said(seen)}: open the plugin's "
        "page in a browser to see whether it can still be downloaded",
        code="refused",
    )


def judge_redirect(what: str, location: str, *, had_token: bool) -> FetchError | None:
    """An error where a redirect leads to a page that asks for a login or for payment."""
    first_words = urlsplit(location).path.lower().strip("/").split("/")[:2]
    if "login" in first_words:
        return needs_token(what, had_token=had_token)
    if "join" in first_words or "pricing" in first_words:
        return FetchError(
            f"{what}: skipped:gated: it is in early access: wait until that ends, or buy access "
            "on the site",
            code="gated",
        )
    return None


def needs_token(what: str, *, had_token: bool) -> FetchError:
    """Civitai wants a token for every file, also for public ones."""
    if had_token:
        text = "Civitai does not accept the token: make a new one under Account > API keys"
    else:
        text = "Civitai gives files to those who are logged in: make an API key under Account"
    return FetchError(f"{what}: {text}, and set CIVITAI_TOKEN to it", code="needs-token")


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or a date), at most 30."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT_SECONDS)
    try:
        seconds = (parsedate_to_datetime(text) - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)


def _said(seen: Response) -> str:
    return f" ({seen.words!r})" if seen.words else ""


def _judge_success(seen: Response) -> FetchError | None:
    if seen.headers.get("content-encoding", "identity").lower() != "identity":
        return FetchError(
            f"{seen.what}: {seen.host} compresses what must come as it is: name another source",
            code="refused",
        )
    if seen.facts.get("error") and len(seen.start) < 1024:
        if "unauthorized" in seen.words.lower():
            return needs_token(seen.what, had_token=seen.had_token)
        return FetchError(
            f"{seen.what}: {seen.host} sends an error message instead of the file{_said(seen)}",
            code="not-a-plugin",
        )
    if not seen.is_html:
        return None
    return FetchError(
        f"{seen.what}: {seen.host} sends a web page instead of the file: set CIVITAI_TOKEN if it "
        "is a file of Civitai, otherwise check the address",
        code="not-a-plugin",
    )


def _bad_request(seen: Response) -> FetchError:
    if seen.on_storage and seen.sent_token:
        return FetchError(
            f"{seen.what}: a token reached the storage host {seen.host}: this is a bug in xbench, "
            "please report it",
            code="our-bug",
        )
    if seen.on_storage:
        return FetchError(
            f"{seen.what}: the storage host {seen.host} refuses the request{_said(seen)}: if this "
            "stays so, please report it as a bug of xbench",
            code="our-bug",
        )
    return FetchError(
        f"{seen.what}: {seen.host} does not understand the request{_said(seen)}: check model id, "
        "version and file id in the manifest",
        code="bad-request",
    )


def _unauthorized(seen: Response) -> FetchError:
    if seen.on_storage:
        return _expired(seen)
    return needs_token(seen.what, had_token=seen.had_token)


def _forbidden(seen: Response) -> FetchError:
    if seen.is_html and "cf-ray" in seen.headers:
        return FetchError(
            f"{seen.what}: the web firewall of {seen.host} refuses this machine for now: wait a "
            "few minutes, or use another network",
            code="cloudflare",
            remedy="back-off",
            wait_seconds=retry_after(seen.headers),
        )
    if seen.on_storage:
        return _expired(seen)
    deadline = seen.facts.get("deadline") or seen.facts.get("earlyAccessDeadline")
    until = f" until {str(deadline)[:40]}" if deadline else ""
    return FetchError(
        f"{seen.what}: skipped:gated: {seen.host} keeps it back{until}{_said(seen)}: wait, buy "
        "access on the site, or remove the plugin",
        code="gated",
    )


def _expired(seen: Response) -> FetchError:
    return FetchError(
        f"{seen.what}: the storage host {seen.host} refuses the signed address again and again: "
        "check this machine's clock and try later",
        code="expired",
        remedy="fresh-url",
    )


def _missing(seen: Response) -> FetchError:
    return FetchError(
        f"{seen.what}: {seen.host} has no such version or file: it may be unpublished; check the "
        "ids, or choose another version",
        code="missing",
        remedy="file-id",
    )


def _gone(seen: Response) -> FetchError:
    return FetchError(
        f"{seen.what}: gone: the model is archived and no longer to be had from {seen.host}"
        f"{_said(seen)}: give the path of a copy as the plugin's source, with the same sha256",
        code="gone",
        remedy="mirror",
    )


def _range(seen: Response) -> FetchError:
    return FetchError(
        f"{seen.what}: {seen.host} cannot go on from where the download stopped",
        code="range",
        remedy="restart",
    )


def _busy(seen: Response) -> FetchError:
    return FetchError(
        f"{seen.what}: {seen.host} gets too many requests (status 429): try again in some minutes",
        code="busy",
        remedy="back-off",
        wait_seconds=retry_after(seen.headers),
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
