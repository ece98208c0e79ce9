"""What a run needs that is not on this machine: sizes, licenses, and the commands that get it.

Makes no network requests. Missing files are replaced by placeholders, so that the plan can be
counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plan.cases import named_conditions, own_cases, rendered_sets
from bench.plan.conditions import detector_entry, needs_finished, why_not_made
from bench.plan.job import CasesBySet, Job, MissingItem
from bench.plan.judges import missing_weights
from bench.plan.metrics import expand_metrics, selected_metrics
from bench.plan.plugin_files import plugin_file
from bench.registry import find_method, find_metric, installed
from plugins_manifest.cases import Case
from plugins_manifest.cases.finished import looked_for
from plugins_manifest.images import SUFFIXES
from plugins_manifest.schema import Manifest, plugin_sets
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.text import shortened
from runners.base import PluginFile
from runners.families import find_family
from runners.families.registry import never_a_mapper

if TYPE_CHECKING:
    from metrics.weights import Weights

N_SHOWN = 5


def with_placeholders(job: Job) -> Job:
    """Return the job with a placeholder for each missing plugin, case and mapper.

    Trial ids of its plan are those of the run only if nothing was missing.
    """
    manifest, cases = job.manifest, job.cases
    if isinstance(cases, MissingItem):
        cases = _placeholder_cases(cases.n_cases, manifest, job.selection.limit)
    specs = {spec.id: spec for spec in manifest.plugins}
    plugins = {
        name: file if isinstance(file, PluginFile) else _placeholder_file(specs[name], manifest)
        for name, file in job.plugins.items()
    }
    return replace(job, plugins=plugins, cases=cases, weights={"mapper": "", **job.weights})


def _placeholder_file(spec: PluginSpec, manifest: Manifest) -> PluginFile:
    sha256 = hashlib.sha256(spec.source.encode()).hexdigest()
    return plugin_file(spec, manifest, path=Path("not-fetched"), sha256=sha256)


def _placeholder_cases(n_cases: int, manifest: Manifest, limit: int | None) -> CasesBySet:
    photos = [
        Case(f"coco-{i:04d}", f"caption {i}", image_path="not-fetched") for i in range(n_cases)
    ]
    return {
        plugin_set.id: own_cases(plugin_set, manifest)[:limit] if plugin_set.prompts else photos
        for plugin_set in plugin_sets(manifest)
    }


def missing_items(job: Job) -> list[MissingItem]:
    """List everything that a run needs or downloads and that is not on this machine."""
    filled = with_placeholders(job)
    mapper = missing_mapper(job)
    return [
        *job.missing,
        *missing_conditions(filled),
        *_metric_weights(job.manifest),
        *_family_parts(job),
        *([] if mapper is None else [mapper]),
    ]


# --- condition images


@dataclass
class NeededCondition:
    """The plugins that need one condition, and their cases without finished images of it."""

    plugins: dict[str, None] = field(default_factory=dict)
    bare: dict[str, Case] = field(default_factory=dict)

    @property
    def noun(self) -> str:
        """The word "plugin" in singular or plural."""
        return "plugin" if len(self.plugins) == 1 else "plugins"

    @property
    def plugin_names(self) -> str:
        """The first plugins as messages name them."""
        return f"{self.noun} {quoted([*self.plugins])}"


def members_with_cases(job: Job) -> Iterator[tuple[PluginSpec, list[Case]]]:
    """Yield every plugin of every rendered set, with the set's cases."""
    for plugin_set in rendered_sets(job.manifest):
        for member in plugin_set.members:
            yield member.plugin, job.cases_by_set.get(plugin_set.id, [])


def needed_conditions(job: Job) -> dict[str, NeededCondition]:
    """Return condition -> the plugins and cases that need it."""
    found: dict[str, NeededCondition] = {}
    for spec, cases in members_with_cases(job):
        if spec.condition is not None:
            needed = found.setdefault(spec.condition, NeededCondition())
            needed.plugins[spec.id] = None
            bare = (c for c in cases if c.condition_path(spec.condition) is None)
            needed.bare |= {case.case_id: case for case in bare}
    return found


