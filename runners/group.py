"""Render a group: a plugin or a stack, a batch of cases, every variant; shared passes run once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from plugins_manifest.installed import describe_error
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
from runners.checks import check_group
from runners.families import Family
from runners.guard import ModelsChangedError, checked_images, is_own, models_state
from runners.memory import PeakMemory
from runners.passes import PassKey, SharedWork, pass_key
from runners.plugins import Attachment, LoadedPlugin, attach_all, load_plugin
from runners.protocols import Method, find_method, stage1_mode_of
from runners.session import GroupSession
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
) -> Generator[Rendered]:
    """Render every variant of every case; results come variant by variant, cases in order.

    The plugins are attached while the iterator runs; every weight is restored afterwards, also when
    it is closed early. A variant that fails yields rows with an error, and the others go on. The
    time of shared passes is split evenly over the variants that read them. `methods` defaults to
    the installed ones; `on_loaded` receives the plugins with their audits. A plugin of the upgraded
    side keeps its weight at every plugin scale, and acts in `floor` too.
    Raises `UserError` for invalid input, before anything runs, and `ModelsChangedError` as soon as
    a method has changed what others share.
    """
    known = installed_methods(v.method for v in variants) if methods is None else methods
    stack = stack_of(plugin)
    check_group(family, plugin, cases=cases, variants=variants, settings=settings, methods=known)
    loaded = tuple(load_plugin(_with_semantics(file, settings), family) for file in stack)
    if on_loaded is not None:
        on_loaded(loaded)
    is_guarded = any(not is_own(known[v.method]) for v in variants)
    keys = [_keys_of(known[v.method], v) for v in variants]
    work = SharedWork(keys, family.device, is_guarded=is_guarded)
    base, upgraded = _of_side(loaded, "base"), _of_side(loaded, "upgraded")
    with (
        PeakMemory(family.device) as memory,
        attach_all(upgraded, family, [p.file.weight for p in upgraded]) as remix,
    ):
        group = _Group(family, base, remix, tuple(cases), settings, known, work, memory)
        for scale, members in _by_plugin_scale(variants, known).items():
            yield from _run_scale(group, scale, members)


@dataclass(frozen=True)
class _Group:
    family: Family
    plugins: tuple[LoadedPlugin, ...]
    remix: Attachment
    cases: tuple[RenderCase, ...]
    settings: RenderSettings
    methods: Mapping[str, Method]
    work: SharedWork
    memory: PeakMemory


def _of_side(plugins: Sequence[LoadedPlugin], side: Side) -> tuple[LoadedPlugin, ...]:
    return tuple(plugin for plugin in plugins if plugin.file.side == side)


def _with_semantics(file: PluginFile, settings: RenderSettings) -> PluginFile:
    """Return the plugin with the preset's LoRA semantics if it declares none."""
    own = file.lora_semantics
    return replace(file, lora_semantics=own or PRESET_SEMANTICS[settings.preset])


def installed_methods(names: Iterable[str]) -> dict[str, Method]:
    """Return the named methods of entry-point group `xbench.methods`; no other is imported."""
    return {name: find_method(name) for name in dict.fromkeys(names)}


def _keys_of(method: Method, variant: Variant) -> frozenset[PassKey]:
    """Return the passes that a variant reads."""
    scale = variant.plugin_scale if method.uses_plugin else None
    return frozenset(pass_key(name, scale) for name in method.shares)


def _by_plugin_scale(
    variants: Sequence[Variant], methods: Mapping[str, Method]
) -> dict[float | None, list[Variant]]:
    """Group variants with the base model in the same state; None: without the plugin."""
    groups: dict[float | None, list[Variant]] = {}
    for variant in variants:
        scale = variant.plugin_scale if methods[variant.method].uses_plugin else None
        groups.setdefault(scale, []).append(variant)
    return groups


