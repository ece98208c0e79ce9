"""Families that live on the Hugging Face Hub, at pinned revisions.

Downloads go through diffusers and honor HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plugins_manifest.errors import UserError
from runners.fingerprint import hash_path

if TYPE_CHECKING:
    from runners.families import Family


@dataclass(frozen=True)
class HubModel:
    """A repository at one commit."""

    repository: str
    revision: str

    @property
    def sha256(self) -> str:
        """Hash of the pin; the commit fixes the weights."""
        return hashlib.sha256(f"{self.repository}@{self.revision}".encode()).hexdigest()


@dataclass(frozen=True)
class HubFamily:
    """A base and an upgraded repository; the mapper is a file that the user has."""

    name: str
    base: HubModel
    upgraded: HubModel
    mapper_hint: str

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Hashes of the two pins, and of the mapper file where one is given."""
        parts = {"base": self.base.sha256, "upgraded": self.upgraded.sha256}
        if adapter is not None:
            parts["mapper"] = hash_path(adapter)
        return parts

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load (and download, unless cached) both pipelines.

        Raises `UserError`, naming repository, revision and what to set, where one cannot be had.
        """
        from runners.families import load_from_hub

        if adapter is not None and not adapter.exists():
            raise UserError(f"there is no mapper at {str(adapter)!r}: {self.mapper_hint}")
        return load_from_hub(
            self.name,
            base=self.base,
            upgraded=self.upgraded,
            mapper=adapter,
            device=device,
            dtype=dtype,
        )


SD15_SDXL = HubFamily(
    name="sd15-sdxl",
    base=HubModel(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    ),
    upgraded=HubModel(
        "stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"
    ),
    mapper_hint=(
        "fetch X_Adapter_v1.bin from the Hub repository Lingmin-Ran/X-Adapter and pass "
        "--adapter PATH"
    ),
)