def lost_conditions(job: Job) -> Iterator[str]:
    """Yield the images that are missing in a folder that the manifest names in condition_images.

    They are never made from the photos instead.
    """
    folder = named_conditions(job.manifest)
    if folder is None:
        return
    for condition, needed in needed_conditions(job).items():
        if lost := [looked_for(case, condition, folder) for case in needed.bare.values()]:
            yield (
                f"{needed.plugin_names}: condition_images has no {condition} image for "
                f"{len(lost)} cases: there is no {shortened(lost, N_SHOWN)} (nor one that ends in "
                f"{', '.join(SUFFIXES)}): add it, or remove condition_images"
            )


def missing_conditions(job: Job) -> Iterator[MissingItem]:
    """Yield what the conditions need: finished images, or the weights of their detectors."""
    if named_conditions(job.manifest):
        return  # each missing image is a problem
    for condition, needed in needed_conditions(job).items():
        why = why_not_made(condition) if needed.bare else None
        if why is None:
            continue
        who = f"for {needed.noun} {', '.join(needed.plugins)}"
        cases = quoted([*needed.bare])
        problem = f"{needed.plugin_names}: {needs_finished(cases, condition, why)}"
        weights = _detector_weights(condition)
        if weights is not None:
            yield _of_weights(weights, f"detector of {condition}, {who}", problem)
            continue
        yield MissingItem(
            f"{condition} images {who}",
            "your own finished images, in condition_images of the manifest's cases or in "
            "conditions/ next to the photos; no detector makes them",
            is_own=True,
            problem=problem,
        )


def _detector_weights(condition: str) -> Weights | None:
    """Return the weights of a condition's detector; None without such a detector."""
    if condition not in installed("detectors"):
        return None
    network = getattr(detector_entry(condition), "network", None)
    return None if network is None else network.weights


def quoted(names: list[str]) -> str:
    """Return the first names, quoted, and how many more there are."""
    return shortened([repr(name) for name in names], N_SHOWN)


# --- weights of metrics and of the family


def _metric_weights(manifest: Manifest) -> Iterator[MissingItem]:
    """Yield weights of metrics; without them those scores are null, with the reason."""
    from metrics.weights import CATALOG

    users: dict[str, list[str]] = {}
    for name in expand_metrics(selected_metrics(manifest), manifest):
        for weights in missing_weights(find_metric(name)):
            users.setdefault(weights, []).append(name)
    for weights, names in users.items():
        yield _of_weights(CATALOG[weights], f"for the scores {', '.join(names)}")


def _of_weights(weights: Weights, why: str, problem: str | None = None) -> MissingItem:
    return MissingItem(
        f"{weights.title}: {why}",
        f"xbench metrics fetch {weights.name}",
        weights.megabytes,
        weights.license,
        problem=problem,
    )


def _family_parts(job: Job) -> Iterator[MissingItem]:
    """Yield the family's models that a run downloads when it starts."""
    family = find_family(job.manifest.family)
    for part in getattr(family, "sources", lambda adapter: ())(job.adapter):
        if not part.is_here:
            what = f"{part.what} {part.source}"
            yield MissingItem(what, "the run itself, when it starts", part.megabytes, part.license)


def missing_mapper(job: Job) -> MissingItem | None:
    """Return the mapper that a method needs, if the family comes without one."""
    methods = [spec.name for spec in job.manifest.methods if spec.name in installed("methods")]
    needing = ", ".join(name for name in methods if find_method(name).uses_adapter)
    if not needing or job.manifest.family not in installed("families"):
        return None
    family = find_family(job.manifest.family)
    # preflight refuses those
    if job.adapters or never_a_mapper(job.manifest.family) is not None:
        return None
    problem = family.mapper_problem(job.adapter)
    if problem is None:
        return None
    refusal = f"{needing} needs a mapper: {problem}"
    return MissingItem(f"mapper for {needing}", problem.how, problem.megabytes, problem=refusal)
