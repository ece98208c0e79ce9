"""The recipe of a training: data, mapper, objective, optimizer, schedule, precision.

pydantic validates its untrusted text, as that of a manifest. Imports no torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from plugins_manifest.schema.manifest import t0_problems
from plugins_manifest.schema.numbers import CaseCount, Number, Seed, Seeds, Whole
from plugins_manifest.schema.plugins import Id, Section, check_name

Count = Annotated[Whole, Field(ge=1, le=10**9)]
Share = Annotated[Number, Field(ge=0, le=1)]
Decay = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(gt=0, le=10)]
SIZE_STEP_PX = 16
_DATASET = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)


class Folders(Section):
    """Two diffusers pipeline folders in place of a family; paths are relative to the recipe."""

    base: str = Field(min_length=1)
    upgraded: str = Field(min_length=1)


class PocketData(Section):
    """Scenes of the pocket world, drawn and encoded when a step first needs them."""

    source: Literal["pocket"]
    n_images: Count = 12_000


class LatentsData(Section):
    """A folder of safetensors files with images that are encoded already (docs/train.md).

    With `n_images` only the first ones; epochs and costs are then known before the files exist.
    """

    source: Literal["latents"]
    path: str = Field(min_length=1)
    n_images: Count | None = None


class RandomData(Section):
    """Random numbers of the right shapes: to measure speed and memory, not to train on."""

    source: Literal["random"]
    n_images: Count = 1_000


class PicturesData(Section):
    """What all sources of captioned pictures have in common (docs/train.md).

    `n_images` are the first ones of the source; smaller pictures than `min_side` px (default half
    of the recipe's size) are left out. Latents and texts are kept in a folder, by default beside
    the training; with `cache: false` they are encoded again whenever they are needed.
    """

    n_images: Count | None = None
    min_side: Count | None = None
    cache: bool | str = True

    @field_validator("cache", mode="before")
    @classmethod
    def _check_cache(cls, value: Any) -> Any:
        if not isinstance(value, bool | str) or value == "":
            raise ValueError("write true, false or a folder")
        return value


class FolderData(PicturesData):
    """A folder of images with NAME.txt beside them, or with a metadata.jsonl or .csv."""

    source: Literal["folder"]
    path: str = Field(min_length=1)


class ShardsData(PicturesData):
    """WebDataset: a folder of .tar files, or one of them."""

    source: Literal["webdataset"]
    path: str = Field(min_length=1)


class TableOptions(PicturesData):
    """Columns of a table, where their names are not the usual ones, and filters of its rows.

    Pictures behind links are downloaded, at most `per_host` of one host at once.
    """

    image: str | None = None
    url: str | None = None
    caption: str | None = None
    min_aesthetic: Number | None = None
    licenses: tuple[str, ...] | None = None
    per_host: Annotated[Whole, Field(ge=1, le=32)] = 4


class ParquetData(TableOptions):
    """Parquet files with image bytes, or with links as in LAION's: a folder, or one file."""

    source: Literal["parquet"]
    path: str = Field(min_length=1)


class HubData(TableOptions):
    """The parquet files of a dataset of the Hugging Face Hub, of one split."""

    source: Literal["huggingface"]
    dataset: str
    revision: str | None = None
    split: str = Field(default="train", min_length=1)

    @field_validator("dataset")
    @classmethod
    def _check_dataset(cls, value: str) -> str:
        if not _DATASET.fullmatch(value):
            raise ValueError(f"write OWNER/NAME as on its page (it is {value!r})")
        return value


DataSpec = Annotated[
    PocketData | LatentsData | RandomData | FolderData | ShardsData | ParquetData | HubData,
    Field(discriminator="source"),
]
DATA_SOURCES = (
    *("pocket", "latents", "random"),
    *("folder", "webdataset", "parquet", "huggingface"),
)


class MapperSpec(Section):
    """The architecture: a name, and the options of its class, which may be beside the name."""

    name: str = "xadapter"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        own = {key: value[key] for key in value if key not in cls.model_fields}
        options = value.get("options", {})
        if not own or not isinstance(options, dict):
            return {key: value[key] for key in value if key in cls.model_fields}
        if twice := sorted(own.keys() & options.keys()):
            raise ValueError(f"{', '.join(twice)}: write it once, beside name or in options")
        kept = {key: value[key] for key in value if key not in own}
        return {**kept, "options": {**options, **own}}

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str, info: ValidationInfo) -> str:
        return check_name("mapper", value, info)


class ObjectiveSpec(Section):
    """What is minimized; docs/train.md has the equations."""

    weighting: Literal["paper", "typical", "min-snr", "edm2"] = "typical"
    gamma: Annotated[Number, Field(gt=0, le=1e6)] = 5.0
    timesteps: tuple[Share, Share] = (0.0, 1.0)
    timesteps_share: Share = 1.0
    upgraded_text: Literal["null", "prompt"] = "null"
    null_prompt_share: Share = 0.0

    @field_validator("timesteps")
    @classmethod
    def _check_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError(f"{value[0]:g} to {value[1]:g} is empty: write the lower share first")
        return value


