"""Lock files: pinned versions and hashes of plugins."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from plugins_manifest.lock.file_facts import fingerprint as fingerprint
    from plugins_manifest.lock.file_facts import weights_of as weights_of
    from plugins_manifest.lock.lock import Lock as Lock
    from plugins_manifest.lock.lock import LockedFile as LockedFile
    from plugins_manifest.lock.lock import LockedPlugin as LockedPlugin
    from plugins_manifest.lock.lock import Origin as Origin
    from plugins_manifest.lock.lock import lock_path as lock_path
    from plugins_manifest.lock.lock import read_lock as read_lock
    from plugins_manifest.lock.lock import write_lock as write_lock

__all__ = [
    "Lock",
    "LockedFile",
    "LockedPlugin",
    "Origin",
    "fingerprint",
    "lock_path",
    "read_lock",
    "weights_of",
    "write_lock",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Lock": "plugins_manifest.lock.lock",
        "LockedFile": "plugins_manifest.lock.lock",
        "LockedPlugin": "plugins_manifest.lock.lock",
        "Origin": "plugins_manifest.lock.lock",
        "fingerprint": "plugins_manifest.lock.file_facts",
        "lock_path": "plugins_manifest.lock.lock",
        "read_lock": "plugins_manifest.lock.lock",
        "weights_of": "plugins_manifest.lock.file_facts",
        "write_lock": "plugins_manifest.lock.lock",
    },
)
