"""The cases of a run: those of the manifest, scenes of the pocket world, a plugin's own prompts."""

from __future__ import annotations

from dataclasses import replace

from bench.fetching import label_of
from plugins_manifest.cases import Case, file_cases, inline_cases
from plugins_manifest.coco import coco_cases
from plugins_manifest.lineup import Lineup, lineups
from plugins_manifest.schema import (
    CocoCases,
    FileCases,
    InlineCase,
    Manifest,
    PocketCases,
)


def shared_cases(manifest: Manifest, *, limit: int | None = None) -> list[Case]:
    """The first `limit` of the cases that all plugins without prompts of their own get."""
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


def own_cases(lineup: Lineup, manifest: Manifest) -> list[Case]:
    """The cases of a lineup that lists its own prompts; empty if it does not."""
    items = [InlineCase(prompt=prompt) for prompt in lineup.prompts or ()]
    return inline_cases(
        items,
        folder=manifest.folder,
        negative_prompt=manifest.settings.negative_prompt,
        prefix=lineup.id,
    )


def all_cases(manifest: Manifest, *, limit: int | None) -> dict[str, list[Case]]:
    """Lineup id -> its cases, the first `limit` of each list; a plugin alone is a lineup too."""
    listed = list(lineups(manifest))
    is_shared = not all(lineup.prompts for lineup in listed)
    shared = shared_cases(manifest, limit=limit) if is_shared else []
    return {
        lineup.id: (own_cases(lineup, manifest) if lineup.prompts else shared)[:limit]
        for lineup in listed
    }


def prompts_of(lineup: Lineup, case: Case, *, family: str) -> tuple[str, str]:
    """Base and upgraded prompt: each side gets the triggers of its own plugins, and no others."""
    separator = " " if family == "pocket" else ", "
    return lineup.prompts_of(case.prompt, separator=separator)
