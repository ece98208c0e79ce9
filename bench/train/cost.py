"""What a training takes: steps, operations, time, memory and disk, before anything is loaded.

Operations and kept activations are counted by PyTorch on tensors without numbers (device meta), in
a forward and a backward pass of one image at the recipe's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.errors import UserError
from bench.plan import estimate
from bench.plan.cost import GPU_TFLOPS
from bench.train.data_cost import TextSize, count_data, data_lines, shown_facts
from bench.train.mappers import build_mapper
from bench.train.run import settings_of
from bench.train.schema import Folders, PocketData, Recipe
from plugins_manifest.documents import parse_json, read_json
from plugins_manifest.progress import Progress
from plugins_manifest.text import duration
from runners.families import family_traits, find_family
from runners.families.unet_configs import UNETS
from xadapter.train import METRICS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bench.plan.gpus import Gpus

_LATENT_PX = 8
_N_TOKENS = 77
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_POCKET_BYTES = 11_500  # of a drawn picture: latents of both sides and its text
# of one CPU core on pocket's small layers: 28 ms an image, and 30 ms to draw and encode one
_CORE_TFLOPS, _DRAWING_SECONDS = 0.066, 0.03
_FUSED_TOKENS = 1024  # from this many on, GPUs use attention kernels that keep no matrix


@dataclass(frozen=True)
class StepCost:
    """Of one image: 10^12 operations, bytes kept for the backward pass; and parameters."""

    tera_operations: float
    kept_bytes: float
    unet_parameters: int
    mapper_parameters: int


def count_step(recipe: Recipe) -> StepCost | None:
    """Count a training step of one image; None for models whose layout is not known here."""
    import torch

    configs = _unet_configs(recipe)
    if configs is None:
        return None
    with Progress("counting operations"), torch.device("meta"):
        from diffusers import UNet2DConditionModel

        dtype = getattr(torch, recipe.precision.dtype)
        unets: list[Any] = [UNet2DConditionModel.from_config(dict(c)) for c in configs]
        for unet in unets:
            torch.nn.Module.to(unet, dtype)  # torch's own: diffusers' warns about any cast
        mapper = build_mapper(recipe.mapper, *unets, seed=0)
        operations, kept = _counted(recipe, unets, mapper)
    return StepCost(operations / 1e12, kept, sum(map(_size, unets)), _size(mapper))


def _size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _counted(recipe: Recipe, unets: list[Any], mapper: Any) -> tuple[float, float]:
    """Return operations and kept bytes of one image, forward and backward."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from xadapter.data import TrainBatch, UpgradedText
    from xadapter.loss import FrozenModels, mapper_losses

    base, upgraded = unets
    if recipe.precision.gradient_checkpointing:
        upgraded.enable_gradient_checkpointing()
    side = recipe.size // _LATENT_PX
    config = upgraded.config
    n_pooled = _n_pooled(config)
    text = UpgradedText(
        torch.empty(1, _N_TOKENS, config.cross_attention_dim),
        None if n_pooled is None else torch.empty(1, n_pooled),
        None if n_pooled is None else torch.empty(1, 6),
    )
    frozen = FrozenModels(
        base.requires_grad_(False), upgraded.requires_grad_(False), text, torch.empty(1000)
    )
    small, large = torch.empty(1, 4, side // 2, side // 2), torch.empty(1, 4, side, side)
    batch = TrainBatch(small, large, torch.empty(1, _N_TOKENS, base.config.cross_attention_dim))
    kept: dict[int, int] = {}
    models = (*unets, mapper)
    own = {w.untyped_storage()._cdata for model in models for w in model.parameters()}

    places = {(s >> i) ** 2 for s in (side, side // 2) for i in range(4)}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views of one are kept once
        if storage._cdata not in own and not _is_attention(tensor.shape, places):
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        mapper_losses(
            mapper,
            frozen,
            batch,
            timesteps=torch.empty(1, dtype=torch.int64),
            base_noise=small,
            upgraded_noise=large,
            is_checkpointed=recipe.precision.gradient_checkpointing,
        ).sum().backward()
    return counter.get_total_flops(), sum(kept.values())


def _is_attention(shape: Sequence[int], places: Set[int]) -> bool:
    """Return whether a tensor is a large matrix of queries and keys, which fused kernels skip."""
    if len(shape) < 3 or shape[-2] < _FUSED_TOKENS:
        return False
    return shape[-2] in places and (shape[-1] in places or shape[-1] == _N_TOKENS)


def _unet_configs(recipe: Recipe) -> list[Mapping[str, Any]] | None:
    """Return the configurations of both UNets: of local folders, or published ones by name."""
    sources, tables = _model_sources(recipe)
    found: list[Mapping[str, Any]] = []
    for source, table in zip(sources, tables, strict=False):
        file = Path(source) / "unet" / "config.json"
        if file.is_file():
            found.append(read_json(file))
        elif table in UNETS:
            found.append(UNETS[cast(Any, table)])
    return found if len(found) == len(sources) == 2 else None


def _model_sources(recipe: Recipe) -> tuple[list[str], tuple[str | None, str | None]]:
    """Return the folders or repositories of both models, and their published layouts."""
    if isinstance(recipe.family, Folders):
        return [recipe.family.base, recipe.family.upgraded], (None, None)
    family: Any = find_family(recipe.family)
    parts = family.diffusers_parts(None) if hasattr(family, "diffusers_parts") else None
    sources = [] if parts is None else [parts.base.source, parts.upgraded.source]
    return sources, getattr(family, "tables", (None, None))


def _n_levels(recipe: Recipe) -> int | None:
    """Return the levels of the upgraded UNet; None for a layout that is not known here."""
    configs = _unet_configs(recipe)
    return None if configs is None else len(configs[1]["block_out_channels"])


def _text_size(recipe: Recipe) -> TextSize | None:
    """Return the sizes of both sides' texts; None for a layout that is not known here."""
    configs = _unet_configs(recipe)
    if configs is None:
        return None
    base, upgraded = configs
    encoder = Path(_model_sources(recipe)[0][0]) / "text_encoder" / "config.json"
    facts = read_json(encoder) if encoder.is_file() else {}
    n_tokens = facts.get("max_position_embeddings", _N_TOKENS)
    widths = (base["cross_attention_dim"], upgraded["cross_attention_dim"])
    return TextSize(n_tokens, *widths, _n_pooled(upgraded) or 0)


def _n_pooled(config: Mapping[str, Any]) -> int | None:
    """Return the width of the pooled text; None for a UNet without one."""
    if config.get("addition_embed_type") != "text_time":
        return None
    n_ids = 6 * config["addition_time_embed_dim"]
    return config["projection_class_embeddings_input_dim"] - n_ids


def cost_facts(recipe: Recipe, out: Path, *, n_processes: int, gpus: Gpus | None) -> dict[str, Any]:
    """Return what a training takes, for `--json`; None for what is not known.

    Raises `UserError` for data that cannot be counted, and a batch that cannot be divided.
    """
    data = count_data(recipe, out)
    settings, cost = settings_of(recipe, n_images=data.n_images), count_step(recipe)
    if settings.batch_size % n_processes:
        raise UserError(
            f"{settings.batch_size} images in a call of the models cannot be divided among "
            f"{n_processes} processes: set optimizer.batch or micro_batch to a multiple"
        )
    n_images = settings.steps * settings.images_per_step
    pictures = shown_facts(
        data,
        recipe,
        steps=settings.steps,
        text=_text_size(recipe),
        n_levels=_n_levels(recipe),
    )
    encoded = 0.0 if pictures is None else (pictures.get("encoded_gib") or 0.0)
    facts: dict[str, Any] = {
        "recipe": recipe.name,
        "steps": settings.steps,
        "batch": settings.images_per_step,
        "images": n_images,
        "processes": n_processes,
        "tera_operations_per_image": None if cost is None else cost.tera_operations,
        "tera_operations": None if cost is None else cost.tera_operations * n_images,
        "disk_gib": None if cost is None else _disk_bytes(recipe, cost, n_images) / 2**30 + encoded,
        "pictures": pictures,
    }
    per_call = settings.batch_size // n_processes
    facts |= {"memory_gib": None, "memory_parts_gib": None}
    if cost is not None:
        parts = _memory_bytes(recipe, cost, per_call)
        facts["memory_parts_gib"] = {name: n / 2**30 for name, n in parts.items()}
        facts["memory_gib"] = sum(parts.values()) / 2**30
    facts |= _time_facts(recipe, facts, out, n_processes=n_processes, gpus=gpus)
    return facts | {"validation": _validation_facts(recipe, settings.steps, gpus)}


def _validation_facts(recipe: Recipe, steps: int, gpus: Gpus | None) -> dict[str, Any] | None:
    """Return the images of the validations and the run at the end, and their hours on one device.

    A run at the end of the whole manifest has images of the last validation only where both render
    the same; they are counted twice.
    """
    if recipe.validation is None:
        return None
    from bench.train.validation import plans_of

    with Progress("planning the validation"):
        first, later, final = plans_of(recipe)
    n = math.ceil(steps / recipe.validation.every)
    plans = [first, *([later] * (n - 1)), *([] if final is None else [final])]
    estimates = [estimate(plan) for plan in plans]
    rate = GPU_TFLOPS if gpus is None else gpus.rate_tflops
    seconds = [
        e.tera_operations / rate if e.tera_operations is not None else e.seconds for e in estimates
    ]
    known = [value for value in seconds if value is not None]
    return {
        "manifest": first.manifest.name,
        "every": recipe.validation.every,
        "times": n,
        "images_first": len(first.trials),
        "images_later": len(later.trials),
        "images_final": 0 if final is None else len(final.trials),
        "hours": sum(known) / 3600 if len(known) == len(seconds) else None,
        "disk_gib": sum(e.disk_mib for e in estimates) / 1024,
    }


def _memory_bytes(recipe: Recipe, cost: StepCost, n_images: int) -> dict[str, float]:
    """Return bytes of one process: UNets, what learns, and activations of a call.

    VAEs, text encoders and the work space of kernels are left out.
    """
    # float32 weights, gradients, two moments, and the average
    return {
        "unets": cost.unet_parameters * _BYTES[recipe.precision.dtype],
        "mapper": cost.mapper_parameters * 4.0 * 5,
        "activations": cost.kept_bytes * n_images,
    }


def _disk_bytes(recipe: Recipe, cost: StepCost, n_images: int) -> float:
    """Return bytes of three checkpoints (one is being written), the mapper, and drawn pictures."""
    checkpoints = 3 * cost.mapper_parameters * 4.0 * 4
    drawn = _n_drawn(recipe, n_images) * _POCKET_BYTES
    return checkpoints + cost.mapper_parameters * 4.0 + drawn


def _n_drawn(recipe: Recipe, n_images: int) -> int:
    """Return the number of pictures that are drawn for a training on so many images."""
    return min(recipe.data.n_images, n_images) if isinstance(recipe.data, PocketData) else 0


def _time_facts(
    recipe: Recipe, facts: Mapping[str, Any], out: Path, *, n_processes: int, gpus: Gpus | None
) -> dict[str, Any]:
    """Return the hours, and where their rate is from."""
    work = facts["tera_operations"]
    if gpus is None and (pace := _measured_pace(out)) is not None:
        return {"hours": facts["images"] / pace / 3600, "rate": f"measured in {out}"}
    if work is None:
        return {"hours": None, "rate": None}
    if gpus is not None:
        rate, count = gpus.rate_tflops, gpus.count
        origin = "as given" if gpus.tflops else "an assumption, half of the peak"
        what = f"{count} x {gpus.kind.upper()} at {rate:.3g} TFLOP/s each, {origin}"
        return {"hours": work / rate / count / 3600, "rate": what}
    if _is_small(recipe):
        what = f"{n_processes} CPU core{'s' if n_processes > 1 else ''}, as measured on one"
        seconds = work / _CORE_TFLOPS + _n_drawn(recipe, facts["images"]) * _DRAWING_SECONDS
        return {"hours": seconds / n_processes / 3600, "rate": what}
    gpu = "GPU" if n_processes == 1 else f"of {n_processes} GPUs"
    what = f"{GPU_TFLOPS:g} TFLOP/s on each {gpu}, an assumption: give --gpu, or --tflops too"
    return {"hours": work / GPU_TFLOPS / n_processes / 3600, "rate": what}


def _is_small(recipe: Recipe) -> bool:
    """Return whether the family declares its cost in seconds of a CPU core: it needs no GPU."""
    if isinstance(recipe.family, Folders):
        return False
    cost = family_traits(recipe.family).cost
    return cost is not None and cost.unit == "seconds"


def _measured_pace(out: Path) -> float | None:
    """Return the images per second of the last rows of a training that began in a folder."""
    with suppress(OSError, UserError, KeyError, TypeError, IndexError):
        rows = (out / METRICS).read_text(encoding="utf-8").splitlines()
        first, last = (parse_json(row, name=METRICS) for row in (rows[-2], rows[-1]))
        seconds = last["seconds"] - first["seconds"]
        return (last["images"] - first["images"]) / seconds if seconds > 0 else None
    return None


def cost_lines(facts: Mapping[str, Any], recipe: Recipe, out: Path) -> Iterator[str]:
    """Yield what a training takes, for people."""
    n, batch, images = facts["steps"], facts["batch"], facts["images"]
    yield f"{facts['recipe']}: {n:,} steps of {batch} images, {images:,} images"
    if facts["pictures"] is not None:
        yield from data_lines(facts["pictures"], recipe, out)
    count = facts["processes"]
    if facts["validation"] is not None:
        yield _validation_line(facts["validation"])
    if facts["tera_operations"] is None:
        yield "the layout of its models is not known here: fetch them to count time and memory"
        return
    per_image = facts["tera_operations_per_image"]
    yield (
        f"work    {per_image:.3g} x 10^12 operations an image (counted), "
        f"{facts['tera_operations']:,.0f} x 10^12 in all"
    )
    yield f"time    {duration(max(1.0, facts['hours'] * 3600))}: {facts['rate']}"
    parts = facts["memory_parts_gib"]
    yield (
        f"memory  {facts['memory_gib']:.2f} GiB{' in each process' if count > 1 else ''}: UNets "
        f"{parts['unets']:.2f}, mapper and AdamW {parts['mapper']:.2f}, activations "
        f"{parts['activations']:.2f}; without VAEs and text encoders"
    )
    yield f"disk    {facts['disk_gib']:.2f} GiB: checkpoints, mapper, what is drawn or encoded"


def _validation_line(facts: Mapping[str, Any]) -> str:
    later, final, hours = (facts[key] for key in ("images_later", "images_final", "hours"))
    end = f", then {final:,} of the run at the end" if final else ""
    time = "time not known" if hours is None else duration(max(1.0, hours * 3600))
    return (
        f"check   {facts['times']:,} x {facts['manifest']}, every {facts['every']:,} steps: "
        f"{facts['images_first']:,} images, {later:,} each later time{end}; {time} beside the "
        "training, without scoring"
    )
