"""`convert`: a native LoRA for the upgraded model from one that was made for the base model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from plugins_manifest.content import hash_path
from plugins_manifest.errors import UserError
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import Side as SideName
from pocket.train_lora import kohya_metadata, write_lora
from runners.audit import Audit
from runners.base import PluginFile, Variant
from runners.convert.calibration import Side
from runners.convert.closed_form import Carried, align, project, rotate, updates_of
from runners.convert.distill import distill
from runners.convert.low_rank import kohya_file
from runners.convert.pictures import draw_pictures, encoded
from runners.convert.request import WORK_PREFIXES, Conversion, no_unet
from runners.convert.text import read_captions
from runners.families import Family
from runners.families.family import Pipeline
from runners.plugins import load_plugin
from runners.plugins.network_file import read_tensors
from runners.plugins.weights import WeightPlugin

N_CALIBRATION = 32  # pictures on which both models are compared
_SD2_WIDTH = 1024  # of its text encoder
_PREFIX = "xbench."
_TEACHER, _LORA, _FLOOR = WORK_PREFIXES


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
    if not all(hasattr(family.pipe(side), "unet") for side in ("base", "upgraded")):
        raise UserError(no_unet(family.name))
    source = _source(one, family)
    loss, share = None, None
    if one.way == "distill":
        state, loss = _distilled(one, family, has_bar=has_bar)
    elif one.way == "copy":
        state = _copied(one, family)
    else:
        found = _closed_form(one, family, updates_of(source, family))
        has_two = hasattr(family.upgraded, "text_encoder_2")
        state = kohya_file(found.updates, rank=one.plan.rank, has_two_encoders=has_two)
        share = found.energy_share
    write_lora(out, state, _metadata(one, family, state, out))
    return Converted(out, audit(out, family), loss, share)


def audit(file: Path, family: Family) -> Audit:
    """Load a file into the upgraded model, and return what it took."""
    plugin = PluginFile("converted", "lora", file, side="upgraded", lora_semantics="standard")
    with Progress("auditing the file on the upgraded model"):
        return load_plugin(plugin, family).audit


def _source(one: Conversion, family: Family) -> WeightPlugin:
    with Progress("auditing the plugin on the base model"):
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
        folder=one.work / f"{_TEACHER}{_digest(drawn)}",
        what=what,
        has_bar=has_bar,
    )
    with Progress("encoding pictures and captions"):
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
        folder=one.work / f"{_LORA}{_digest(fitted)}",
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
        folder=one.work / f"{_FLOOR}{_digest(_drawn_facts(one))}",
        what="rendering pictures to compare the models on",
    )
    sizes: tuple[tuple[SideName, tuple[int, int]], ...] = (
        ("base", one.settings.base_size_px),
        ("upgraded", one.settings.upgraded_size_px),
    )
    sides = [
        Side(
            family.pipe(side),
            encoded(family, images, one.settings, side=side),
            read_captions(family.pipe(side), texts, size_px=size_px),
        )
        for side, size_px in sizes
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
