"""The families `pocket` and `pocket-v`: small trained models that ship with the project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from plugins_manifest.errors import UserError, unknown_name
from runners.families.registry import MapperProblem
from runners.families.traits import (
    Channels,
    DiffusersModel,
    DiffusersParts,
    FamilyCost,
    FamilyDetector,
    PaperMetrics,
    Side,
)

if TYPE_CHECKING:
    from plugins_manifest.formats import ModuleTable
    from runners.families.family import Family


# those of its training
_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {"base_size": (64, 64), "upgraded_size": (128, 128), "steps": 25, "guidance_scale": 3.0}
)
_PAPER_METRICS = PaperMetrics("pocket-fid", "pocket-clip", "pocket-style-paper")
# Fitted to the seconds of a run of the manifest `pocket` on two cores, plugins included, and
# doubled for one core.
_COST = FamilyCost(
    unit="seconds",
    base_px=(64, 128),
    upgraded_px=(64, 128),
    base_unet=(0.0025, 0.0065),
    upgraded_unet=(0.0012, 0.0045),
    mapper=(0.0006, 0.0022),
    decode_base=(0.001, 0.004),
    encode=(0.001, 0.004),
    decode=(0.0015, 0.006),
)
# As `pocket`'s, times the measured ratio of both upgraded UNets' seconds and both mappers'; its
# upgraded VAE is the base's.
_V_COST = replace(
    _COST,
    upgraded_unet=(0.0012, 0.0041),
    mapper=(0.00035, 0.0013),
    decode=_COST.decode_base,
)
# of families whose upgraded model is not that of the shipped reference features
FLOOR_PAPER_METRICS = PaperMetrics("pocket-kid-floor", "pocket-clip", "pocket-style-paper")


@dataclass(frozen=True)
class PocketFamily:
    """Source of a family of shipped models; its parts are hash-checked by `pocket.weights`.

    `upgraded` and `mapper` are names of parts; with `shares_vae` the upgraded model has the base
    model's autoencoder.
    """

    name: str = "pocket"
    upgraded: str = "upgraded"
    mapper: str = "mapper"
    pipeline: str = "StableDiffusionXLPipeline"
    shares_vae: bool = False
    prompt_separator: str = " "
    paper_metrics: PaperMetrics = _PAPER_METRICS
    enlarges_conditions: bool = True  # its upgraded plugins were trained so
    cost: FamilyCost = _COST
    default_settings: Mapping[str, Any] = field(default_factory=lambda: _SETTINGS)

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return the hashes of the parts base, upgraded and mapper."""
        from pocket.weights import folder_sha256, part_path, part_sha256

        if adapter is not None and not adapter.exists():
            raise UserError(f"there is no mapper at {str(adapter)!r}: check the path")
        with as_user_error():
            own = {"base": "base", "upgraded": self.upgraded}
            if adapter is None and self.mapper_problem(None) is None:
                own["mapper"] = self.mapper
            for name in own.values():
                part_path(name)  # compares the files with the recorded hash
            parts = {role: part_sha256(name) for role, name in own.items()}
        return parts if adapter is None else {**parts, "mapper": folder_sha256(adapter)}

    def mapper_problem(self, adapter: Path | None) -> MapperProblem | None:
        """Return None, unless the family's models were trained anew and its mapper was not yet."""
        from pocket.weights import is_recorded

        if adapter is not None or is_recorded(self.mapper):
            return None
        what = f"the family {self.name!r} has no trained mapper"
        return MapperProblem(what, f"train it: scripts/train-pocket {self.mapper}")

    def prompt_problem(self, prompt: str) -> str | None:
        """Return what is wrong with a prompt: too many words, or unknown ones."""
        from pocket.tokenizer import MAX_TOKENS, SPARE_WORDS, WORDS, unknown_words

        n_words, limit = len(prompt.split()), MAX_TOKENS - 2
        if n_words > limit:
            return f"the prompt {prompt!r} has {n_words} words, pocket reads {limit}: shorten it"
        unknown = sorted(set(unknown_words(prompt)))
        if unknown:
            return (
                f"the prompt {prompt!r}: "
                + "; ".join(unknown_name("pocket word", word, WORDS) for word in unknown)
                + f" (docs/pocket.md lists all; for your own trigger: {', '.join(SPARE_WORDS)})"
            )
        return None

    def detectors(self) -> Mapping[str, FamilyDetector]:
        """Return the detector that its canny ControlNets were trained with."""
        from pocket.conditions import CANNY_THRESHOLDS, canny

        low, high = CANNY_THRESHOLDS
        return {"canny": FamilyDetector(f"cv2 canny on RGB, {low}/{high}", canny)}

    def module_table(self, side: Side) -> ModuleTable | None:
        """Return the parameters of a side's models, from the headers of their files."""
        with as_user_error():
            return pocket_table(self.upgraded if side == "upgraded" else side)

    def mapper_channels(self) -> Channels | None:
        """Return the channels of the base UNet's taps and of the upgraded UNet's inputs."""
        from plugins_manifest.documents import read_json
        from pocket.weights import part_path

        base, upgraded = (
            read_json(part_path(part) / "unet" / "config.json")["block_out_channels"]
            for part in ("base", self.upgraded)
        )
        # SDXL's sites begin with the middle block, those of four levels after the first upsampling
        decoder = upgraded[::-1] if len(upgraded) > 3 else (upgraded[-1], *upgraded[::-1])
        return (base[2], base[1], base[0]), tuple(decoder[:3])

    def diffusers_parts(self, adapter: Path | None) -> DiffusersParts | None:
        """Return the folders of the models and the mapper; their weights are float16 files."""
        from pocket.weights import part_path

        mapper = self._mapper(adapter)
        with as_user_error():
            return DiffusersParts(
                DiffusersModel(str(part_path("base")), pipeline="StableDiffusionPipeline"),
                DiffusersModel(str(part_path(self.upgraded)), pipeline=self.pipeline),
                DiffusersModel(str(part_path("base") / "vae")) if self.shares_vae else None,
                mapper=None if mapper is None else DiffusersModel(str(mapper)),
            )

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load the weights that ship with the project; nothing is downloaded."""
        from pocket.weights import part_path
        from runners.families.family import load_from_folders

        with as_user_error():
            base, upgraded = part_path("base"), part_path(self.upgraded)
        return load_from_folders(
            self.name,
            base=base,
            upgraded=upgraded,
            upgraded_vae=base / "vae" if self.shares_vae else None,
            mapper=self._mapper(adapter),
            device=device,
            dtype=dtype,
        )

    def _mapper(self, adapter: Path | None) -> Path | None:
        from pocket.weights import part_path

        if adapter is not None or self.mapper_problem(adapter) is not None:
            return adapter
        with as_user_error():
            return part_path(self.mapper)


@cache
def pocket_table(part: str) -> ModuleTable | None:
    from plugins_manifest.formats.model_folder import folder_table
    from pocket.weights import part_path

    return folder_table(part_path(part))


@contextmanager
def as_user_error() -> Iterator[None]:
    """Convert errors of missing or changed weights, which the user can restore."""
    from pocket.weights import WeightsError

    try:
        yield
    except WeightsError as error:
        raise UserError(str(error)) from error


POCKET = PocketFamily()
POCKET_V = PocketFamily(
    "pocket-v",
    upgraded="upgraded-v",
    mapper="mapper-v",
    pipeline="StableDiffusionPipeline",
    shares_vae=True,
    paper_metrics=FLOOR_PAPER_METRICS,
    cost=_V_COST,
)
