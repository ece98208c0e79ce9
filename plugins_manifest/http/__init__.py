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
    from plugins_manifest.http.hosts import Token as Token
    from plugins_manifest.http.hub_errors import hub_errors_explained as hub_errors_explained
    from plugins_manifest.http.ranged import Mirror as Mirror

_PACKAGE = "plugins_manifest.http"
_HOMES = {
    "AllowList": f"{_PACKAGE}.hosts",
    "Client": f"{_PACKAGE}.client",
    "HostRule": f"{_PACKAGE}.hosts",
    "Mirror": f"{_PACKAGE}.ranged",
    "Progress": f"{_PACKAGE}.download",
    "Token": f"{_PACKAGE}.hosts",
    "Wanted": f"{_PACKAGE}.download",
    "fetch": f"{_PACKAGE}.download",
    "hub_errors_explained": f"{_PACKAGE}.hub_errors",
}
__all__ = [
    "AllowList",
    "Client",
    "HostRule",
    "Mirror",
    "Progress",
    "Token",
    "Wanted",
    "fetch",
    "hub_errors_explained",
]
__getattr__ = lazy_names(__name__, _HOMES)
