"""The models of a recipe: both pipelines, their noise schedules, and the null texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.train.schema import Folders, Recipe
from plugins_manifest.content import hash_path
from runners.families import Family, family_fingerprint, load_family, load_from_folders
from runners.families.family import text_encoders
from runners.families.registry import no_sites
from runners.quiet import quiet_libraries
from xadapter.data import UpgradedText
from xadapter.errors import SettingError
from xadapter.guidance import Guidance
from xadapter.inputs import base_conditions, upgraded_conditions
from xadapter.loss import Prediction

_UNGUIDED = Guidance(1.0)


@dataclass(frozen=True)
class Models:
    """Both loaded pipelines of a recipe; `size_px` is the side of the upgraded pictures."""

    family: Family
    size_px: int

    @property
    def base_unet(self) -> Any:
        """The base UNet."""
        return self.family.base.unet

    @property
    def upgraded_unet(self) -> Any:
        """The upgraded UNet; `SettingError` for an upgraded model that has none."""
        if not hasattr(self.family.upgraded, "unet"):
            raise SettingError(str(no_sites(self.family.name)))
        return self.family.upgraded.unet

    @property
    def prediction(self) -> Prediction:
        """What the upgraded model predicts."""
        found = self.family.upgraded.scheduler.config.get("prediction_type", "epsilon")
        if found not in ("epsilon", "v_prediction"):
            raise SettingError(
                f"the upgraded model predicts {found!r}: a mapper is trained with models that "
                "predict epsilon or v"
            )
        return found

    def schedules(self) -> tuple[Tensor, Tensor | None]:
        """Return abar [T] of the upgraded model, and of the base model where it differs."""
        upgraded, base = (
            pipe.scheduler.alphas_cumprod.clone()
            for pipe in (self.family.upgraded, self.family.base)
        )
        return upgraded, None if torch.equal(upgraded, base) else base

    def base_text(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts for the base model, [b, l, d] on the CPU."""
        with text_encoders(self.family.base):
            return _kept(base_conditions(self.family.base, prompts, None, _UNGUIDED).text)

    def upgraded_text(self, prompts: Sequence[str]) -> UpgradedText:
        """Encode prompts for the upgraded model, on the CPU."""
        size = (self.size_px, self.size_px)
        with text_encoders(self.family.upgraded):
            found = upgraded_conditions(self.family.upgraded, prompts, None, _UNGUIDED, size)
        pooled, ids = found.pooled, found.time_ids
        return UpgradedText(
            _kept(found.text),
            None if pooled is None else _kept(pooled),
            None if ids is None else _kept(ids),
        )


def _kept(x: Tensor) -> Tensor:
    return x.detach().float().cpu().clone()


def load_models(recipe: Recipe, *, device: str) -> Models:
    """Load the models of a recipe, frozen, in its precision; `UserError` for what is missing."""
    quiet_libraries()  # a line for every long caption, with its text
    family, dtype = recipe.family, recipe.precision.dtype
    if isinstance(family, Folders):
        loaded = load_from_folders(
            recipe.name,
            base=Path(family.base),
            upgraded=Path(family.upgraded),
            mapper=None,
            device=device,
            dtype=dtype,
        )
    else:
        loaded = load_family(family, device=device, dtype=dtype)
    return Models(loaded, recipe.size)


def fingerprint(recipe: Recipe) -> dict[str, str]:
    """Return the sha256 of base and upgraded model."""
    family = recipe.family
    if isinstance(family, Folders):
        return {"base": hash_path(Path(family.base)), "upgraded": hash_path(Path(family.upgraded))}
    found = family_fingerprint(family)
    return {side: found[side] for side in ("base", "upgraded")}
