"""Sites that plugins come from: one module each, found by entry points `xbench.sources`."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from plugins_manifest.sources.base import Session as Session
    from plugins_manifest.sources.base import Source as Source
    from plugins_manifest.sources.base import draft_entry as draft_entry
    from plugins_manifest.sources.base import fetch_url as fetch_url
    from plugins_manifest.sources.licenses import License as License

__all__ = ["License", "Session", "Source", "draft_entry", "fetch_url"]
__getattr__ = lazy_names(
    __name__,
    {
        "License": "plugins_manifest.sources.licenses",
        "Session": "plugins_manifest.sources.base",
        "Source": "plugins_manifest.sources.base",
        "draft_entry": "plugins_manifest.sources.base",
        "fetch_url": "plugins_manifest.sources.base",
    },
)
