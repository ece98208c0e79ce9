"""The manifest: what is evaluated, with which settings; pydantic validates its untrusted text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
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

from plugins_manifest.schema.numbers import (
    CaseCount,
    ClipSkip,
    GuidanceScale,
    Number,
    Seed,
    Seeds,
    Steps,
    Strength,
    Whole,
)
from plugins_manifest.schema.plugins import (
    Id,
    KnownNames,
    PluginSpec,
    Section,
    StackSpec,
    check_name,
    check_sampler,
    problems_between,
)
from plugins_manifest.schema.words import (
    MAX_ENTRIES,
    MAX_PROMPTS,
    MAX_SIDE_PX,
    DeltaGuidance,
    DeltaRoute,
    DeltaSchedule,
    DTypeName,
    PresetName,
    PromptSyntax,
    Stage1Mode,
)

__all__ = [
    "CASE_SOURCES",
    "AdapterSpec",
    "CocoCases",
    "FileCases",
    "InlineCase",
    "KnownNames",
    "Manifest",
    "MethodSpec",
    "Mode",
    "PluginSpec",
    "PocketCases",
    "Settings",
    "StackSpec",
    "json_schema",
    "t0_problems",
]

SIZE_STEP_PX = 8
MAX_ADAPTERS = 20
Mode = Literal["honest", "paper"]
# keys that are omitted at their default, so that older manifests keep their fingerprint
_QUIET = {"side": "base", "alone": True, "polarity": "positive", "allow_partial": False}


class MethodSpec(Section):
    """One method with the values of its settings; every combination is rendered.

    `strength`, `route`, `schedule` and `difference` are those of method `delta`.
    """

    name: str
    t0: tuple[Number, ...] | None = Field(default=None, max_length=MAX_ENTRIES)
    plugin_scale: tuple[Strength, ...] = Field(default=(1.0,), max_length=MAX_ENTRIES)
    adapter_scale: tuple[Strength, ...] | None = Field(default=None, max_length=MAX_ENTRIES)
    strength: tuple[Strength, ...] | None = Field(default=None, max_length=MAX_ENTRIES)
    route: tuple[DeltaRoute, ...] | None = Field(default=None, min_length=1)
    schedule: tuple[DeltaSchedule, ...] | None = Field(default=None, min_length=1)
    difference: tuple[DeltaGuidance, ...] | None = Field(default=None, min_length=1)

    @field_validator("name")
    @classmethod
    def _check_method(cls, value: str, info: ValidationInfo) -> str:
        return check_name("method", value, info)

    @field_validator("t0")
    @classmethod
    def _check_t0(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        problems = t0_problems(values or ())
        if problems:
            raise ValueError("; ".join(problems))
        return values

    @field_validator("plugin_scale", "adapter_scale", "strength")
    @classmethod
    def _check_scales(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and not values:
            raise ValueError("scales must be a list of at least one number")
        return values


class AdapterSpec(Section):
    """A mapper that the run compares; `path` is a folder or file, relative to the manifest."""

    id: Id
    path: str = Field(min_length=1)


def _check_unique(values: Sequence[object]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{value!r} is listed twice: remove one")


def t0_problems(values: tuple[float, ...]) -> list[str]:
    """Return a message for every t0 outside (0, 1]."""
    return [
        f"t0 is {value:g}: it is the share of the noise schedule that the second stage runs, "
        "so use 0 < t0 <= 1"
        for value in values
        if not 0 < value <= 1
    ]


class InlineCase(Section):
    """A case written in the manifest or a case file; paths are relative to that file.

    `image` is the picture that conditions are made from, `conditions` maps condition names to
    finished condition images, `reference` is what an ip_adapter sees (default: `image`).
    """

    prompt: str = Field(min_length=1)
    id: Id | None = None
    negative_prompt: str | None = None
    image: str | None = None
    reference: str | None = None
    conditions: dict[str, str] = Field(default_factory=dict)


class PocketCases(Section):
    """Scenes of the pocket world: the first `n` of the infinite sequence of `seed`."""

    source: Literal["pocket"]
    seed: Seed
    n: CaseCount


class CocoCases(Section):
    """Photos of COCO val2017 with a caption each; `path` is captions_val2017.json or its folder.

    Without `path` it is $XBENCH_COCO, else the user's cache that `xbench cases fetch` fills;
    photos are in val2017/ beside the captions, else in that cache. `condition_images` is a folder
    of finished condition images, CONDITION/PHOTO.png (or the case's id), one for every case; by
    default `conditions` beside the photos, where images may be missing. `captions_sha256` is the
    required hash of the captions file.
    """

    source: Literal["coco-val2017"]
    path: str | None = None
    captions_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    condition_images: str | None = None
    n: CaseCount | None = None
    image_ids: tuple[Seed, ...] | None = Field(default=None, max_length=MAX_PROMPTS)

    @field_validator("image_ids")
    @classmethod
    def _check_image_ids(cls, values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        _check_unique(values or ())
        return values


class FileCases(Section):
    """Cases in a text, JSON, JSON lines, CSV or YAML file with the keys of inline cases.

    `condition_images` is a folder of finished condition images, CONDITION/CASE.png, one for every
    case.
    """

    source: Literal["file"]
    path: str
    condition_images: str | None = None
    n: CaseCount | None = None


CASE_SOURCES = ("pocket", "coco-val2017", "file")


def _case_source(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "inline"
    return value.get("source") if isinstance(value, dict) else getattr(value, "source", None)


CaseSpec = Annotated[
    Annotated[tuple[InlineCase, ...], Tag("inline"), Field(min_length=1, max_length=MAX_PROMPTS)]
    | Annotated[PocketCases, Tag("pocket")]
    | Annotated[CocoCases, Tag("coco-val2017")]
    | Annotated[FileCases, Tag("file")],
    Discriminator(_case_source),
]


class Settings(Section):
    """Settings of every image of the run; sizes are [width, height] in px.

    A plugin or a stack may replace those of `PluginSettings` for its own images. `clip_skip` counts
    as web UIs do: 1, the same as none, is the last layer of the base side's text encoder.
    """

    base_size: tuple[Whole, Whole] = (512, 512)
    upgraded_size: tuple[Whole, Whole] = (1024, 1024)
    steps: Steps = 50
    guidance_scale: GuidanceScale = 7.5
    negative_prompt: str = ""
    sampler: str = "dpm++"
    dtype: DTypeName = "float32"
    preset: PresetName = "sound"
    stage1_mode: Stage1Mode = "full"
    clip_skip: ClipSkip | None = None
    prompt_syntax: PromptSyntax = "plain"

    _check_sampler = field_validator("sampler")(check_sampler)

    @field_validator("base_size", "upgraded_size")
    @classmethod
    def _check_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        for side_px in size:
            if side_px > MAX_SIDE_PX:
                raise ValueError(f"{side_px} px is too large: use at most {MAX_SIDE_PX}")
            if side_px <= 0 or side_px % SIZE_STEP_PX:
                near = max(SIZE_STEP_PX, round(side_px / SIZE_STEP_PX) * SIZE_STEP_PX)
                raise ValueError(f"{side_px} px is not a multiple of {SIZE_STEP_PX}: use {near}")
        return size


class Manifest(Section):
    """Everything that one benchmark run evaluates."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Id
    mode: Mode = "honest"
    family: str
    plugins: tuple[PluginSpec, ...] = Field(min_length=1, max_length=MAX_ENTRIES)
    stacks: tuple[StackSpec, ...] = Field(default=(), max_length=MAX_ENTRIES)
    cases: CaseSpec
    seeds: Seeds = (0,)
    methods: tuple[MethodSpec, ...] = Field(min_length=1, max_length=MAX_ENTRIES)
    adapters: tuple[AdapterSpec, ...] = Field(default=(), max_length=MAX_ADAPTERS)
    metrics: tuple[str, ...] = Field(default=(), max_length=MAX_ENTRIES)
    settings: Settings = Settings()
    _path: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """The folder of relative paths: that of the manifest file."""
        return Path.cwd() if self._path is None else self._path.parent

    @property
    def path(self) -> Path | None:
        """The file that this manifest was read from."""
        return self._path

    def attach_path(self, path: Path) -> Manifest:
        """Set the file that this manifest was read from; return the manifest."""
        self._path = path
        return self

    @field_validator("family")
    @classmethod
    def _check_family(cls, value: str, info: ValidationInfo) -> str:
        return check_name("family", value, info)

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for value in values:
            check_name("metric", value, info)
        return values

    @field_validator("methods", "seeds")
    @classmethod
    def _check_names(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        _check_unique([getattr(value, "name", value) for value in values])
        return values

    @field_validator("adapters")
    @classmethod
    def _check_adapters(cls, values: tuple[AdapterSpec, ...]) -> tuple[AdapterSpec, ...]:
        _check_unique([value.id for value in values])
        return values

    @model_validator(mode="after")
    def _check_between(self) -> Manifest:
        data = self.model_dump(mode="json", include={"plugins", "stacks"})
        for place, message, _ in problems_between(data):
            raise ValueError(f"{place[0]}: {message}")
        return self

    def plugin(self, plugin_id: str) -> PluginSpec:
        """Return the plugin of this id; KeyError if it is unknown."""
        return {plugin.id: plugin for plugin in self.plugins}[plugin_id]

    def as_data(self) -> dict[str, Any]:
        """Return the manifest as plain data, with all defaults but those of `_QUIET`."""
        data = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for entry in data["plugins"]:
            for key in [key for key, default in _QUIET.items() if entry[key] == default]:
                del entry[key]
        for case in data["cases"] if isinstance(data["cases"], list) else ():
            if not case["conditions"]:
                del case["conditions"]
        for key in ("stacks", "adapters"):
            if not data[key]:
                del data[key]
        if data["mode"] == "honest":
            del data["mode"]
        if data["settings"]["prompt_syntax"] == "plain":
            del data["settings"]["prompt_syntax"]
        return data

    def fingerprint(self) -> str:
        """Return the sha256 of the manifest's content, independent of file name and layout."""
        text = json.dumps(self.as_data(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the manifest, for editors (docs/manifest.schema.json)."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, **Manifest.model_json_schema(by_alias=True)}
