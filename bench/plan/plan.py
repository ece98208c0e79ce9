"""The plan: the trials of a run, in batches.

Nothing is loaded but names, hashes, prompts and condition images.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from bench.errors import UserError
from bench.plan.adapters import mapper_weights
from bench.plan.cases import prompts_of
from bench.plan.conditions import ConditionSet
from bench.plan.job import CasesBySet, Job
from bench.plan.remarks import Remark, job_remarks
from bench.plan.selection import Selection
from bench.plan.trial import Part, Trial, TrialInputs, trial_id
from bench.registry import find_method
from bench.store.run_store import condition_name
from plugins_manifest.cases import Case
from plugins_manifest.schema import Manifest, PluginSet, Settings
from plugins_manifest.schema.kinds import needs_reference
from plugins_manifest.schema.manifest import MethodSpec
from plugins_manifest.schema.stacks import (
    PluginArrangement,
    arrange_sets,
    settings_of,
    settings_without_plugin,
)
from plugins_manifest.schema.words import Side
from plugins_manifest.text import shortened
from runners.base import PluginFile, Stack, Variant
from runners.families import family_traits
from runners.families.registry import AdapterFile
from runners.protocols import Method, arrangement_of, knobs_of, stage1_mode_of

BATCH_SIZE = 12


@dataclass(frozen=True)
class Group:
    """One batch under one plugin set: the unit that is rendered and written together.

    `plugin` is the id of a plugin or a stack, None for the upgraded model alone. `members` are
    (case id, seed) pairs; `trials[i]` belongs to `variants[i // len(members)]` and
    `members[i % len(members)]`. `arrangement` states which plugins act where, `settings` are those
    of its images.
    """

    group_id: str
    plugin: str | None
    members: tuple[tuple[str, int], ...]
    variants: tuple[Variant, ...]
    trials: tuple[Trial, ...]
    settings: Settings
    arrangement: PluginArrangement = "own"


@dataclass(frozen=True)
class Plan:
    """All trials of a run with what is needed to make them.

    `plugins` are the manifest's files; `plugin_sets` are rendered, by arrangement and id. `shard`,
    as "1/4", has those batches of a whole plan that were dealt to it. `adapter` replaces the
    family's mapper; `adapters` are several in its place.
    """

    manifest: Manifest
    selection: Selection
    weights: dict[str, str]
    plugins: dict[str, PluginFile]
    plugin_sets: dict[PluginArrangement, dict[str, PluginSet]]
    cases: dict[str, Case]
    groups: tuple[Group, ...]
    remarks: tuple[Remark, ...] = ()
    shard: str | None = None
    adapter: Path | None = None
    adapters: tuple[AdapterFile, ...] = ()

    @property
    def title(self) -> str:
        """The manifest's name, and the shard."""
        return self.manifest.name + ("" if self.shard is None else f", shard {self.shard}")

    def plugin_set(self, group: Group) -> PluginSet | None:
        """Return what a batch is rendered with; None for the upgraded model alone."""
        return None if group.plugin is None else self.plugin_sets[group.arrangement][group.plugin]

    def stack(self, group: Group) -> Stack:
        """Return the plugins that a batch is rendered with, each with its weight there."""
        return self.files(self.plugin_set(group))

    def files(self, plugin_set: PluginSet | None) -> Stack:
        """Return the files of a set's plugins, with their weights, stages and sides."""
        members = () if plugin_set is None else plugin_set.members
        return tuple(
            replace(
                self.plugins[m.plugin.id],
                weight=m.weight,
                stages=m.stages,
                side=m.plugin.side,
                is_moved=m.is_moved,
            )
            for m in members
        )

    def files_by_audit(self) -> dict[str, PluginFile]:
        """Return the files that a run loads, by the names of their load audits."""
        moved = (file for group in self.groups for file in self.stack(group) if file.is_moved)
        return {file.audit_name: file for file in (*self.plugins.values(), *moved)}

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of rendering."""
        return [trial for group in self.groups for trial in group.trials]

    def counts(self) -> dict[str, int]:
        """Count the trials of each method."""
        return dict(Counter(trial.method for trial in self.trials))


def make_plan(job: Job, conditions: ConditionSet) -> Plan:
    """List every trial of a job.

    Raises one `UserError` if anything of the job is missing; other checks are preflight's.
    """
    job.require_complete()
    manifest, prefixes = job.manifest, job.selection.only
    plan = Plan(
        manifest=manifest,
        selection=job.selection,
        weights=dict(job.weights),
        plugins=job.files,
        plugin_sets={name: arrange_sets(manifest, name) for name in get_args(PluginArrangement)},
        cases={case.case_id: case for case in itertools.chain(*job.cases_by_set.values())},
        groups=(),
        remarks=tuple(job_remarks(job)),
        adapter=job.adapter,
        adapters=job.adapters,
    )
    groups = _groups(plan, job.cases_by_set, conditions)
    if prefixes is not None:
        chosen = _named_trials([t for group in groups for t in group.trials], prefixes)
        groups = [part for group in groups for part in _parts(group, chosen)]
    return replace(plan, groups=tuple(groups))


def _groups(plan: Plan, cases: CasesBySet, conditions: ConditionSet) -> list[Group]:
    """List batches of each model alone, then those of every plugin set.

    A remix has another upgraded model, so it gets trials of its own for every method.
    """
    by_arrangement: dict[PluginArrangement, list[MethodSpec]] = {}
    for spec in plan.manifest.methods:
        by_arrangement.setdefault(arrangement_of(find_method(spec.name)), []).append(spec)
    own = by_arrangement.pop("own", [])
    with_plugin = [m for m in own if find_method(m.name).uses_plugin]
    on_base, alone = (
        [m for m in own if m not in with_plugin and (find_method(m.name).side == "base") is is_base]
        for is_base in (True, False)
    )
    groups = _without_plugin(plan, cases, alone, conditions)
    groups += _without_plugin(plan, cases, on_base, conditions, side="base")
    for plugin_set in plan.plugin_sets["own"].values():
        pairs = _pairs(plan, plugin_set, cases)
        methods = [*with_plugin, *(alone if plugin_set.is_remix else ())]
        for batch in _batches(pairs) if methods else ():
            groups.append(_group(plan, plugin_set, batch, methods=methods, conditions=conditions))
        for name, specs in by_arrangement.items():
            if (other := plan.plugin_sets[name].get(plugin_set.id)) is not None:
                groups += [
                    _group(plan, other, b, methods=specs, conditions=conditions, arrangement=name)
                    for b in _batches(pairs)
                ]
    return groups


def _pairs(plan: Plan, plugin_set: PluginSet, cases: CasesBySet) -> list[tuple[Case, int]]:
    seeds = plugin_set.seeds or plan.manifest.seeds
    return [(case, seed) for seed in seeds for case in cases[plugin_set.id]]


def _without_plugin(
    plan: Plan,
    cases: CasesBySet,
    methods: Sequence[MethodSpec],
    conditions: ConditionSet,
    *,
    side: Side = "upgraded",
) -> list[Group]:
    """List batches of one model alone, the references of the plugin sets.

    Sets with equal settings share them; those with other settings have references at theirs. Of the
    upgraded model a remix has its own, with its plugins of that side.
    """
    if not methods:
        return []
    sets = plan.plugin_sets["own"].values()
    listed = [s for s in sets if side == "base" or not s.is_remix]
    settings_for = settings_of if side == "base" else settings_without_plugin
    measured: dict[str, set[tuple[str, int]]] = {}
    found: dict[str, Settings] = {}
    for plugin_set in listed:
        settings = settings_for(plugin_set, plan.manifest)
        found.setdefault(key := settings.model_dump_json(), settings)
        pairs = _pairs(plan, plugin_set, cases)
        measured.setdefault(key, set()).update((case.case_id, seed) for case, seed in pairs)
    every_seed = dict.fromkeys(s for one in listed for s in one.seeds or plan.manifest.seeds)
    return [
        _group(plan, None, batch, methods=methods, conditions=conditions, settings=settings)
        for key, settings in found.items()
        for batch in _batches(
            [
                (case, seed)
                for seed in every_seed
                for case in plan.cases.values()
                if (case.case_id, seed) in measured[key]
            ]
        )
    ]


def _batches(pairs: Sequence[tuple[Case, int]]) -> Iterator[Sequence[tuple[Case, int]]]:
    for start in range(0, len(pairs), BATCH_SIZE):
        yield pairs[start : start + BATCH_SIZE]


def _group(
    plan: Plan,
    plugin_set: PluginSet | None,
    batch: Sequence[tuple[Case, int]],
    *,
    methods: Sequence[MethodSpec],
    conditions: ConditionSet,
    arrangement: PluginArrangement = "own",
    settings: Settings | None = None,
) -> Group:
    """Return a batch; its settings are those of the plugin set unless they are given."""
    settings = settings or settings_of(plugin_set, plan.manifest)
    ids = [adapter.id for adapter in plan.adapters]
    variants = tuple(v for spec in methods for v in _variants(find_method(spec.name), spec, ids))
    trials = tuple(
        _trial(plan, plugin_set, case, seed, variant, settings=settings, conditions=conditions)
        for variant in variants
        for case, seed in batch
    )
    digest = hashlib.sha256(json.dumps([trial.trial_id for trial in trials]).encode())
    alone = "base-floor" if find_method(methods[0].name).side == "base" else "floor"
    name = alone if plugin_set is None else plugin_set.id
    members = tuple((case.case_id, seed) for case, seed in batch)
    set_id = None if plugin_set is None else plugin_set.id
    group_id = f"{name}-{digest.hexdigest()[:12]}"
    return Group(group_id, set_id, members, variants, trials, settings, arrangement)


def _variants(method: Method, spec: MethodSpec, ids: Sequence[str]) -> Iterator[Variant]:
    """Yield every combination of a method's settings, those with a mapper for each adapter."""
    t0s = spec.t0 or () if method.uses_t0 else (None,)
    plugin_scales = spec.plugin_scale if method.uses_plugin else (1.0,)
    own: Iterable[tuple[str | None, float | None]] = [(None, None)]
    if method.uses_adapter:
        own = itertools.product(ids or (None,), spec.adapter_scale or (1.0,))
    elif (knobs := knobs_of(method)) is not None:
        own = knobs.variants(spec)
    for plugin_scale, t0, (adapter, scale) in itertools.product(plugin_scales, t0s, own):
        yield Variant(spec.name, t0, plugin_scale, scale, adapter)


