"""Data of the runners: cases, settings, variants and plugins of a group, and rendered images.

Imports no torch, so that planning, storing and the command line can use it. Images are uint8 RGB
arrays [height, width, 3]; sizes are (width, height) in px.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from plugins_manifest.schema.stacks import Stages
from plugins_manifest.schema.words import (
    DTypeName,
    LoraSemantics,
    PresetName,
    PromptSyntax,
    Side,
    Stage1Mode,
)

Batch = int | Literal["auto"] | None  # images of one call; None: the device's default
PassName = Literal[
    "stage1",
    "stage1_picture",
    "bridge",
    "enlarged",
    "base_text",
    "plain_text",
    "stage2_text",
    "upgraded_text",
    "plugged_text",
    "stage2",
]


@dataclass(frozen=True)
class Sampler:
    """A scheduler of diffusers by its class; `spacing` None is that of the upgraded model.

    `most_steps` is the length of the grid that a few-step scheduler was distilled on.
    """

    scheduler: str
    spacing: Literal["trailing"] | None = None
    most_steps: int | None = None


SAMPLERS: dict[str, Sampler] = {
    "dpm++": Sampler("DPMSolverMultistepScheduler"),
    "ddim": Sampler("DDIMScheduler"),
    "euler": Sampler("EulerDiscreteScheduler"),
    "unipc": Sampler("UniPCMultistepScheduler"),
    # what LoRAs for few steps were distilled with
    "ddim-trailing": Sampler("DDIMScheduler", spacing="trailing"),
    "euler-trailing": Sampler("EulerDiscreteScheduler", spacing="trailing"),
    "lcm": Sampler("LCMScheduler", most_steps=50),
    "tcd": Sampler("TCDScheduler", most_steps=50),
}
# semantics of a LoRA that declares none
PRESET_SEMANTICS: dict[PresetName, LoraSemantics] = {
    "sound": "standard",
    "released": "xadapter-official",
}


@dataclass(frozen=True)
class RenderCase:
    """An image that every variant makes: prompts for both sides, seed, condition images.

    `conditions` holds one image per plugin id, uint8 RGB [H, W, 3] at the size of the plugin's
    side; `condition` is that of a single plugin. `reference` is an image prompt (uint8
    RGB, any size). An empty negative prompt means none; `base_negative_prompt` replaces it on the
    base side (embeddings for the negative prompt), `stage2_prompt` the base prompt in stage 2, if
    other plugins act there. `content_prompt` is the prompt without the words of any plugin, None if
    that is the upgraded prompt.
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
    content_prompt: str | None = None

    @property
    def content(self) -> str:
        """Return the prompt without the words of any plugin."""
        return self.upgraded_prompt if self.content_prompt is None else self.content_prompt

    @property
    def base_negative(self) -> str:
        """Return the base side's negative prompt."""
        own = self.base_negative_prompt
        return self.negative_prompt if own is None else own

    def condition_for(self, plugin_id: str) -> np.ndarray | None:
        """Return the condition image of a plugin, or None."""
        return self.conditions.get(plugin_id, self.condition)


