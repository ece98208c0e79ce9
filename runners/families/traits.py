"""What a family may declare about its prompts, metrics, conditions and costs, with the defaults."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plugins_manifest.formats import ModuleTable

CLIP_TOKENS = 75  # of 77: start and end take one each
_CLIP_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
Side = Literal["base", "upgraded"]
Channels = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class PaperMetrics:
    """Metrics for the columns of tables 1 and 2 of X-Adapter, arXiv 2312.02238v3.

    The paper has no formula for the reconstruction of canny edges; edge IoU is ours.
    """

    fid: str = "fid"
    clip: str = "clip-score"
    style: str = "style-clip-i-paper"
    edges: str = "edge-iou"


@dataclass(frozen=True)
class FamilyDetector:
    """A detector that the family's ControlNets were trained with.

    `find` maps uint8 RGB to a condition image (uint8 RGB); `words` describe it in a recipe.
    """

    words: str
    find: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FamilyCost:
    """Cost of one call of each model for one image, at two image sizes.

    Every pair holds the costs at the two side lengths in `base_px` (models of the base side) or
    `upgraded_px`. The unit is 10^12 operations, or seconds on one CPU core. Guidance is not
    included: it doubles the calls of UNets and mapper.
    """

    unit: Literal["tera-operations", "seconds"]
    base_px: tuple[int, int]
    upgraded_px: tuple[int, int]
    base_unet: tuple[float, float]
    upgraded_unet: tuple[float, float]
    mapper: tuple[float, float]
    decode_base: tuple[float, float]
    encode: tuple[float, float]
    decode: tuple[float, float]


@dataclass(frozen=True)
class FamilyMemory:
    """Numbers of parameters, and the bytes of tensors beside them in half precision.

    `denoisers` are both UNets and one `mapper`, which every further adapter adds. The pairs are at
    the side lengths `upgraded_px`: `step_bytes` of a guided step of stage 2 with a ControlNet, for
    one image; `picture_bytes` of decoding or encoding one image, whichever takes more.
    """

    base_unet: int
    denoisers: int
    vaes: int
    text_encoders: int
    upgraded_px: tuple[int, int]
    step_bytes: tuple[float, float]
    picture_bytes: tuple[float, float]
    mapper: int = 0


@dataclass(frozen=True)
class DiffusersModel:
    """What diffusers' `from_pretrained` takes: a repository or folder, its revision and variant.

    `pipeline` is the class of a pipeline, `file` a file of the repository that is not one.
    """

    source: str
    revision: str | None = None
    variant: str | None = None
    pipeline: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class DiffusersParts:
    """The models of a family, for code that loads them without this project."""

    base: DiffusersModel
    upgraded: DiffusersModel
    upgraded_vae: DiffusersModel | None = None
    mapper: DiffusersModel | None = None


def clip_prompt_problem(prompt: str) -> str | None:
    """Return a message if a prompt surely has more tokens than CLIP reads; each piece takes one."""
    n_pieces = len(_CLIP_PIECES.findall(prompt))
    if n_pieces <= CLIP_TOKENS:
        return None
    text = prompt if len(prompt) <= 60 else prompt[:57] + "..."
    return (
        f"the prompt {text!r} has at least {n_pieces} tokens, the models read {CLIP_TOKENS}: "
        "shorten it"
    )


@dataclass(frozen=True)
class FamilyTraits:
    """Optional attributes of a `FamilySource`, by the same names, with their defaults.

    `prompt_separator` joins a prompt and the words of plugins; `prompt_problem` returns what is
    wrong with a prompt. `detectors` returns the detectors that replace those of
    `metrics.condition.detectors`, by condition. With `enlarges_conditions` the upgraded side gets
    the base side's condition images, enlarged. `mapper_channels` returns the (in, out) channels
    that a mapper must have, where they are known before the models load. `cost` None: a run's time
    is not estimated; `memory` None: nor is its memory. `module_table` returns the parameters of a
    side's UNet and text encoders, with which plugins are compared before the models load; None
    where they are not known.
    `diffusers_parts` returns the models for code that makes an image again elsewhere.
    `default_settings` replaces defaults of a manifest's `settings`, by their keys. With
    `one_layout` both sides are one architecture: there is no mapper between them, the upgraded
    model reads `clip_skip` too, and, at equal sizes, both start from the same noise. Without
    `takes_mapper` the upgraded model has no sites of a mapper: it is no UNet.
    """

    prompt_separator: str = ", "
    prompt_problem: Callable[[str], str | None] = clip_prompt_problem
    paper_metrics: PaperMetrics = PaperMetrics()
    detectors: Callable[[], Mapping[str, FamilyDetector]] = dict
    enlarges_conditions: bool = False
    mapper_channels: Callable[[], Channels | None] = lambda: None
    cost: FamilyCost | None = None
    memory: FamilyMemory | None = None
    module_table: Callable[[Side], ModuleTable | None] = lambda side: None
    default_settings: Mapping[str, Any] = field(default_factory=dict)
    one_layout: bool = False
    takes_mapper: bool = True
    diffusers_parts: Callable[[Path | None], DiffusersParts | None] = lambda adapter: None
