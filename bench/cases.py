"""The cases of a run: those of the manifest, scenes of the pocket world, a plugin's own prompts."""

from __future__ import annotations

from dataclasses import replace

from plugins_manifest.cases import Case, coco_cases, file_cases, inline_cases
from plugins_manifest.schema import (
    CocoCases,
    FileCases,
    InlineCase,
    Manifest,
    PluginSpec,
    PocketCases,
)


def shared_cases(manifest: Manifest) -> list[Case]:
    """The cases that all plugins without prompts of their own get."""
    spec, negative = manifest.cases, manifest.settings.negative_prompt
    if isinstance(spec, PocketCases):
        return [replace(case, negative_prompt=negative) for case in pocket_cases(spec)]
    if isinstance(spec, CocoCases):
        return coco_cases(spec, folder=manifest.folder, negative_prompt=negative)
    if isinstance(spec, FileCases):
        return file_cases(spec, folder=manifest.folder, negative_prompt=negative)
    return inline_cases(spec, folder=manifest.folder, negative_prompt=negative)


def pocket_cases(spec: PocketCases) -> list[Case]:
    """The first `n` scenes of a list, with their captions."""
    from pocket.scenes import caption, scene_at

    return [
        Case(
            f"pocket-{spec.seed}-{index:04d}",
            caption(scene_at(spec.seed, index)),
            scene=(spec.seed, index),
        )
        for index in range(spec.n)
    ]


def own_cases(plugin: PluginSpec, manifest: Manifest) -> list[Case]:
    """The cases of a plugin that lists its own prompts; empty if it does not."""
    items = [InlineCase(prompt=prompt) for prompt in plugin.prompts or ()]
    return inline_cases(
        items,
        folder=manifest.folder,
        negative_prompt=manifest.settings.negative_prompt,
        prefix=plugin.id,
    )


def all_cases(manifest: Manifest, *, limit: int | None) -> dict[str, list[Case]]:
    """Plugin id -> its cases, the first `limit` of each list."""
    shared = shared_cases(manifest)
    return {
        plugin.id: (own_cases(plugin, manifest) if plugin.prompts else shared)[:limit]
        for plugin in manifest.plugins
    }


def prompts_of(plugin: PluginSpec, case: Case, *, family: str) -> tuple[str, str]:
    """Base and upgraded prompt: the base model gets the trigger too, the upgraded one does not."""
    if plugin.trigger is None:
        return case.prompt, case.prompt
    separator = " " if family == "pocket" else ", "
    return f"{case.prompt}{separator}{plugin.trigger}", case.prompt