def _trial(
    plan: Plan,
    plugin_set: PluginSet | None,
    case: Case,
    seed: int,
    variant: Variant,
    *,
    settings: Settings,
    conditions: ConditionSet,
) -> Trial:
    manifest, method = plan.manifest, find_method(variant.method)
    stack, prompts = plan.files(plugin_set), prompts_of(plugin_set, case, family=manifest.family)
    inputs = TrialInputs(
        case=case,
        seed=seed,
        base_prompt=prompts.base,
        upgraded_prompt=prompts.upgraded,
        weights=mapper_weights(
            plan.weights, plan.adapters, variant.adapter if method.uses_adapter else None
        ),
        settings=settings,
        stack=tuple(_part(file, case, conditions) for file in stack),
        base_negative_prompt=prompts.base_negative,
        upgraded_negative_prompt=prompts.upgraded_negative,
        stage2_prompt=prompts.stage2,
        one_layout=family_traits(manifest.family).one_layout,
    )
    paths = {
        file.plugin_id: condition_name(case.case_id, file.condition, side=file.side)
        for file in stack
        if file.condition is not None
    }
    return Trial(
        trial_id=trial_id(method, variant, inputs),
        plugin="" if plugin_set is None else plugin_set.id,
        kind="" if plugin_set is None else plugin_set.kind,
        stack=json.dumps([file.plugin_id for file in stack]),
        method=variant.method,
        t0=variant.t0,
        plugin_scale=variant.plugin_scale if method.uses_plugin else None,
        adapter_scale=variant.adapter_scale,
        preset=settings.preset,
        stage1_mode=stage1_mode_of(method, settings),
        case_id=case.case_id,
        base_prompt=prompts.base,
        upgraded_prompt=prompts.upgraded,
        negative_prompt=case.negative_prompt,
        condition_path=next(iter(paths.values()), None),
        conditions=json.dumps(paths),
        seed=seed,
        settings=_other_settings(settings, manifest.settings),
        clip_skip=_clip_skip(settings) if method.uses_plugin or method.side == "base" else None,
        adapter=variant.adapter,
    )


