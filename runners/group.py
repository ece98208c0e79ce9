"""Render a group: a plugin or a stack, a batch of cases, every variant; shared passes run once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from plugins_manifest.schema.stacks import Stages
from plugins_manifest.schema.words import Side
from runners.base import (
    PRESET_SEMANTICS,
    PluginFile,
    RenderCase,
    Rendered,
    RenderSettings,
    Stack,
    Variant,
    stack_of,
)
from runners.batches import BatchSize, Part, slices
from runners.checks import check_group
from runners.device import free_bytes, release_memory
from runners.families import Family
from runners.guard import ModelsChangedError, checked_images, is_own, models_state
from runners.memory import PeakMemory
from runners.passes import Failure, Outcome, SharedWork
from runners.plugins import Attachment, LoadedPlugin, attach_all, load_stack
from runners.protocols import Method, find_method, stage1_mode_of
from runners.session import GroupSession
from runners.stage2 import shares_of, stage2_members
from xadapter.errors import SettingError

_LOG = logging.getLogger(__name__)

NON_FINITE = "the image has values that are not finite; try dtype float32 or a lower scale"


def run_group(
    family: Family,
    plugin: PluginFile | Stack | None,
    cases: Sequence[RenderCase],
    variants: Sequence[Variant],
    settings: RenderSettings,
    *,
    methods: Mapping[str, Method] | None = None,
    on_loaded: Callable[[Sequence[LoadedPlugin]], None] | None = None,
    batch: BatchSize | None = None,
) -> Generator[Rendered]:
    """Render every variant of every case; results come variant by variant, cases in order.

    The plugins are attached while the iterator runs; every weight is restored afterwards, also when
    it is closed early. A variant that fails yields rows with an error, and the others go on. The
    time of shared passes is split over the variants that read them. `methods` defaults to
    the installed ones; `on_loaded` receives the plugins with their audits. A plugin of the upgraded
    side keeps its weight at every plugin scale, and acts in `floor` too; one that is moved there
    follows the scale. `batch` limits the images
    of one call of the models, by default all cases; where memory does not suffice, a call is
    repeated with half of its cases. Where the memory of one image has to be measured, the results
    of the first case come first.
    Raises `UserError` for invalid input, before anything runs, and `ModelsChangedError` as soon as
    a method has changed what others share.
    """
    known = installed_methods(v.method for v in variants) if methods is None else methods
    stack = stack_of(plugin)
    check_group(family, plugin, cases=cases, variants=variants, settings=settings, methods=known)
    loaded = load_stack([_with_semantics(file, settings) for file in stack], family)
    if on_loaded is not None:
        on_loaded(loaded)
    scaled = tuple(plugin for plugin in loaded if plugin.file.is_scaled)
    upgraded = tuple(plugin for plugin in loaded if not plugin.file.is_scaled)
    by_scale = _by_plugin_scale(variants, known)
    ordered = tuple(variant for members in by_scale.values() for variant in members)
    with (
        PeakMemory(family.device) as memory,
        attach_all(upgraded, family, [p.file.weight for p in upgraded]) as remix,
    ):
        size = batch or BatchSize()
        group = _Group(family, scaled, remix, tuple(cases), ordered, settings, known, memory, size)
        parts: list[Part] = []
        for scale, members in by_scale.items():
            yield from _run_all(group, scale, members, parts)
            for part in parts:
                part.work.forget(scale)


@dataclass(frozen=True)
class _Group:
    """What the variants of a group share; they are in the order in which they run."""

    family: Family
    plugins: tuple[LoadedPlugin, ...]
    remix: Attachment
    cases: tuple[RenderCase, ...]
    variants: tuple[Variant, ...]
    settings: RenderSettings
    methods: Mapping[str, Method]
    memory: PeakMemory
    size: BatchSize

    @property
    def work(self) -> Hashable:
        """What decides the memory that an image takes."""
        kinds = tuple(plugin.file.kind for plugin in self.plugins)
        return self.settings, kinds, frozenset(v.method for v in self.variants)

    def parts(
        self, cases: tuple[RenderCase, ...], size: int, *, first: int, since: Variant
    ) -> list[Part]:
        """Split cases, the first of which has the index `first`, for all variants from one on."""
        left = self.variants[self.variants.index(since) :]
        is_guarded = any(not is_own(self.methods[v.method]) for v in left)
        parts = []
        for i, some in slices(cases, size):
            most = self.size.together(self.work, len(some))
            shares = shares_of(self.family, self.methods, left, most=most)
            work = SharedWork(shares.values(), self.family.device, is_guarded=is_guarded)
            parts.append(Part(first + i, some, work, shares, most))
        return parts

    def halves(self, part: Part, *, since: Variant) -> list[Part]:
        """Split a part for which memory does not suffice, and free what its passes hold."""
        n = len(part.cases)
        _LOG.warning("the memory does not suffice for %d images at once: they are halved", n)
        self.size.too_many(self.work, n)
        part.work.clear()
        release_memory(self.family.device)
        return self.parts(part.cases, -(-n // 2), first=part.first, since=since)


def _of_side(plugins: Sequence[LoadedPlugin], side: Side) -> tuple[LoadedPlugin, ...]:
    return tuple(plugin for plugin in plugins if plugin.file.side == side)


def _strengths(plugins: Sequence[LoadedPlugin], scale: float | None) -> list[float]:
    return [plugin.file.weight * (scale or 0.0) for plugin in plugins]


def _with_semantics(file: PluginFile, settings: RenderSettings) -> PluginFile:
    """Return the plugin with the preset's LoRA semantics if it declares none."""
    own = file.lora_semantics
    return replace(file, lora_semantics=own or PRESET_SEMANTICS[settings.preset])


