"""The family `pocket-flow`: the pocket base, and SD3's kind of model as the upgraded one.

The upgraded model is a transformer that predicts the velocity of flow matching, so there is no
mapper to it: the family is for the methods that need none (docs/flow.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from runners.families.pocket import FLOOR_PAPER_METRICS, PocketFamily, as_user_error
from runners.families.registry import MapperProblem, no_sites
from runners.families.traits import DiffusersParts, FamilyCost, PaperMetrics

if TYPE_CHECKING:
    from runners.families.family import Family

_LATENTS = ("shift_factor", "scaling_factor")
# As `pocket`'s, times the measured ratio of both upgraded networks' seconds; no mapper runs.
_COST = replace(PocketFamily().cost, upgraded_unet=(0.0006, 0.002))


@dataclass(frozen=True)
class PocketFlow(PocketFamily):
    """The pocket base, and a flow model with the shipped upgraded model's VAE.

    The shift and the scale of the latents are the flow model's own.
    """

    name: str = "pocket-flow"
    upgraded: str = "flow"
    pipeline: str = "StableDiffusion3Pipeline"
    takes_mapper: bool = False
    paper_metrics: PaperMetrics = FLOOR_PAPER_METRICS
    cost: FamilyCost = _COST

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return the hashes of the base, and of the flow model with the VAE; there is no mapper."""
        from pocket.weights import part_path, part_sha256

        if adapter is not None:
            raise UserError(f"--adapter: {no_sites(self.name)}")
        with as_user_error():
            for name in ("base", self.upgraded, "upgraded"):
                part_path(name)  # compares the files with the recorded hash
            both = f"{part_sha256(self.upgraded)}\0{part_sha256('upgraded')}"
            upgraded = hashlib.sha256(both.encode()).hexdigest()
            return {"base": part_sha256("base"), "upgraded": upgraded}

    def mapper_problem(self, adapter: Path | None) -> MapperProblem:
        """Return that a transformer has no sites of a mapper."""
        return no_sites(self.name)

    def mapper_channels(self) -> None:
        """Return None: there is no mapper."""

    def diffusers_parts(self, adapter: Path | None) -> DiffusersParts | None:
        """Return None: the VAE's weights and its configuration are in two folders."""
        return None

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load the shipped weights, and the VAE with the flow model's shift and scale."""
        from pocket.weights import part_path
        from runners.families.family import load_from_folders

        with as_user_error():
            base, flow, vae = part_path("base"), part_path(self.upgraded), part_path("upgraded")
        own = read_json(flow / "vae" / "config.json")
        return load_from_folders(
            self.name,
            base=base,
            upgraded=flow,
            upgraded_vae=vae / "vae",
            vae_config={key: own[key] for key in _LATENTS},
            mapper=None,
            device=device,
            dtype=dtype,
        )


POCKET_FLOW = PocketFlow()
