"""Redact secrets in texts: signed URLs and tokens are as good as passwords."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

_QUERY = re.compile(r"(https?://[^\s\"'<>?#]+)[?#][^\s\"'<>]*")
_USER = re.compile(r"(https?://)[^/\s\"'<>@]+@")
_SECRET = re.compile(
    r"(?i)\b((?:x-amz-[a-z-]+|token|signature|sig|access_token|api_key|key-pair-id|policy)=)"
    r"[^&\s\"'<>]+"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+")
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy")


def redact_url(url: str) -> str:
    """Return scheme, host and path, without query, fragment and password."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    rest = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}{rest}"


def redact_text(text: str) -> str:
    """Remove the queries of URLs, bearer tokens and signature parameters."""
    text = _USER.sub(r"\1...@", text)
    text = _QUERY.sub(r"\1?...", text)
    text = _SECRET.sub(r"\1...", text)
    return _BEARER.sub(r"\1...", text)


class RedactingFilter(logging.Filter):
    """Redacts records of the HTTP libraries, which log every URL with its query."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, with its secrets removed."""
        record.msg, record.args = redact_text(record.getMessage()), None
        return True


_FILTER = RedactingFilter()


def guard_logs() -> None:
    """Add the filter to the loggers of the HTTP libraries; repeated calls change nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