def _run_scale(
    group: _Group, scale: float | None, variants: Sequence[Variant]
) -> Iterator[Rendered]:
    changes = any(plugin.file.stages != "both" for plugin in group.plugins)
    with _session(group, scale, variants, without="second") as session:
        if not changes:
            yield from _run_variants(group, session, variants)
        else:
            for variant in variants:
                _run_stage1(group, session, variant)
    if changes:
        with _session(group, scale, variants, without="first") as session:
            yield from _run_variants(group, session, variants)
    group.work.forget(scale)


@contextmanager
def _session(
    group: _Group, scale: float | None, variants: Sequence[Variant], *, without: Stages
) -> Iterator[GroupSession]:
    """Attach all plugins except those that act in stage `without` only."""
    settings = group.settings
    found = () if scale is None else group.plugins
    plugins = [plugin for plugin in found if plugin.file.stages != without]
    strengths = [plugin.file.weight * (scale or 0.0) for plugin in plugins]
    with attach_all(plugins, group.family, strengths) as active:
        yield GroupSession(
            group.family,
            group.cases,
            settings,
            attachment=active,
            remix=group.remix,
            plugin_scale=scale,
            work=group.work,
            snapshot_t0s=_snapshot_t0s(variants, settings, group.methods),
            stage2=without == "first",
        )


def _run_stage1(group: _Group, session: GroupSession, variant: Variant) -> None:
    """Run the passes of stage 1; the error of a failed one is raised again where it is read."""
    method = group.methods[variant.method]

    def passes() -> None:
        with torch.inference_mode():
            session.stage1()
            if stage1_mode_of(method, group.settings) == "full":
                session.bridge()

    group.work.timed(_keys_of(method, variant), passes)


def _run_variants(
    group: _Group, session: GroupSession, variants: Sequence[Variant]
) -> Iterator[Rendered]:
    for variant in variants:
        yield from _run_variant(group, session, variant)


def _run_variant(group: _Group, session: GroupSession, variant: Variant) -> Iterator[Rendered]:
    method = group.methods[variant.method]
    with _unchanged_models(group, session, variant) as used:
        outcome = group.work.timed(
            _keys_of(method, variant), lambda: _rendered_by(method, used, variant)
        )
    if outcome.error is not None:
        _LOG.warning("variant %s failed", variant, exc_info=outcome.error)
        _free_device(group.family.device)
    images, effective_t0 = outcome.value, _effective_t0(session, variant.t0)
    for index in range(len(group.cases)):
        reason = _reason(outcome.error, index in used.non_finite)
        yield Rendered(
            variant=variant,
            index=index,
            image=images[index] if reason is None and images is not None else None,
            seconds=outcome.seconds / len(group.cases),
            peak_memory_mib=group.memory.peak_mib,
            effective_t0=effective_t0,
            error=reason,
        )


def _rendered_by(method: Method, session: GroupSession, variant: Variant) -> np.ndarray:
    """Return the method's images, checked: uint8 RGB at the size of its side."""
    settings = session.settings
    size_px = settings.base_size_px if method.side == "base" else settings.upgraded_size_px
    with torch.inference_mode():
        images = method.render(session, variant)
    return checked_images(images, n_images=len(session.cases), size_px=size_px)


@contextmanager
def _unchanged_models(
    group: _Group, session: GroupSession, variant: Variant
) -> Iterator[GroupSession]:
    """Yield the session of a method; raise `ModelsChangedError` if it changes what others share.

    A method of another package has a session of its own.
    """
    session.non_finite.clear()
    if is_own(group.methods[variant.method]):
        yield session
        return
    before = models_state(group.family, session.networks)
    yield session.separate()
    after = models_state(group.family, session.networks)
    if (what := after.changed_since(before) or group.work.changed()) is not None:
        before.restore_switches()
        raise ModelsChangedError(variant, what)


def _reason(error: BaseException | None, is_non_finite: bool) -> str | None:
    if error is not None:
        return describe_error(error)
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


def _free_device(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
