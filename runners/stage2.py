"""Stage 2 of a group's variants: which share a pass, and their shares of its seconds.

Variants of one method and t0 share the base model's steps, which depend neither on a mapper nor on
the upgraded model; their images are those of each variant alone, bit for bit. Where
several variants fit into one call of the models, all of them share one pass.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from plugins_manifest.memory import is_out_of_memory
from runners.base import PassName, Variant
from runners.device import release_memory
from runners.families.family import denoising_part
from runners.passes import PassKey, Shares, pass_key
from xadapter.errors import SettingError
from xadapter.handover import Stage2Start
from xadapter.sampling import Stage2Trial, run_stage2_together

if TYPE_CHECKING:
    from runners.families import Family
    from xadapter.presets import Preset

_LOG = logging.getLogger(__name__)
STAGE2 = "stage2"


class Reader(Protocol):
    """What a method declares of the passes that it reads."""

    name: str
    uses_plugin: bool
    uses_adapter: bool
    shares: tuple[PassName, ...]


class Session(Protocol):
    """What stage 2 needs of a `runners.session.GroupSession`."""

    family: Family
    preset: Preset
    base: Any  # a `Denoiser`, made when it is read first
    upgraded: Any

    def step_generators(self, stage: str) -> list[torch.Generator]: ...


class Stage2Method(Reader, Protocol):
    """A method whose images are those of a stage 2."""

    def start(self, session: Any, t0: float | None) -> Stage2Start:
        """Return the first latents of stage 2; raise `SettingError` for a t0 that has none."""
        ...


Members = Sequence[tuple[Stage2Method, Variant]]


def stage2_key(method: Reader, variant: Variant, *, most: int) -> PassKey:
    """Return the pass in which a variant's stage 2 runs, with up to `most` variants in a call."""
    scale = variant.plugin_scale if method.uses_plugin else None
    return PassKey(STAGE2, scale, () if most > 1 else (method.name, variant.t0))


def stage2_members(
    methods: Mapping[str, Reader], variants: Sequence[Variant], *, most: int
) -> dict[PassKey, Members]:
    """Return the variants of each pass of stage 2."""
    members: dict[PassKey, list[tuple[Stage2Method, Variant]]] = {}
    for variant in variants:
        method: Any = methods[variant.method]
        if STAGE2 in method.shares:
            key = stage2_key(method, variant, most=most)
            members.setdefault(key, []).append((method, variant))
    return dict(members)


def shares_of(
    family: Family, methods: Mapping[str, Reader], variants: Sequence[Variant], *, most: int
) -> Mapping[Variant, Shares]:
    """Return the passes of each variant, and its weight among their readers.

    A pass counts evenly, but stage 2: by its steps and the parameters of the networks that take
    them, those of the base model split over the mappers and their scales, those of a mapper over
    its scales.
    """
    walks = Counter(replace(v, adapter_scale=None, adapter=None) for v in variants)
    readers = Counter(replace(v, adapter_scale=None) for v in variants)
    upgraded, base = (_size(denoising_part(p)[1]) for p in (family.upgraded, family.base))
    found: dict[Variant, dict[PassKey, float]] = {}
    for variant in variants:
        method, per_step = methods[variant.method], float(upgraded)
        if method.uses_adapter:
            one = replace(variant, adapter_scale=None)
            per_step += base / walks[replace(one, adapter=None)]
            per_step += _size(family.mapper_of(variant.adapter)) / readers[one]
        scale = variant.plugin_scale if method.uses_plugin else None
        found[variant] = {pass_key(name, scale): 1.0 for name in method.shares if name != STAGE2}
        if STAGE2 in method.shares:
            key = stage2_key(method, variant, most=most)
            found[variant][key] = per_step * (variant.t0 or 1.0)
    return found


def run_stage2(session: Session, members: Members, *, most: int = 1) -> dict[Variant, Tensor]:
    """Return the final latents of variants, up to `most` of them in a call of the models.

    Of several, those that cannot start are left out.
    """
    if most == 1:
        return _run(session, members, 1)
    try:
        return _run(session, members, most)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _LOG.warning("the memory does not suffice for several variants at once: they are split")
    release_memory(session.family.device)
    return _run(session, members, 1)


def _run(session: Session, members: Members, most: int) -> dict[Variant, Tensor]:
    starts: dict[tuple[str, float | None], Stage2Start] = {}
    trials: dict[Variant, Stage2Trial] = {}
    for method, variant in members:
        place, scale = (method.name, variant.t0), variant.adapter_scale
        try:
            if place not in starts:  # one object: its variants share the base model's steps
                starts[place] = method.start(session, variant.t0)
        except SettingError:
            if len(members) == 1:
                raise
            continue
        trials[variant] = Stage2Trial(
            starts[place],
            (1.0 if scale is None else scale) if method.uses_adapter else None,
            session.step_generators("stage 2"),
            session.step_generators("stage 2, base model"),
            session.family.mapper_of(variant.adapter) if method.uses_adapter else None,
        )
    is_joint = any(trial.adapter_scale is not None for trial in trials.values())
    latents = run_stage2_together(
        session.upgraded,
        list(trials.values()),
        base=session.base if is_joint else None,
        preset=session.preset,
        most=most,
    )
    return dict(zip(trials, latents, strict=True))


def _size(network: nn.Module | None) -> int:
    return 0 if network is None else sum(p.numel() for p in network.parameters())
