"""`convert`: a native LoRA for the upgraded model from one that was made for the base model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from plugins_manifest.content import hash_path
from plugins_manifest.errors import UserError
from pocket.train_lora import kohya_metadata, write_lora
from runners.audit import Audit
from runners.base import PluginFile, RenderSettings, Variant
from runners.convert.calibration import Side
from runners.convert.closed_form import Carried, ClosedForm, align, project, rotate, updates_of
from runners.convert.distill import FitPlan, distill
from runners.convert.low_rank import kohya_file, update_ranks
from runners.convert.pictures import Prompt, draw_pictures, encoded
from runners.convert.text import read_captions
from runners.families import Family
from runners.families.family import Pipeline
from runners.plugins import load_plugin
from runners.plugins.network_file import read_tensors
from runners.plugins.weights import WeightPlugin

Way = Literal["distill"] | ClosedForm
TeacherName = Literal["delta", "xadapter"]
N_CALIBRATION = 32  # pictures on which both models are compared
_SD2_WIDTH = 1024  # of its text encoder
_PREFIX = "xbench."


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
class Conversion:
    """What is converted, and how; `family_sha256` are the hashes of the family's parts.

    `prompts` are needed by all ways but `copy` and `prolora`. `work` keeps pictures and
    checkpoints: the same conversion goes on from there.
    """

    plugin: PluginFile
    way: Way
    prompts: Sequence[Prompt]
    trigger: str | None
    settings: RenderSettings
    family_sha256: Mapping[str, str]
    work: Path
    teacher: Teacher = field(default_factory=Teacher)
    plan: FitPlan = field(default_factory=FitPlan)


@dataclass(frozen=True)
class Converted:
    """The written file, its load audit on the upgraded model, and what was measured on the way.

    `loss` is of a distillation, `energy_share` of a closed form: the share of the old update's
    energy in layers that have a partner.
    """

    file: Path
    audit: Audit
    loss: float | None = None
    energy_share: float | None = None


def convert(one: Conversion, family: Family, out: Path, *, has_bar: bool = False) -> Converted:
    """Make the file `out`, and audit it on the upgraded model.

    Raises `UserError` for a plugin that is not a LoRA of the base model and for a way that the two
    models do not allow.
    """
    source = _source(one, family)
    loss, share = None, None
    if one.way == "distill":
        state, loss = _distilled(one, family, has_bar=has_bar)
    elif one.way == "copy":
        state = _copied(one, family)
    else:
        found = _closed_form(one, family, updates_of(source, family))
        rank = update_ranks(found.updates, at_most=one.plan.rank)
        has_two = hasattr(family.upgraded, "text_encoder_2")
        state = kohya_file(found.updates, rank=rank, has_two_encoders=has_two)
        share = found.energy_share
    write_lora(out, state, _metadata(one, family, state, out))
    return Converted(out, audit(out, family), loss, share)


def audit(file: Path, family: Family) -> Audit:
    """Load a file into the upgraded model, and return what it took."""
    plugin = PluginFile("converted", "lora", file, side="upgraded", lora_semantics="standard")
    return load_plugin(plugin, family).audit


def _source(one: Conversion, family: Family) -> WeightPlugin:
    found = load_plugin(replace(one.plugin, lora_semantics="standard"), family)
    if not isinstance(found, WeightPlugin):
        raise UserError(f"{one.plugin.path.name} is not a LoRA: convert takes LoRAs alone")
    if one.way not in ("copy", "distill") and found.words:
        raise UserError(
            f"{one.plugin.path.name} brings embeddings, which {one.way} cannot convert: use the "
            "method distill"
        )
    return found


def _copied(one: Conversion, family: Family) -> dict[str, Tensor]:
    """Return the file's own tensors, after the upgraded model has taken every one of them."""
    moved = replace(one.plugin, side="upgraded", is_moved=True, lora_semantics="standard")
    load_plugin(moved, family)  # raises unless it takes all
    return read_tensors(one.plugin, one.plugin.path)


# --- distillation


