"""Resolve, lock, download and verify the plugin files of a manifest."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from plugins_manifest.supply.locking import Outcome as Outcome
    from plugins_manifest.supply.locking import lock_manifest as lock_manifest
    from plugins_manifest.supply.resolve import PluginFetcher as PluginFetcher
    from plugins_manifest.supply.resolve import open_supply as open_supply
    from plugins_manifest.supply.verify import Verdict as Verdict
    from plugins_manifest.supply.verify import verify_manifest as verify_manifest

__all__ = ["Outcome", "PluginFetcher", "Verdict", "lock_manifest", "open_supply", "verify_manifest"]
__getattr__ = lazy_names(
    __name__,
    {
        "Outcome": "plugins_manifest.supply.locking",
        "PluginFetcher": "plugins_manifest.supply.resolve",
        "Verdict": "plugins_manifest.supply.verify",
        "lock_manifest": "plugins_manifest.supply.locking",
        "open_supply": "plugins_manifest.supply.resolve",
        "verify_manifest": "plugins_manifest.supply.verify",
    },
)