def generator_seed(seed: int, case_id: str) -> int:
    """Return the seed of an image's generator: 63 bits of the sha256 of its seed and case id."""
    digest = hashlib.sha256(f"{seed}\0{case_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class RenderSettings:
    """Settings that all images of a group share; sizes are (width, height) in px.

    `sampler` is a name of `SAMPLERS`. `clip_skip` 1 is the last layer of the base side's text
    encoder, n the n-th last one.
    """

    base_size_px: tuple[int, int]
    upgraded_size_px: tuple[int, int]
    steps: int
    guidance_scale: float
    sampler: str = "dpm++"
    dtype: DTypeName = "float32"
    preset: PresetName = "sound"
    stage1_mode: Stage1Mode = "full"
    clip_skip: int = 1
    prompt_syntax: PromptSyntax = "plain"


def sampler_problem(name: str, steps: int) -> str | None:
    """Return why a sampler cannot take this many steps; None for unknown names too."""
    most = SAMPLERS[name].most_steps if name in SAMPLERS else None
    if most is None or steps <= most:
        return None
    return f"the sampler {name!r} takes at most {most} steps, not {steps}: it is for few steps"


@dataclass(frozen=True)
class Variant:
    """A way to make every image of a group; None for settings that the method does not have.

    `adapter` is the id of one of several mappers, None where there is one for all variants. A
    method without a mapper may name its own settings there (`runners.protocols.Knobs`), with None
    for the default ones, and `adapter_scale` is the strength of what it adds.
    """

    method: str
    t0: float | None = None
    plugin_scale: float = 1.0
    adapter_scale: float | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class PluginFile:
    """A plugin on disk; `kind` as in the manifest, `path` a file or a folder.

    `weight` is the manifest's; on the base side it is multiplied by the variant's plugin scale.
    `condition` names the detector that makes its condition images, `side` the model it changes.
    `lora_semantics` None means the preset's ("sound": standard); it is filled in before loading.
    With `allow_partial` a plugin that fits in part is rendered too. `token` is the word of a
    textual inversion, `reference` the image of an image prompt for cases without their own.
    `stages` are those of the base model in which it acts. `side_files` are paths outside of `path`
    that its loader reads, with their sha256 (`plugins_manifest.formats.side_files`). `sha256` is
    the source's and identifies trials; `content_sha256`, by `plugins_manifest.content.hash_path`,
    is what is loaded. `is_moved`: made for the base model, and loaded into the upgraded one.
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
    side_files: tuple[tuple[Path, str], ...] = ()
    content_sha256: str = ""
    is_moved: bool = False

    @property
    def is_scaled(self) -> bool:
        """Whether the plugin scale of a variant applies: the upgraded model's own keep theirs."""
        return self.side == "base" or self.is_moved

    @property
    def audit_name(self) -> str:
        """The name of its load audit: a moved plugin has two, one for each model."""
        return direct_name(self.plugin_id) if self.is_moved else self.plugin_id

    @property
    def planned_content(self) -> str:
        """The hash that the content must have when it is loaded; empty if none was planned."""
        return self.content_sha256 or (self.sha256 if self.path.is_file() else "")


def direct_name(plugin_id: str) -> str:
    """Return the name of the load audit of a base model's plugin in the upgraded model."""
    return f"{plugin_id} (direct)"


Stack = tuple[PluginFile, ...]


def stack_of(plugin: PluginFile | Stack | None) -> Stack:
    """Return the plugins of a group as a stack: none, one or several."""
    if plugin is None:
        return ()
    return (plugin,) if isinstance(plugin, PluginFile) else plugin


@dataclass(frozen=True)
class Rendered:
    """An image of a variant, or the reason why it is missing.

    `index` is that of the case in the group. `seconds` is its own work plus an even share of every
    pass that it shares with other trials. `effective_t0` is M / N. `batch` is the number of images
    of its calls of the models, None where those of the whole group were in one call.
    """

    variant: Variant
    index: int
    image: np.ndarray | None
    seconds: float
    peak_memory_mib: float
    effective_t0: float | None = None
    error: str | None = None
    batch: int | None = None


Marker = Literal[
    "circle",
    "square",
    "diamond",
    "cross",
    "x",
    "star",
    "pentagon",
    "hexagon",
    "octagon",
    "thin-diamond",
    "triangle-up",
    "triangle-down",
    "triangle-left",
    "triangle-right",
]


@dataclass(frozen=True)
class MethodStyle:
    """How a method appears in every table and chart.

    Methods are listed by ascending `order`; `color` is "#rrggbb". `sentence` describes
    the method in plain words; it follows the name and a colon, without a full stop.
    """

    order: int
    color: str
    marker: Marker
    sentence: str


@dataclass(frozen=True)
class MethodCost:
    """Model calls for one image, beyond those of the shared stage 1.

    `*_calls` count calls per step that the method runs: the base UNet at the base size and at the
    upgraded size (`enlarged_calls`), the upgraded UNet, the mapper. `n_encodes` and `n_decodes`
    count VAE calls at the upgraded size.

    `n_joint_steps` is the number of steps in which the base model runs, by default all; `step_*`
    and `base_step_*` count calls of the upgraded and the base VAE in each of them, at the size of
    their side.
    """

    base_calls: int = 0
    enlarged_calls: int = 0
    upgraded_calls: int = 0
    mapper_calls: int = 0
    n_encodes: int = 0
    n_decodes: int = 0
    n_joint_steps: int | None = None
    step_encodes: int = 0
    step_decodes: int = 0
    base_step_encodes: int = 0
    base_step_decodes: int = 0
