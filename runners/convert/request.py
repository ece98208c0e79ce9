"""What is converted, and how. Imports no torch, so that all that is wrong is found at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plugins_manifest.schema.words import ConversionWay, TeacherName
from runners.base import PluginFile, RenderSettings, Variant

WORK_PREFIXES = ("teacher-", "lora-", "floor-")  # of the folders in a conversion's `work`


@dataclass(frozen=True)
class Prompt:
    """A prompt without and with the plugin's words."""

    content: str
    plugged: str


@dataclass(frozen=True)
class Teacher:
    """The method that draws with the old plugin on the upgraded model."""

    method: TeacherName = "delta"
    t0: float = 0.9

    @property
    def variant(self) -> Variant:
        """The method's variant, with its default settings."""
        scale = 1.0 if self.method == "xadapter" else None
        return Variant(self.method, t0=self.t0, adapter_scale=scale)


@dataclass(frozen=True)
class FitPlan:
    """The settings of a distillation; `learning_rate` None: by the size of the UNet.

    `batch` is the number of pictures of a step. `seed` is that of the pictures too.
    """

    steps: int = 300
    rank: int = 16
    batch: int = 8
    learning_rate: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Conversion:
    """What is converted, and how; `family_sha256` are the hashes of the family's parts.

    `prompts` are needed by all ways but `copy` and `prolora`. `work` keeps pictures and
    checkpoints: the same conversion goes on from there.
    """

    plugin: PluginFile
    way: ConversionWay
    prompts: Sequence[Prompt]
    trigger: str | None
    settings: RenderSettings
    family_sha256: Mapping[str, str]
    work: Path
    teacher: Teacher = field(default_factory=Teacher)
    plan: FitPlan = field(default_factory=FitPlan)


def no_unet(family: str) -> str:
    """Return why a family whose models are not both UNets takes no conversion."""
    return (
        f"a model of the family {family!r} is not a UNet, and convert makes LoRAs for UNets alone: "
        "run the plugin through the method delta or sdedit of xbench run"
    )
