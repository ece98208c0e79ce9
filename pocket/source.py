"""The plugin source `pocket:`: parts that ship with the project, e.g. pocket:lora-outline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocket.weights import part_path, part_sha256


@dataclass(frozen=True)
class PocketSource:
    """Locates shipped parts (entry point of group `xbench.sources`)."""

    def locate(self, reference: str, *, folder: Path) -> tuple[Path, str]:
        """Return the part's checked path and its recorded sha256."""
        name = reference.partition(":")[2]
        return part_path(name), part_sha256(name)


POCKET = PocketSource()
