"""Write runs as a static site: cards, a page for each plugin, badges, feed and data."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.site.build import SiteOptions, SiteSummary, build_site

__all__ = ["SiteOptions", "SiteSummary", "build_site"]
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, f"{__name__}.build"))