def installed_methods(names: Iterable[str]) -> dict[str, Method]:
    """Return the named methods of entry-point group `xbench.methods`; no other is imported."""
    return {name: find_method(name) for name in dict.fromkeys(names)}


def _by_plugin_scale(
    variants: Sequence[Variant], methods: Mapping[str, Method]
) -> dict[float | None, list[Variant]]:
    """Group variants with the base model in the same state; None: without the plugin."""
    groups: dict[float | None, list[Variant]] = {}
    for variant in variants:
        scale = variant.plugin_scale if methods[variant.method].uses_plugin else None
        groups.setdefault(scale, []).append(variant)
    return groups


def _run_all(
    group: _Group, scale: float | None, variants: Sequence[Variant], parts: list[Part]
) -> Iterator[Rendered]:
    """Run the variants of a plugin scale for all cases, in parts that fit the memory.

    `parts` are empty before the first scale; where they are split, their halves replace them.
    """
    cases, size, since = group.cases, group.size, variants[0]
    if not parts:
        most = size.most(group.work, len(cases))
        parts += group.parts(cases if most else cases[:1], most or 1, first=0, since=since)
    yield from _run_scale(group, scale, variants, parts)
    n_done = sum(len(part.cases) for part in parts)
    if n_done < len(cases):
        free = free_bytes(group.family.device)
        if (offload := group.family.offload) is not None:
            free -= offload.missing_bytes
        most = size.measured(group.work, free_bytes=free)
        rest = group.parts(cases[n_done:], most, first=n_done, since=since)
        yield from _run_scale(group, scale, variants, rest)
        parts += rest


def _run_scale(
    group: _Group, scale: float | None, variants: Sequence[Variant], parts: list[Part]
) -> Iterator[Rendered]:
    if any(plugin.file.stages != "both" for plugin in group.plugins):
        yield from _run_in_stages(group, scale, variants, parts)
        return
    with _attached(group, scale, variants, without="second") as sessions:
        for variant in variants:
            waiting = deque(parts)
            parts.clear()
            while waiting:
                part = waiting.popleft()
                if (found := _tried(group, sessions, part, variant)) is not None:
                    parts.append(part)
                    yield from found
                else:
                    sessions.forget(part)
                    waiting.extendleft(reversed(group.halves(part, since=variant)))


def _run_in_stages(
    group: _Group, scale: float | None, variants: Sequence[Variant], parts: list[Part]
) -> Iterator[Rendered]:
    """Run part by part, each with one set of plugins in stage 1 and another one in stage 2."""
    waiting = deque((part, variants) for part in parts)
    parts.clear()
    while waiting:
        part, todo = waiting.popleft()
        if left := (yield from _run_both_stages(group, scale, todo, part)):
            halves = group.halves(part, since=left[0])
            waiting.extendleft((half, left) for half in reversed(halves))
        else:
            parts.append(part)


def _run_both_stages(
    group: _Group, scale: float | None, variants: Sequence[Variant], part: Part
) -> Generator[Rendered, None, Sequence[Variant]]:
    """Yield the results of a part; return the variants that fit the memory in halves alone."""
    with _attached(group, scale, variants, without="second") as sessions:
        if not all(_run_stage1(group, sessions, part, variant) for variant in variants):
            return variants
    with _attached(group, scale, variants, without="first") as sessions:
        for i, variant in enumerate(variants):
            if (found := _tried(group, sessions, part, variant)) is None:
                return variants[i:]
            yield from found
    return ()


@dataclass(frozen=True)
class _Sessions:
    """The sessions of a group's parts, while their plugins are attached."""

    make: Callable[[Part], GroupSession]
    made: dict[Part, GroupSession] = field(default_factory=dict)

    def of(self, part: Part) -> GroupSession:
        """Return the session of a part."""
        if part not in self.made:
            self.made[part] = self.make(part)
        return self.made[part]

    def forget(self, part: Part) -> None:
        """Free the session of a part that is split."""
        self.made.pop(part, None)


