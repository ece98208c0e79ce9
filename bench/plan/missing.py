"""What a run will want that is not on this machine: sizes, licenses, and the commands that get it.

Nothing is downloaded, and no network is asked. What is missing is stood in for, so that the plan
can be counted all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.plan.cases import all_cases, own_cases
from bench.plan.conditions import UnmadeConditions, uses_network
from bench.plan.fetching import label_of, lock_of
from bench.plan.metrics import metrics_asked
from bench.plan.plan import Plan, make_plan
from bench.plan.plugin_files import NotFetchedError, plugin_file, resolve_plugin
from bench.plan.preflight_pictures import has_detector, wanted_conditions
from bench.plan.selection import Selection
from bench.registry import find_method, installed, load_entry
from plugins_manifest.cases.cases import Case
from plugins_manifest.cases.coco import CasesNotFetchedError
from plugins_manifest.schema.kinds import KINDS
from plugins_manifest.schema.manifest import Manifest, PluginSpec
from plugins_manifest.schema.stacks import plugin_sets
from runners.base import FamilySource, PluginFile
from runners.families.registry import family_fingerprint

_COCO_LICENSE = "captions CC BY 4.0, each photo its own"
_NOT_PINNED = "known once locked"
_MAPPER_MB = 900


@dataclass(frozen=True)
class MissingItem:
    """Something that is not here: `get` is the command, or what to do; sizes may be unknown.

    What `is_own` nobody publishes: the user brings it.
    """

    what: str
    get: str
    megabytes: int | None = None
    license: str | None = None
    is_own: bool = False

    def as_data(self) -> dict[str, object]:
        """Plain data for `--json`."""
        return asdict(self)


def outline(manifest: Manifest, selection: Selection) -> tuple[Plan, list[MissingItem]]:
    """The plan, and what is missing for it; conditions are not made.

    Ids of trials are those of the run only where nothing was missing. Raises `UserError` for what
    nothing can stand in for.
    """
    chosen = selection.apply(manifest)
    needs: list[MissingItem] = []
    plugins = {spec.id: _file_or_stand_in(spec, chosen, needs) for spec in chosen.plugins}
    cases = _cases_or_stand_ins(chosen, selection, needs)
    needs += [*_of_conditions(chosen, cases), *_of_metrics(chosen), *_of_family(chosen, selection)]
    settings = chosen.settings
    unmade = UnmadeConditions(
        chosen.family, settings.base_size, upgraded_size_px=settings.upgraded_size
    )
    weights = {"mapper": "", **family_fingerprint(chosen.family, adapter=selection.adapter)}
    plan = make_plan(manifest, selection, unmade, weights=weights, plugins=plugins, cases=cases)
    return plan, needs


def _file_or_stand_in(spec: PluginSpec, manifest: Manifest, needs: list[MissingItem]) -> PluginFile:
    try:
        return resolve_plugin(spec, manifest)
    except NotFetchedError:
        needs.append(_of_plugin(spec, manifest))
        sha256 = hashlib.sha256(spec.source.encode()).hexdigest()
        return plugin_file(spec, manifest, path=Path("not-fetched"), sha256=sha256)


def _of_plugin(spec: PluginSpec, manifest: Manifest) -> MissingItem:
    lock = lock_of(manifest)
    entry = lock.find(spec.id, spec.source) if lock else None
    n_bytes = entry.size_bytes if entry else None
    license_ = spec.license or (entry.license.name if entry else None)
    return MissingItem(
        f"plugin {spec.id} ({spec.kind})",
        f"xbench plugins fetch {label_of(manifest)}",
        round(n_bytes / 1e6) if n_bytes else KINDS[spec.kind].typical_mb,
        license_ or ("not stated" if entry else _NOT_PINNED),
    )


def _cases_or_stand_ins(
    manifest: Manifest, selection: Selection, needs: list[MissingItem]
) -> Mapping[str, list[Case]]:
    try:
        return all_cases(manifest, limit=selection.limit)
    except CasesNotFetchedError as missing:
        n = missing.n_cases
        what = f"{missing.n_photos:,} photos of COCO val2017"
        what += "" if missing.has_captions else ", and their captions"
        limit = f" --limit {selection.limit}" if selection.limit else ""
        command = f"xbench cases fetch {label_of(manifest)}{limit}"
        needs.append(MissingItem(what, command, round(missing.n_bytes / 1e6), _COCO_LICENSE))
    photos = [Case(f"coco-{i:04d}", f"caption {i}", image_path="not-fetched") for i in range(n)]
    return {
        plugin_set.id: own_cases(plugin_set, manifest)[: selection.limit]
        if plugin_set.prompts
        else photos
        for plugin_set in plugin_sets(manifest)
    }


def _of_conditions(manifest: Manifest, cases: Mapping[str, list[Case]]) -> Iterator[MissingItem]:
    for condition, wanted in wanted_conditions(manifest, cases).items():
        if not wanted.bare or not uses_network(condition):
            continue
        who = "plugin" if len(wanted.plugins) == 1 else "plugins"
        for_whom = f"for {who} {', '.join(wanted.plugins)}"
        if not has_detector(condition):
            yield MissingItem(
                f"{condition} images {for_whom}",
                "your own, finished, in condition_images of the manifest's cases, or in "
                "conditions/ beside the photos; no detector here makes them",
                is_own=True,
            )
            continue
        from metrics.condition.detectors import DETECTORS

        network = DETECTORS[condition].network
        if network is not None and not network.weights.is_here:
            yield _of_weights(network.weights.name, f"detector of {condition}, {for_whom}")


def _of_metrics(manifest: Manifest) -> Iterator[MissingItem]:
    """Weights of metrics; without them the scores are null with a reason, and nothing else."""
    from bench.scoring.suite import expand_metrics
    from metrics.weights.catalog import CATALOG

    wanted: dict[str, list[str]] = {}
    for name in expand_metrics(metrics_asked(manifest), manifest):
        for weights in load_entry("metrics", name)().needs:
            if weights in CATALOG and not CATALOG[weights].is_here:
                wanted.setdefault(weights, []).append(name)
    for weights, names in wanted.items():
        yield _of_weights(weights, f"for the scores {', '.join(names)}")


def _of_weights(name: str, why: str) -> MissingItem:
    from metrics.weights.catalog import CATALOG

    weights = CATALOG[name]
    command = f"xbench metrics fetch {name}"
    return MissingItem(f"{weights.title}: {why}", command, weights.megabytes, weights.license)


def _of_family(manifest: Manifest, selection: Selection) -> Iterator[MissingItem]:
    family: FamilySource = load_entry("families", manifest.family)
    for part in getattr(family, "sources", lambda adapter: ())(selection.adapter):
        if not part.is_here:
            what = f"{part.what} {part.source}"
            yield MissingItem(what, "the run itself, when it starts", part.megabytes, part.license)
    methods = [spec.name for spec in manifest.methods if spec.name in installed("methods")]
    needing = [name for name in methods if find_method(name).uses_adapter]
    if needing and (problem := family.mapper_problem(selection.adapter)) is not None:
        yield MissingItem(f"mapper for {', '.join(needing)}", problem.how, _MAPPER_MB)
