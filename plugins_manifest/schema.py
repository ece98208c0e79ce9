"""The manifest: what is evaluated, with which settings. Text enters here, so pydantic checks it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from plugins_manifest.errors import unknown_name

PluginKind = Literal[
    "lora", "lycoris", "controlnet", "t2i-adapter", "ip-adapter", "textual-inversion"
]
CONDITION_KINDS = ("controlnet", "t2i-adapter")
SIZE_STEP_PX = 8
Vocabulary = Literal["family", "method", "metric", "detector", "sampler"]
KnownNames = dict[Vocabulary, tuple[str, ...]]


class Section(BaseModel):
    """A part of the manifest: unknown keys are errors, values do not change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _check_name(what: Vocabulary, name: str, info: ValidationInfo) -> str:
    known: KnownNames = (info.context or {}).get("known", {})
    if what in known and name not in known[what]:
        raise ValueError(unknown_name(what, name, known[what]))
    return name


class PluginSpec(Section):
    """One plugin: where its file is, what it needs, and how strongly it is applied."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    kind: PluginKind
    source: str = Field(min_length=1)
    sha256: str | None = None
    weight: float = Field(default=1.0, allow_inf_nan=False)
    trigger: str | None = None
    condition: str | None = None
    license: str | None = None
    nsfw: bool = False
    prompts: tuple[str, ...] | None = None

    @field_validator("sha256")
    @classmethod
    def _check_sha256(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("a sha256 has 64 hexadecimal digits in lower case")
        return value

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else _check_name("detector", value, info)

    @model_validator(mode="after")
    def _check_kind(self) -> PluginSpec:
        takes_condition = self.kind in CONDITION_KINDS
        if takes_condition and self.condition is None:
            raise ValueError(f"a {self.kind} needs a condition: add e.g. 'condition: canny'")
        if not takes_condition and self.condition is not None:
            raise ValueError(f"a {self.kind} takes no condition: remove 'condition'")
        return self


class MethodSpec(Section):
    """One way to make images, with the values of its knobs; every combination is rendered."""

    name: str
    t0: tuple[float, ...] | None = None
    plugin_scale: tuple[float, ...] = (1.0,)
    adapter_scale: tuple[float, ...] | None = None

    @field_validator("name")
    @classmethod
    def _check_method(cls, value: str, info: ValidationInfo) -> str:
        return _check_name("method", value, info)

    @field_validator("t0")
    @classmethod
    def _check_t0(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        problems = t0_problems(values or ())
        if problems:
            raise ValueError("; ".join(problems))
        return values

    @field_validator("plugin_scale", "adapter_scale")
    @classmethod
    def _check_scales(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and (not values or not all(map(math.isfinite, values))):
            raise ValueError("scales must be a list of at least one finite number")
        return values


def t0_problems(values: tuple[float, ...]) -> list[str]:
    """Messages for every t0 outside (0, 1]."""
    return [
        f"t0 is {value:g}: it is the share of the noise schedule that the second stage runs, "
        "so use 0 < t0 <= 1"
        for value in values
        if not 0 < value <= 1
    ]


class InlineCase(Section):
    """A case written in the manifest or a case file."""

    prompt: str = Field(min_length=1)
    id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    negative_prompt: str | None = None
    image: str | None = None


class PocketCases(Section):
    """Scenes of the pocket world: the first `n` of the endless list named by `seed`."""

    source: Literal["pocket"]
    seed: int = Field(ge=0)
    n: int = Field(ge=1)


class CocoCases(Section):
    """Photos and captions of COCO val2017 from a folder with captions_val2017.json, val2017/."""

    source: Literal["coco-val2017"]
    path: str
    n: int | None = Field(default=None, ge=1)
    image_ids: tuple[int, ...] | None = None


class FileCases(Section):
    """Cases in a JSON, CSV or YAML file with the keys prompt, id, negative_prompt, image."""

    source: Literal["file"]
    path: str
    n: int | None = Field(default=None, ge=1)


CASE_SOURCES = ("pocket", "coco-val2017", "file")


def _case_source(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "inline"
    return value.get("source") if isinstance(value, dict) else getattr(value, "source", None)


CaseSpec = Annotated[
    Annotated[tuple[InlineCase, ...], Tag("inline"), Field(min_length=1)]
    | Annotated[PocketCases, Tag("pocket")]
    | Annotated[CocoCases, Tag("coco-val2017")]
    | Annotated[FileCases, Tag("file")],
    Discriminator(_case_source),
]


class Settings(Section):
    """Settings that every image of the run shares; sizes are [width, height] in px."""

    base_size: tuple[int, int] = (512, 512)
    upgraded_size: tuple[int, int] = (1024, 1024)
    steps: int = Field(default=50, ge=1, le=1000)
    guidance_scale: float = Field(default=7.5, ge=0, allow_inf_nan=False)
    negative_prompt: str = ""
    sampler: str = "dpm++"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    preset: Literal["sound", "released"] = "sound"
    stage1_mode: Literal["full", "truncated"] = "full"

    @field_validator("base_size", "upgraded_size")
    @classmethod
    def _check_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        for side_px in size:
            if side_px <= 0 or side_px % SIZE_STEP_PX:
                near = max(SIZE_STEP_PX, round(side_px / SIZE_STEP_PX) * SIZE_STEP_PX)
                raise ValueError(f"{side_px} px is not a multiple of {SIZE_STEP_PX}: use {near}")
        return size

    @field_validator("sampler")
    @classmethod
    def _check_sampler(cls, value: str, info: ValidationInfo) -> str:
        return _check_name("sampler", value, info)


class Manifest(Section):
    """Everything that one benchmark run evaluates."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    family: str
    plugins: tuple[PluginSpec, ...] = Field(min_length=1)
    cases: CaseSpec
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ()
    settings: Settings = Settings()
    _path: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: the manifest file's own."""
        return Path.cwd() if self._path is None else self._path.parent

    @property
    def path(self) -> Path | None:
        """The file that this manifest was read from."""
        return self._path

    def attach_path(self, path: Path) -> Manifest:
        """Remember which file this manifest was read from; returns itself."""
        self._path = path
        return self

    @field_validator("family")
    @classmethod
    def _check_family(cls, value: str, info: ValidationInfo) -> str:
        return _check_name("family", value, info)

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for value in values:
            _check_name("metric", value, info)
        return values

    @field_validator("plugins", "methods", "seeds")
    @classmethod
    def _check_unique(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = [getattr(v, "id", getattr(v, "name", v)) for v in values]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is listed twice: remove one")
        return values

    def plugin(self, plugin_id: str) -> PluginSpec:
        """The plugin of this id; KeyError if there is none."""
        return {plugin.id: plugin for plugin in self.plugins}[plugin_id]

    def as_data(self) -> dict[str, Any]:
        """The manifest as plain data, defaults written out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def fingerprint(self) -> str:
        """Sha256 of the manifest's content; independent of file name and layout."""
        text = json.dumps(self.as_data(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """JSON Schema of the manifest, for editors."""
    return Manifest.model_json_schema(by_alias=True)
