"""HTTP for every download: one guarded client, retries, resumed downloads, errors of the Hub."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from plugins_manifest.http.client import Client as Client
    from plugins_manifest.http.download import Progress as Progress
    from plugins_manifest.http.download import Wanted as Wanted
    from plugins_manifest.http.download import fetch as fetch
    from plugins_manifest.http.hosts import AllowList as AllowList
    from plugins_manifest.http.hosts import HostRule as HostRule
    from plugins_manifest.http.hosts import PublicHosts as PublicHosts
    from plugins_manifest.http.hosts import Token as Token
    from plugins_manifest.http.hub_errors import hub_errors_explained as hub_errors_explained
    from plugins_manifest.http.ranged import Mirror as Mirror

__all__ = [
    "AllowList",
    "Client",
    "HostRule",
    "Mirror",
    "Progress",
    "PublicHosts",
    "Token",
    "Wanted",
    "fetch",
    "hub_errors_explained",
]
__getattr__ = lazy_names(
    __name__,
    {
        "AllowList": "plugins_manifest.http.hosts",
        "Client": "plugins_manifest.http.client",
        "HostRule": "plugins_manifest.http.hosts",
        "Mirror": "plugins_manifest.http.ranged",
        "Progress": "plugins_manifest.http.download",
        "PublicHosts": "plugins_manifest.http.hosts",
        "Token": "plugins_manifest.http.hosts",
        "Wanted": "plugins_manifest.http.download",
        "fetch": "plugins_manifest.http.download",
        "hub_errors_explained": "plugins_manifest.http.hub_errors",
    },
)
