"""The family `pocket`: tiny trained models that ship with the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runners.fingerprint import hash_path

if TYPE_CHECKING:
    from runners.families import Family


@dataclass(frozen=True)
class PocketFamily:
    """Source of the family `pocket`; its parts are hash-checked by `pocket.weights`."""

    name: str = "pocket"

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Hashes of the parts base, upgraded and mapper."""
        from pocket.weights import part_sha256

        mapper = part_sha256("mapper") if adapter is None else hash_path(adapter)
        return {"base": part_sha256("base"), "upgraded": part_sha256("upgraded"), "mapper": mapper}

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load from the project's own weights, nothing is downloaded."""
        from pocket.weights import part_path
        from runners.families import load_from_folders

        return load_from_folders(
            self.name,
            base=part_path("base"),
            upgraded=part_path("upgraded"),
            mapper=part_path("mapper") if adapter is None else adapter,
            device=device,
            dtype=dtype,
        )


POCKET = PocketFamily()