@contextmanager
def _attached(
    group: _Group, scale: float | None, variants: Sequence[Variant], *, without: Stages
) -> Iterator[_Sessions]:
    """Attach all plugins except those that act in stage `without` only."""
    settings = group.settings
    found = () if scale is None else group.plugins
    plugins = [plugin for plugin in found if plugin.file.stages != without]
    base, moved = _of_side(plugins, "base"), _of_side(plugins, "upgraded")
    # a method of another package runs its stage 2 alone, in a session of its own
    own = [v for v in variants if is_own(group.methods[v.method])]
    with (
        attach_all(base, group.family, _strengths(base, scale)) as active,
        attach_all(moved, group.family, _strengths(moved, scale)) as direct,
    ):
        yield _Sessions(
            lambda part: GroupSession(
                group.family,
                part.cases,
                settings,
                attachment=active,
                remix=group.remix.joined(direct),
                is_moved=bool(moved),
                plugin_scale=scale,
                work=part.work,
                snapshot_t0s=_snapshot_t0s(variants, settings, group.methods),
                members=stage2_members(group.methods, own, most=part.together),
                together=part.together,
                stage2=without == "first",
            )
        )


def _run_stage1(group: _Group, sessions: _Sessions, part: Part, variant: Variant) -> bool:
    """Run the passes of stage 1; return whether they fit the memory, or cannot be split.

    The failure of a pass is raised again where it is read.
    """
    method, session = group.methods[variant.method], sessions.of(part)

    def passes() -> None:
        with torch.inference_mode():
            session.stage1()
            if stage1_mode_of(method, group.settings) == "full":
                session.bridge()

    return not _is_too_large(part, part.work.timed(part.shares[variant], passes))


def _is_too_large(part: Part, outcome: Outcome[Any]) -> bool:
    failure = outcome.failure
    return failure is not None and failure.is_out_of_memory and len(part.cases) > 1


def _tried(
    group: _Group, sessions: _Sessions, part: Part, variant: Variant
) -> list[Rendered] | None:
    """Return the results of a variant for a part; None if they fit the memory in halves alone."""
    method, session, device = group.methods[variant.method], sessions.of(part), group.family.device
    offload = group.family.offload
    group.memory.reset()
    if offload is not None:
        offload.restart()
    with _unchanged_models(group, part, session, variant) as used:
        outcome = part.work.timed(part.shares[variant], lambda: _rendered_by(method, used, variant))
    moved_bytes = 0 if offload is None else offload.grown_bytes
    group.size.saw(group.work, max(0, group.memory.growth_bytes - moved_bytes))
    if _is_too_large(part, outcome):
        return None
    if outcome.failure is not None:
        _LOG.warning("variant %s failed: %s", variant, outcome.failure.trace)
        release_memory(device)
    images, n = outcome.value, len(part.cases)
    reasons = [_reason(outcome.failure, index in used.non_finite) for index in range(n)]
    return [
        Rendered(
            variant=variant,
            index=part.first + index,
            image=images[index] if reason is None and images is not None else None,
            seconds=outcome.seconds / n,
            peak_memory_mib=group.memory.peak_mib,
            effective_t0=_effective_t0(session, variant.t0),
            error=reason,
            batch=n if n < len(group.cases) else None,
        )
        for index, reason in enumerate(reasons)
    ]


def _rendered_by(method: Method, session: GroupSession, variant: Variant) -> np.ndarray:
    """Return the method's images, checked: uint8 RGB at the size of its side."""
    settings = session.settings
    size_px = settings.base_size_px if method.side == "base" else settings.upgraded_size_px
    with torch.inference_mode():
        images = method.render(session, variant)
    return checked_images(images, n_images=len(session.cases), size_px=size_px)


@contextmanager
def _unchanged_models(
    group: _Group, part: Part, session: GroupSession, variant: Variant
) -> Iterator[GroupSession]:
    """Yield the session of a method; raise `ModelsChangedError` if it changes what others share.

    A method of another package has a session of its own.
    """
    session.non_finite.clear()
    if is_own(group.methods[variant.method]):
        yield session
        return
    before = models_state(group.family, session.networks)
    yield session.separate(variant)
    after = models_state(group.family, session.networks)
    if (what := after.changed_since(before) or part.work.changed()) is not None:
        before.restore_switches()
        raise ModelsChangedError(variant, what)


def _reason(failure: Failure | None, is_non_finite: bool) -> str | None:
    if failure is not None:
        return failure.reason
    return NON_FINITE if is_non_finite else None


def _effective_t0(session: GroupSession, t0: float | None) -> float | None:
    """Return M / N of the steps that are run; None if the preset rejects this t0."""
    if t0 is None:
        return None
    try:
        return session.preset.n_last_steps(session.settings.steps, t0) / session.settings.steps
    except SettingError:
        return None


def _snapshot_t0s(
    variants: Sequence[Variant], settings: RenderSettings, methods: Mapping[str, Method]
) -> list[float]:
    return [
        v.t0
        for v in variants
        if v.t0 is not None
        and methods[v.method].uses_adapter
        and stage1_mode_of(methods[v.method], settings) == "truncated"
    ]
