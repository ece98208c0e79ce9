"""The families `pocket-near` and `pocket-far`: the pocket base, and fine-tunes of it.

Both sides have one layout, so a plugin of the base loads into the fine-tune as it is. The
fine-tunes: `pocket.finetunes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from plugins_manifest.errors import UserError
from runners.families.pocket import PocketFamily, as_user_error, pocket_table
from runners.families.registry import MapperProblem, no_mapper_between
from runners.families.traits import DiffusersParts, FamilyCost, Side

if TYPE_CHECKING:
    from plugins_manifest.formats import ModuleTable
    from runners.families.family import Family

_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {"base_size": (64, 64), "upgraded_size": (64, 64), "steps": 25, "guidance_scale": 3.0}
)
_OF_PAIR = PocketFamily().cost
_COST = replace(
    _OF_PAIR,
    upgraded_unet=_OF_PAIR.base_unet,
    encode=_OF_PAIR.decode_base,
    decode=_OF_PAIR.decode_base,
)


@dataclass(frozen=True)
class PocketFinetune(PocketFamily):
    """The pocket base as the base side, and the fine-tune `part` of it as the upgraded one."""

    part: str = "base-near"
    one_layout: bool = True
    enlarges_conditions: bool = False
    cost: FamilyCost = _COST
    default_settings: Mapping[str, Any] = field(default_factory=lambda: _SETTINGS)

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return the hashes of the base and of the fine-tune's own tensors; there is no mapper."""
        from pocket.weights import part_path, part_sha256

        if adapter is not None:
            raise UserError(f"--adapter: {no_mapper_between(self.name)}")
        with as_user_error():
            parts = {"base": "base", "upgraded": self.part}
            for name in parts.values():
                part_path(name)  # compares the files with the recorded hash
            return {side: part_sha256(name) for side, name in parts.items()}

    def mapper_problem(self, adapter: Path | None) -> MapperProblem:
        """Return that there is no mapper between models of one layout."""
        return no_mapper_between(self.name)

    def mapper_channels(self) -> None:
        """Return None: there is no mapper."""

    def module_table(self, side: Side) -> ModuleTable | None:
        """Return the parameters of the base: those of the fine-tune have the same names."""
        with as_user_error():
            return pocket_table("base")

    def diffusers_parts(self, adapter: Path | None) -> DiffusersParts | None:
        """Return None: the fine-tune is not a folder that diffusers loads."""
        return None

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load the base twice, once with the tensors of the fine-tune."""
        from pocket.weights import part_path
        from runners.families.family import load_from_folders

        with as_user_error():
            base, changes = part_path("base"), part_path(self.part)
        return load_from_folders(
            self.name,
            base=base,
            upgraded=base,
            upgraded_changes=changes,
            mapper=None,
            device=device,
            dtype=dtype,
            one_layout=True,
        )


POCKET_NEAR = PocketFinetune(name="pocket-near")
POCKET_FAR = PocketFinetune(name="pocket-far", part="base-far")
