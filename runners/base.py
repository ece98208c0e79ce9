"""The runner protocol: what is asked of a group of trials, and what comes back.

Imports no torch, so that planning, storing and the command line can use it. Images are uint8 RGB
arrays [height, width, 3]; sizes are (width, height) in px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from plugins_manifest.schema.stacks import PluginArrangement, Stages

if TYPE_CHECKING:
    from plugins_manifest.schema.manifest import Settings
    from runners.families.family import Family
    from runners.session import GroupSession

DTypeName = Literal["float32", "float16", "bfloat16"]
PassName = Literal[
    "stage1", "stage1_picture", "bridge", "enlarged", "base_text", "stage2_text", "upgraded_text"
]
Side = Literal["base", "upgraded"]
LoraSemantics = Literal["standard", "xadapter-official"]
Stage1Mode = Literal["full", "truncated"]

SAMPLERS: dict[str, str] = {
    "dpm++": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}
METHODS_GROUP = "xbench.methods"
# how a LoRA without semantics of its own is read
PRESET_SEMANTICS: dict[str, LoraSemantics] = {
    "sound": "standard",
    "released": "xadapter-official",
}


@dataclass(frozen=True)
class RenderCase:
    """One image to make, by every variant: prompts for both sides, seed, condition images.

    `conditions` holds one image per plugin id, uint8 RGB [H, W, 3] at the size of the plugin's
    side; `condition` is the one of a plugin that is alone. `reference` is an image prompt (uint8
    RGB, any size). An empty negative prompt means none; `base_negative_prompt` replaces it on the
    base side (embeddings that are meant for the negative prompt), `stage2_prompt` the base prompt
    in stage 2, where other plugins act there.
    """

    case_id: str
    seed: int
    base_prompt: str
    upgraded_prompt: str
    negative_prompt: str = ""
    condition: np.ndarray | None = None
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)
    reference: np.ndarray | None = None
    base_negative_prompt: str | None = None
    stage2_prompt: str | None = None

    @property
    def base_negative(self) -> str:
        """The base side's negative prompt."""
        own = self.base_negative_prompt
        return self.negative_prompt if own is None else own

    def condition_for(self, plugin_id: str) -> np.ndarray | None:
        """The condition image of a plugin; None where there is none."""
        return self.conditions.get(plugin_id, self.condition)


@dataclass(frozen=True)
class RenderSettings:
    """Settings that all images of a group share; sizes are (width, height) in px.

    `sampler` is a name of `SAMPLERS`.
    """

    base_size_px: tuple[int, int]
    upgraded_size_px: tuple[int, int]
    steps: int
    guidance_scale: float
    sampler: str = "dpm++"
    dtype: DTypeName = "float32"
    preset: Literal["sound", "released"] = "sound"
    stage1_mode: Stage1Mode = "full"


@dataclass(frozen=True)
class Variant:
    """One way to make every image of a group; None is a knob that the method does not have."""

    method: str
    t0: float | None = None
    plugin_scale: float = 1.0
    adapter_scale: float | None = None


@dataclass(frozen=True)
class PluginFile:
    """A plugin on disk; `kind` as in the manifest, `path` a file or a folder.

    `weight` is the manifest's; on the base side it is multiplied by the variant's plugin scale.
    `condition` names the detector that makes its condition images, `side` the model it changes.
    `lora_semantics` None is the preset's ("sound": standard); loaders get a plugin with it filled
    in. `allow_partial` lets a plugin render of which not everything fits. `token` is the word that
    stands for a textual inversion, `reference` an image prompt's picture where the case has none.
    `stages` are those of the base model in which it acts.
    """

    plugin_id: str
    kind: str
    path: Path
    sha256: str = ""
    weight: float = 1.0
    condition: str | None = None
    side: Side = "base"
    lora_semantics: LoraSemantics | None = None
    allow_partial: bool = False
    trigger: str | None = None
    token: str | None = None
    reference: Path | None = None
    stages: Stages = "both"


Stack = tuple[PluginFile, ...]


def stack_of(plugin: PluginFile | Stack | None) -> Stack:
    """What a group renders, as a stack: none, one or several plugins."""
    if plugin is None:
        return ()
    return (plugin,) if isinstance(plugin, PluginFile) else plugin


@dataclass(frozen=True)
class Rendered:
    """One image of one variant, or the reason why there is none.

    `index` counts the group's cases. `seconds` is this image's share: its own work plus an even
    share of every pass that it shares with other trials. `effective_t0` is M / N.
    """

    variant: Variant
    index: int
    image: np.ndarray | None
    seconds: float
    peak_memory_mib: float
    effective_t0: float | None = None
    error: str | None = None


class Method(Protocol):
    """A way to make an image; `side` says whose size its picture has.

    `shares` names the passes of `GroupSession` that it reads, so that their seconds are split over
    the trials that use them. Two traits are optional, so that older methods stay methods:
    `cast` (default "own", see `plugins_manifest.schema.stacks`), `uses_upgraded` (default: side
    "upgraded") and `stage1_mode` (default: that of the settings).
    """

    name: str
    uses_t0: bool
    uses_plugin: bool
    uses_adapter: bool
    side: Side
    shares: tuple[PassName, ...]

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Return uint8 RGB [n cases, height, width, 3]."""
        ...


def arrangement_of(method: Method) -> PluginArrangement:
    """Which plugins a method is rendered with."""
    return getattr(method, "cast", "own")


def stage1_mode_of(method: Method, settings: RenderSettings | Settings) -> Stage1Mode:
    """The method's own way to run stage 1, else that of the settings."""
    own: Stage1Mode | None = getattr(method, "stage1_mode", None)
    return own or settings.stage1_mode


def uses_upgraded(method: Method) -> bool:
    """Whether the upgraded model's weights decide a method's pixels."""
    return bool(getattr(method, "uses_upgraded", method.side == "upgraded"))


@dataclass(frozen=True)
class MapperProblem:
    """Why a family has no mapper here, and how to get one."""

    what: str
    how: str

    def __str__(self) -> str:
        """Return both as one message."""
        return f"{self.what}: {self.how}"


class FamilySource(Protocol):
    """What an entry point of group `xbench.families` names; importing it loads no torch."""

    name: str

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Part name -> sha256 of everything of the family that decides pixels."""
        ...

    def mapper_problem(self, adapter: Path | None) -> MapperProblem | None:
        """Return why a method that needs a mapper cannot run; None if there is a mapper."""
        ...

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load both pipelines and the mapper; raise `UserError` for what is missing."""
        ...
