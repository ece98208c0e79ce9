"""Write runs as a static site: cards, a page for each plugin, badges, feed and data."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.site.addresses import Addresses
    from bench.site.build import SiteOptions, SiteSummary, build_site
    from bench.site.content import SiteContent
    from bench.site.pages import asset
    from bench.site.parts import Parts
    from bench.site.runs import SitePlugin, SiteRun

_HOMES = {
    "Addresses": "addresses",
    "Parts": "parts",
    "SiteContent": "content",
    "SiteOptions": "build",
    "SitePlugin": "runs",
    "SiteRun": "runs",
    "SiteSummary": "build",
    "asset": "pages",
    "build_site": "build",
}
__all__ = [
    "Addresses",
    "Parts",
    "SiteContent",
    "SiteOptions",
    "SitePlugin",
    "SiteRun",
    "SiteSummary",
    "asset",
    "build_site",
]
__getattr__ = lazy_names(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})
