"""The cases of a run: those of the manifest, scenes of the pocket world, a plugin's own prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.plan.plugin_files import label_of
from bench.registry import find_method, installed
from plugins_manifest.cases import Case, coco_cases, file_cases, inline_cases
from plugins_manifest.cases.cases import unnamed_id
from plugins_manifest.cases.finished import with_finished_conditions
from plugins_manifest.schema import Manifest, PluginSet, plugin_sets
from plugins_manifest.schema.manifest import CocoCases, FileCases, InlineCase, PocketCases
from plugins_manifest.schema.stacks import PluginArrangement, arrange_sets
from runners.families import family_traits
from runners.protocols import arrangement_of


def shared_cases(manifest: Manifest, *, limit: int | None = None) -> list[Case]:
    """Return the first `limit` cases, shared by all plugins without prompts of their own."""
    spec, negative = manifest.cases, manifest.settings.negative_prompt
    if isinstance(spec, PocketCases):
        return [replace(case, negative_prompt=negative) for case in pocket_cases(spec)]
    if isinstance(spec, CocoCases):
        return coco_cases(
            spec,
            folder=manifest.folder,
            negative_prompt=negative,
            limit=limit,
            label=label_of(manifest),
        )
    if isinstance(spec, FileCases):
        return file_cases(spec, folder=manifest.folder, negative_prompt=negative)
    return inline_cases(spec, folder=manifest.folder, negative_prompt=negative)


def pocket_cases(spec: PocketCases) -> list[Case]:
    """Return the first `n` scenes of a list, with their captions."""
    from pocket.scenes import caption, scene_at

    return [
        Case(
            f"pocket-{spec.seed}-{index:04d}",
            caption(scene_at(spec.seed, index)),
            scene=(spec.seed, index),
        )
        for index in range(spec.n)
    ]


def own_cases(plugin_set: PluginSet, manifest: Manifest) -> list[Case]:
    """Return the cases of a plugin or stack that lists its own prompts; empty if it does not."""
    items = [InlineCase(prompt=prompt) for prompt in plugin_set.prompts or ()]
    cases = inline_cases(
        items,
        folder=manifest.folder,
        negative_prompt=manifest.settings.negative_prompt,
        prefix=plugin_set.id,
    )
    return with_finished_conditions(cases, named_conditions(manifest), folder=manifest.folder)


def named_conditions(manifest: Manifest) -> str | None:
    """Return the folder of finished condition images that a manifest names, None without one."""
    spec = manifest.cases
    return spec.condition_images if isinstance(spec, CocoCases | FileCases) else None


def all_cases(manifest: Manifest, *, limit: int | None) -> dict[str, list[Case]]:
    """Return id of each plugin or stack -> its cases, the first `limit` of each list."""
    listed = list(plugin_sets(manifest))
    is_shared = not all(plugin_set.prompts for plugin_set in listed)
    shared = shared_cases(manifest, limit=limit) if is_shared else []
    return {
        plugin_set.id: (own_cases(plugin_set, manifest) if plugin_set.prompts else shared)[:limit]
        for plugin_set in listed
    }


def keep_case_ids(
    cases: Mapping[str, list[Case]], known: Mapping[str, Case], manifest: Manifest
) -> dict[str, list[Case]]:
    """Return the cases by set, unnamed ones with the ids that another run gave to their prompts.

    Earlier versions numbered them (case-0003). An image's noise follows its case id, so a run that
    is resumed or compared goes on with its own ids.
    """
    prefixes = {s.id: s.id if s.prompts else "case" for s in plugin_sets(manifest)}
    return {
        set_id: _with_ids_of(listed, known, prefixes[set_id]) for set_id, listed in cases.items()
    }


def _with_ids_of(cases: Sequence[Case], known: Mapping[str, Case], prefix: str) -> list[Case]:
    numbered = re.compile(rf"{re.escape(prefix)}-[0-9]{{4,6}}")
    old: dict[str, list[str]] = {}
    for case_id, case in known.items():
        if numbered.fullmatch(case_id):
            old.setdefault(case.prompt, []).append(case_id)
    found = []
    for case in cases:
        is_unnamed = case.case_id.startswith(unnamed_id(prefix, case.prompt))
        ids = old.get(case.prompt, []) if is_unnamed and case.case_id not in known else []
        found.append(replace(case, case_id=ids.pop(0)) if ids else case)
    return found


def rendered_sets(manifest: Manifest) -> Iterator[PluginSet]:
    """Yield what the manifest's methods render: its plugin sets in each method's arrangement."""
    methods = [m.name for m in manifest.methods if m.name in installed("methods")]
    names: list[PluginArrangement] = ["own", *(arrangement_of(find_method(m)) for m in methods)]
    for name in dict.fromkeys(names):
        yield from arrange_sets(manifest, name).values()


@dataclass(frozen=True)
class Prompts:
    """The prompts of a case with a plugin set: each side gets its own plugins' words.

    Of negative prompts too: the words of negative embeddings.

    `stage2` is the base prompt of stage 2, None if it is that of stage 1.
    """

    base: str
    upgraded: str
    base_negative: str
    upgraded_negative: str
    stage2: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """All prompts, None left out."""
        stage2 = () if self.stage2 is None else (self.stage2,)
        return (self.base, self.upgraded, self.base_negative, self.upgraded_negative, *stage2)


def prompts_of(plugin_set: PluginSet | None, case: Case, *, family: str) -> Prompts:
    """Return the prompts of a case; without a plugin set those of the upgraded model alone."""
    if plugin_set is None:
        negative = case.negative_prompt
        return Prompts(case.prompt, case.prompt, negative, negative)
    separator = family_traits(family).prompt_separator
    base, upgraded = plugin_set.prompts_of(case.prompt, separator=separator)
    return Prompts(
        base,
        upgraded,
        plugin_set.negative_prompt(case.negative_prompt, "base"),
        plugin_set.negative_prompt(case.negative_prompt, "upgraded"),
        plugin_set.stage2_prompt(case.prompt, separator=separator),
    )
