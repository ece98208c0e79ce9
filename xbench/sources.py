"""What a site that plugins come from is made of, for group `xbench.sources`."""

from plugins_manifest.http import HostRule, Token
from plugins_manifest.lock import LockedFile, LockedPlugin, Origin
from plugins_manifest.schema.references import Reference
from plugins_manifest.sources import License, Session, Source, draft_entry, fetch_url

__all__ = [
    "HostRule",
    "License",
    "LockedFile",
    "LockedPlugin",
    "Origin",
    "Reference",
    "Session",
    "Source",
    "Token",
    "draft_entry",
    "fetch_url",
]
