"""Files at https addresses, without a site's API: pinned by their sha256 alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, urlsplit

from plugins_manifest.errors import UserError
from plugins_manifest.http import HostRule
from plugins_manifest.lock import LockedFile, LockedPlugin, Origin
from plugins_manifest.schema import PluginSpec
from plugins_manifest.sources.base import SINGLE, Session, draft_entry, fetch_url

_SECRET_KEYS = re.compile(r"(?i)x-amz-.*|.*token.*|.*signature.*|sig|api_?key|policy|key-pair-id")


@dataclass(frozen=True)
class WebFile:
    """A file at an https address."""

    scheme: ClassVar[str] = "https"
    url: str


@dataclass(frozen=True)
class WebSource:
    """The source of `https:` addresses."""

    name: str = "https"
    hosts: tuple[HostRule, ...] = (
        HostRule("huggingface.co"),
        HostRule(".huggingface.co"),
        HostRule(".hf.co"),
        HostRule("github.com"),
        HostRule(".githubusercontent.com"),
    )

    def parse(self, text: str) -> WebFile:
        """Parse an address; `UserError` for one that contains a secret."""
        parts = urlsplit(text)
        secrets = [key for key, _ in parse_qsl(parts.query) if _SECRET_KEYS.fullmatch(key)]
        if secrets or parts.username:
            named = ", ".join(secrets) or "a user name"
            raise UserError(
                f"the address on {parts.hostname} contains a secret ({named}), which does not "
                "belong in a manifest: leave it out, or download the file and give its path"
            )
        return WebFile(text)

    def pin(self, spec: PluginSpec, reference: WebFile, session: Session) -> LockedPlugin:
        """Return the entry of an address; nothing is requested."""
        file = LockedFile(name=SINGLE, url=reference.url)
        return draft_entry(spec, Origin(site=self.name), [file])

    def fetch(self, entry: LockedPlugin, session: Session) -> list[Path]:
        """Download the file."""
        return [fetch_url(entry, session)]


WEB = WebSource()