class OptimizerSpec(Section):
    """AdamW. `batch` are the images of a step, of all processes together.

    `micro_batch` of them, also of all processes together, are in one call of the models; the
    gradients of the others are added.
    """

    batch: Count = 16
    micro_batch: Count | None = None
    learning_rate: Rate = 1e-3
    weight_decay: Annotated[Number, Field(ge=0, le=10)] = 1e-2
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    grad_clip: Annotated[Number, Field(gt=0, le=1e6)] | None = 1.0
    ema: Decay = 0.995

    @field_validator("micro_batch")
    @classmethod
    def _check_micro_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        batch = info.data.get("batch")
        if value is not None and batch is not None and batch % value:
            raise ValueError(f"{value} does not divide the batch of {batch}: use a divisor of it")
        return value


class ScheduleSpec(Section):
    """How long, and the learning rate over it: steps or epochs, a linear warm-up, then `kind`."""

    steps: Count | None = None
    epochs: Annotated[Number, Field(gt=0, le=10_000)] | None = None
    kind: Literal["cosine", "constant"] = "cosine"
    warmup_share: Share = 0.03

    @model_validator(mode="after")
    def _check_length(self) -> ScheduleSpec:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("write either steps or epochs")
        return self


class PrecisionSpec(Section):
    """`dtype` is that of both UNets and the mapper's arithmetic; its weights stay float32."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False


class LogSpec(Section):
    """Rows of metrics.jsonl, and other loggers that get the same numbers."""

    every: Count = 50
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()


class ValidationSpec(Section):
    """Benchmark runs during the training, `every` so many steps and after the last.

    `manifest` is a name, a file, or the manifest itself, whose schema, name and family are those of
    the recipe by default. Of it `plugins`, `methods`, `t0`, `seeds` and the first `n_cases` are
    rendered each time. `score` (docs/train.md) chooses the best mapper; after `patience`
    validations in a row without a better one the training ends. `final` is what the run at the end
    has: all of the manifest, the same part of it, or no run at all.
    """

    every: Count
    manifest: str | dict[str, Any]
    plugins: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    methods: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    t0: Annotated[tuple[Number, ...], Field(min_length=1)] | None = None
    seeds: Seeds | None = None
    n_cases: CaseCount | None = None
    score: str = "function"
    patience: Count | None = None
    final: Literal["manifest", "same", "none"] = "manifest"

    @field_validator("manifest", mode="before")
    @classmethod
    def _check_manifest(cls, value: Any) -> Any:
        if not isinstance(value, str | dict) or not value:
            raise ValueError("write a shipped manifest's name, a file, or the keys of a manifest")
        return value

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> Any:
        for name in value or ():
            check_name("method", name, info)
        return value

    @field_validator("t0")
    @classmethod
    def _check_t0(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if problems := t0_problems(value or ()):
            raise ValueError("; ".join(problems))
        return value


def _family_kind(value: Any) -> str:
    return "folders" if isinstance(value, dict | Folders) else "name"


class Recipe(Section):
    """Everything that decides a trained mapper."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Id
    family: Annotated[
        Annotated[str, Tag("name")] | Annotated[Folders, Tag("folders")],
        Discriminator(_family_kind),
    ]
    size: Annotated[Whole, Field(ge=SIZE_STEP_PX, le=8192, multiple_of=SIZE_STEP_PX)]
    data: DataSpec
    schedule: ScheduleSpec
    mapper: MapperSpec = MapperSpec()
    objective: ObjectiveSpec = ObjectiveSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    precision: PrecisionSpec = PrecisionSpec()
    log: LogSpec = LogSpec()
    validation: ValidationSpec | None = None
    checkpoint_every: Count = 500
    seed: Seed = 0
    _path: Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The file that this recipe was read from."""
        return self._path

    def attach_path(self, path: Path) -> Recipe:
        """Set the file that this recipe was read from; return the recipe."""
        self._path = path
        return self

    @field_validator("family")
    @classmethod
    def _check_family(cls, value: str | Folders, info: ValidationInfo) -> str | Folders:
        return check_name("family", value, info) if isinstance(value, str) else value

    @field_validator("validation")
    @classmethod
    def _check_validation(
        cls, value: ValidationSpec | None, info: ValidationInfo
    ) -> ValidationSpec | None:
        if value is not None and isinstance(info.data.get("family"), Folders):
            raise ValueError(
                "a benchmark run renders a family by name, not two folders: leave it out, or make "
                "the folders a family (docs/extending.md)"
            )
        return value

    def as_data(self) -> dict[str, Any]:
        """Return the recipe as plain data, with all defaults."""
        return self.model_dump(mode="json", by_alias=True)