def _distilled(
    one: Conversion, family: Family, *, has_bar: bool
) -> tuple[dict[str, Tensor], float]:
    what = f"rendering the teacher's pictures ({one.teacher.method})"
    drawn = {**_drawn_facts(one), "plugin": _sha256(one.plugin), "teacher": asdict(one.teacher)}
    images = draw_pictures(
        family,
        replace(one.plugin, lora_semantics="standard"),
        one.prompts,
        one.teacher.variant,
        one.settings,
        seed=one.plan.seed,
        folder=one.work / f"teacher-{_digest(drawn)}",
        what=what,
        has_bar=has_bar,
    )
    latents = encoded(family, images, one.settings, side="upgraded")
    captions = read_captions(
        family.upgraded,
        [prompt.plugged for prompt in one.prompts],
        size_px=one.settings.upgraded_size_px,
    )
    fitted = {**drawn, "plan": asdict(one.plan)}
    return distill(
        family.upgraded,
        latents,
        captions,
        one.plan,
        folder=one.work / f"lora-{_digest(fitted)}",
        has_bar=has_bar,
    )


# --- closed forms


def _closed_form(one: Conversion, family: Family, updates: Mapping[str, Tensor]) -> Carried:
    if one.way == "prolora":
        return project(updates, family)
    prompts = one.prompts[:N_CALIBRATION]
    texts = [prompt.content for prompt in prompts]
    images = draw_pictures(
        family,
        None,
        prompts,
        Variant("floor"),
        one.settings,
        seed=one.plan.seed,
        folder=one.work / f"floor-{_digest(_drawn_facts(one))}",
        what="rendering pictures to compare the models on",
    )
    sides = [
        Side(
            family.pipe(side),
            encoded(family, images, one.settings, side=side),
            read_captions(family.pipe(side), texts, size_px=size_px),
        )
        for side, size_px in (
            ("base", one.settings.base_size_px),
            ("upgraded", one.settings.upgraded_size_px),
        )
    ]
    carry: Callable[..., Carried] = align if one.way == "theseus" else rotate
    return carry(updates, *sides, seed=one.plan.seed)


# --- names and metadata


def _drawn_facts(one: Conversion) -> dict[str, Any]:
    """Return all that decides the pictures, beside the plugin and the teacher, as JSON data."""
    return {
        "family": dict(one.family_sha256),
        "prompts": [asdict(prompt) for prompt in one.prompts],
        "settings": asdict(one.settings),
        "seed": one.plan.seed,
    }


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _sha256(plugin: PluginFile) -> str:
    return plugin.sha256 or hash_path(plugin.path)


def _metadata(
    one: Conversion, family: Family, state: Mapping[str, Tensor], out: Path
) -> dict[str, str]:
    rank = max(
        [1, *(len(value) for key, value in state.items() if key.endswith("lora_down.weight"))]
    )
    version = _version(family.upgraded)
    about = kohya_metadata(rank=rank, name=out.stem, trigger=one.trigger, base_version=version)
    facts: dict[str, Any] = {
        "method": one.way,
        "family": family.name,
        "source_sha256": _sha256(one.plugin),
        "upgraded_sha256": one.family_sha256.get("upgraded", ""),
    }
    if one.way == "distill":
        facts |= {"teacher": one.teacher.method, "t0": one.teacher.t0, **asdict(one.plan)}
        facts |= {"pictures": len(one.prompts), "sampling_steps": one.settings.steps}
    return about | {f"{_PREFIX}{key}": str(value) for key, value in facts.items()}


def _version(pipe: Pipeline) -> str:
    """Return a base model's name as kohya's trainer records it."""
    if hasattr(pipe, "text_encoder_2"):
        return "sdxl_base_v1-0"
    if pipe.scheduler.config["prediction_type"] == "v_prediction":
        return "sd_v2_v"
    is_sd2 = pipe.unet.config["cross_attention_dim"] == _SD2_WIDTH
    return "sd_v2" if is_sd2 else "sd_v1"
