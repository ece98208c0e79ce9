"""The closed forms: an update of the old model's weights made one of the new model's, by algebra.

`copy` takes the file as it is and `prolora` projects it: both are for models of one layout.
`theseus` carries it along maps between the features of both models, and `random-rotation`, the
control, along random maps of the same shapes, with the energy of the old update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from plugins_manifest.progress import Progress
from plugins_manifest.schema.words import Side as SideName
from plugins_manifest.text import shortened
from runners.convert.calibration import Maps, Side, feature_maps
from runners.convert.pairs import pair_modules
from runners.convert.projection import SIMILARITY, directions, projected, similarity
from runners.convert.transport import carried, random_map, with_energy_of
from runners.families import Family
from runners.families.family import TEXT_PARTS
from runners.plugins.weights import WeightPlugin
from runners.weights import parameters_of
from runners.weights.engine import merged_weight


@dataclass(frozen=True)
class Carried:
    """Updates of the new model by parameter name, and the share of the old energy behind them."""

    updates: Mapping[str, Tensor]
    n_source: int
    energy_share: float


def updates_of(plugin: WeightPlugin, family: Family) -> dict[str, Tensor]:
    """Return what a plugin at strength 1 adds to each matrix and kernel, on the CPU."""
    own = _parameters(family, "base")
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, changes in plugin.weights.by_target().items():
            weight = own[name].detach().float()
            if weight.ndim > 1:
                change = merged_weight(plugin.weights, changes, weight, strength=1.0) - weight
                found[name] = change.cpu()
    return found


def project(updates: Mapping[str, Tensor], family: Family) -> Carried:
    """Return ProLoRA's updates; weights whose main directions are too different are left out.

    Raises `UserError` where a weight has no twin of its name and shape.
    """
    old, new = _parameters(family, "base"), _parameters(family, "upgraded")
    alone = [n for n in updates if n not in new or new[n].shape != old[n].shape]
    if alone:
        raise UserError(
            f"prolora needs two models of one layout: {len(alone)} of {len(updates)} weights have "
            f"no twin in the upgraded model of {family.name!r} ({shortened(alone)}); use the "
            "method distill or theseus"
        )
    made: dict[str, Tensor] = {}
    with Progress("projecting", unit="layer", total=len(updates)) as bar:
        for name, update in updates.items():
            source, target = directions(old[name].detach()), directions(new[name].detach())
            if similarity(source, target) >= SIMILARITY:
                made[name] = projected(update.to(old[name].device), source, target).cpu()
            bar.update()
    return _carried(made, updates, made)


def align(updates: Mapping[str, Tensor], source: Side, target: Side, *, seed: int) -> Carried:
    """Return Theseus' updates, by the features of both models on the same pictures."""
    pairs = _pairs(updates, source, target)
    maps = feature_maps(pairs, source, target, seed=seed)
    return _moved(updates, pairs, maps.__getitem__, is_scaled=False)


def rotate(updates: Mapping[str, Tensor], source: Side, target: Side, *, seed: int) -> Carried:
    """Return the control: the same pairs, random maps, each with the energy of its old update."""
    pairs = _pairs(updates, source, target)
    generator = torch.Generator().manual_seed(seed)

    def maps(name: str) -> Maps:
        outputs, inputs = zip(
            updates[_parameter(name)].shape[:2],
            _module(target.pipe.unet, pairs[name]).weight.shape[:2],
            strict=True,
        )
        return random_map(*inputs, generator), random_map(*outputs, generator)

    return _moved(updates, pairs, maps, is_scaled=True)


def _pairs(updates: Mapping[str, Tensor], source: Side, target: Side) -> dict[str, str]:
    names = [n.removeprefix("unet.").removesuffix(".weight") for n in updates]
    found = pair_modules(
        source.pipe.unet,
        target.pipe.unet,
        names,
        source_side=source.latents.shape[-1],
        target_side=target.latents.shape[-1],
    )
    if not found:
        raise UserError(
            "no layer that the plugin changes has a partner in the upgraded model: use the method "
            "distill"
        )
    return found


def _moved(
    updates: Mapping[str, Tensor],
    pairs: Mapping[str, str],
    maps: Callable[[str], Maps],
    *,
    is_scaled: bool,
) -> Carried:
    made: dict[str, Tensor] = {}
    with Progress("carrying the update over", unit="layer", total=len(pairs)) as bar:
        for name, partner in pairs.items():
            update = updates[_parameter(name)]
            inputs, outputs = maps(name)
            moved = carried(update, inputs=inputs, outputs=outputs)
            made[_parameter(partner)] = with_energy_of(moved, update) if is_scaled else moved
            bar.update()
    return _carried(made, updates, map(_parameter, pairs))


def _carried(
    made: Mapping[str, Tensor], updates: Mapping[str, Tensor], used: Iterable[str]
) -> Carried:
    whole = sum(float(update.square().sum()) for update in updates.values())
    part = sum(float(updates[name].square().sum()) for name in used)
    return Carried(made, len(updates), part / whole if whole else 0.0)


def _parameter(module: str) -> str:
    return f"unet.{module}.weight"


def _module(unet: nn.Module, name: str) -> nn.Linear | nn.Conv2d:
    module = unet.get_submodule(name)
    assert isinstance(module, nn.Linear | nn.Conv2d), "only these are paired"
    return module


def _parameters(family: Family, side: SideName) -> dict[str, nn.Parameter]:
    pipe = family.pipe(side)
    return parameters_of([(part, getattr(pipe, part, None)) for part in ("unet", *TEXT_PARTS)])