def _clip_skip(settings: Settings) -> int | None:
    return None if settings.clip_skip == 1 else settings.clip_skip


def _other_settings(settings: Settings, common: Settings) -> str | None:
    """Return the settings of a trial that are not the manifest's, without clip_skip."""
    own = settings.model_dump(include={"steps", "guidance_scale", "sampler"})
    changed = {key: value for key, value in own.items() if value != getattr(common, key)}
    return json.dumps(changed, sort_keys=True) if changed else None


def _part(file: PluginFile, case: Case, conditions: ConditionSet) -> Part:
    detector = file.condition
    reference = None
    if needs_reference(file.kind):
        reference = conditions.reference_sha256(case, file.reference)
    return Part(
        file,
        None if detector is None else conditions.sha256(case, detector, side=file.side),
        reference,
    )


def _named_trials(trials: Sequence[Trial], prefixes: Sequence[str]) -> set[str]:
    """Return the ids that begin with the prefixes; `UserError` unless each has exactly one."""
    ids = [*dict.fromkeys(trial.trial_id for trial in trials)]
    found, problems = set(), []
    for prefix in prefixes:
        named = [trial_id for trial_id in ids if trial_id.startswith(prefix)]
        if not named:
            problems.append(
                f"--only: no trial of this manifest begins with {prefix!r}: the ids are in the "
                "names of the images; a change of the manifest changes them"
            )
        elif len(named) > 1:
            problems.append(
                f"--only: {len(named)} trials begin with {prefix!r} ({shortened(named, 3)}): add "
                "digits"
            )
        found.update(named)
    if problems:
        raise UserError.collect(problems)
    return found


def _parts(group: Group, chosen: Collection[str]) -> Iterator[Group]:
    """Yield batches with the chosen trials of a batch alone, one for each set of members."""
    n = len(group.members)
    by_members: dict[tuple[int, ...], list[int]] = {}
    for i in range(len(group.variants)):
        row = group.trials[i * n : (i + 1) * n]
        if wanted := tuple(m for m in range(n) if row[m].trial_id in chosen):
            by_members.setdefault(wanted, []).append(i)
    for members, variants in by_members.items():
        yield replace(
            group,
            group_id=f"{group.group_id}-{'-'.join(map(str, (*members, *variants)))}",
            members=tuple(group.members[m] for m in members),
            variants=tuple(group.variants[i] for i in variants),
            trials=tuple(group.trials[i * n + m] for i in variants for m in members),
        )
