"""What each plugin is judged by: the metrics of a manifest by role, and the defaults without any.

A metric's traits decide: its role, its family, then its rank. Whether a metric applies to a plugin
is found with a probe, an image without pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from bench.errors import UserError
from bench.plan.metrics import expand_metrics, selected_metrics
from bench.registry import find_metric, installed, peek_metric
from metrics.base import Metric, Role, ScoredImage, Traits, traits_of
from plugins_manifest.installed import extension_errors
from plugins_manifest.schema import Manifest, PluginSet, plugin_sets
from plugins_manifest.schema.manifest import MethodSpec, PocketCases
from plugins_manifest.text import shortened

ROLES: tuple[Role, ...] = get_args(Role)
_REFERENCES = ("base", "floor")  # methods between which a plugin's function is measured
_N_NAMED = 3
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judge:
    """The metric that measures a plugin in one role, and why it cannot, or why there is none."""

    role: Role
    metric: str | None
    reason: str | None = None

    @property
    def measures(self) -> bool:
        """Whether the metric will have values."""
        return self.metric is not None and self.reason is None

    def as_data(self) -> dict[str, str | None]:
        """Return plain data for `--json`."""
        return {"metric": self.metric, "reason": self.reason}


def with_default_metrics(manifest: Manifest) -> Manifest:
    """Return the manifest; without `metrics`, with the defaults for its plugins.

    An empty list stays empty. For every plugin and role this is the metric of the lowest rank that
    applies: one of the family before others, one whose references are in the run and whose weights
    are here before others, a fallback after all others; then the metrics beside it. With native
    plugins (method oracle) the quality without style comes in too.
    """
    if "metrics" in manifest.model_fields_set:
        return manifest
    known = _known_metrics()
    names = dict.fromkeys(
        name
        for plugin_set in plugin_sets(manifest)
        for probe in _probes(plugin_set, manifest)
        for best in _best_of_each(known, probe, manifest)
        for name in (best, *_beside(known[best], probe))
    )
    return manifest.model_copy(update={"metrics": tuple(names)})


def with_brought_methods(manifest: Manifest) -> Manifest:
    """Return the manifest with the methods that its metrics bring with them, at the end."""
    names = expand_metrics(selected_metrics(manifest), manifest)
    brought = dict.fromkeys(m for n in names if n in installed("metrics") for m in _brings(n))
    lacking = [MethodSpec(name=name) for name in brought if name not in _methods(manifest)]
    if not lacking:
        return manifest
    return manifest.model_copy(update={"methods": (*manifest.methods, *lacking)})


def _brings(name: str) -> tuple[str, ...]:
    try:
        return traits_of(peek_metric(name)).brings
    except UserError:  # preflight reports it
        return ()


def judges(manifest: Manifest) -> dict[str, list[Judge]]:
    """Return id of each plugin or stack -> what judges it, one entry a role."""
    names = expand_metrics(selected_metrics(manifest), manifest)
    chosen = {name: find_metric(name) for name in names if name in installed("metrics")}
    every = _known_metrics()
    return {
        plugin_set.id: [
            _judge(role, chosen, every, probe=next(_probes(plugin_set, manifest)), of=manifest)
            for role in ROLES
        ]
        for plugin_set in plugin_sets(manifest)
    }


def judge_remarks(manifest: Manifest) -> Iterator[str]:
    """Yield what a run will not measure, for a warning before it renders."""
    found = judges(manifest)
    blind = [name for name, roles in found.items() if not any(judge.measures for judge in roles)]
    if blind and len(blind) == len(found):
        yield f"nothing will be scored: {_why(found[blind[0]])}"
    elif blind:
        yield f"nothing judges {shortened(blind, _N_NAMED)}: {_why(found[blind[0]])}"
    aimless = [
        name
        for name, roles in found.items()
        if name not in blind and any(j.role == "function" and not j.measures for j in roles)
    ]
    if aimless:
        reason = next(j.reason for j in found[aimless[0]] if j.role == "function")
        yield f"no metric measures the function of {shortened(aimless, _N_NAMED)}: {reason}"
    lacking = [m for m in _REFERENCES if m not in _methods(manifest)]
    if lacking and len(blind) < len(found):
        yield f"no verdicts without the methods base and floor: add {', '.join(lacking)}"


def _why(roles: Sequence[Judge]) -> str:
    return next(judge.reason or "" for judge in roles if judge.role == "function")


def _known_metrics() -> dict[str, Metric]:
    """Return the installed metrics of roles and quality; one that cannot be used is left out."""
    known: dict[str, Metric] = {}
    for name in installed("metrics"):
        try:
            metric = peek_metric(name)
            with extension_errors(f"metric {name!r}", "cannot be used"):
                traits = traits_of(metric)
                if traits.role is not None or traits.axis is not None:
                    known[name] = metric
        except UserError as error:
            _LOG.warning("not a default: %s", error)
    return known


def _probes(plugin_set: PluginSet, manifest: Manifest) -> Iterator[ScoredImage]:
    """Yield an image without pixels of a set, then one of each of its plugins."""
    has_scenes = isinstance(manifest.cases, PocketCases) and not plugin_set.prompts
    probe = blank_image(plugin_set, manifest.family)
    yield replace(probe, scene=(0, 0) if has_scenes else None)
    if len(plugin_set.members) > 1:
        for member in plugin_set.members:
            alone = replace(plugin_set, kind=member.plugin.kind, members=(member,))
            yield from _probes(alone, manifest)


def blank_image(plugin_set: PluginSet, family: str) -> ScoredImage:
    """Return an image of a set with what the manifest decides: kinds, conditions, trigger."""
    words = [m.plugin.words for m in plugin_set.members if m.plugin.side == "base"]
    triggers = [word for word in words if word]
    members = sorted(plugin_set.members, key=lambda member: member.plugin.side)
    conditions = dict.fromkeys(m.plugin.condition for m in members if m.plugin.condition)
    return ScoredImage(
        trial_id="",
        image_sha256="",
        plugin=plugin_set.id,
        kind=plugin_set.kind,
        method="base",
        t0=None,
        plugin_scale=None,
        adapter_scale=None,
        case_id="",
        seed=0,
        prompt="",
        load_picture=_no_pixels,
        load_condition=_no_pixels if conditions else None,
        detector=next(iter(conditions), None),
        family=family,
        trigger=triggers[0] if len(triggers) == 1 else None,
        kinds=tuple(member.plugin.kind for member in plugin_set.members),
        conditions=dict.fromkeys(conditions, _no_pixels),
    )


def _no_pixels() -> np.ndarray:
    raise ValueError("a probe has no pixels")


def _best_of_each(
    known: dict[str, Metric], probe: ScoredImage, manifest: Manifest
) -> Iterator[str]:
    """Yield the metric of each role for a plugin, and that of quality without style."""
    found = [_best(known, probe, manifest, role=role) for role in ROLES]
    if "oracle" in _methods(manifest):
        found.append(_best(known, probe, manifest, role=None))
    yield from (name for name in found if name is not None)


def _best(
    metrics: dict[str, Metric], probe: ScoredImage, manifest: Manifest, *, role: Role | None
) -> str | None:
    """Return the metric that represents a role for a plugin; None if none applies.

    Without a role, the distance to the segment from floor to oracle.
    """
    ranked = [
        (
            traits.is_fallback,
            not traits.families,
            bool(_missing_methods(metric, manifest)),
            bool(missing_weights(metric)),
            rank,
            name,
        )
        for name, metric in metrics.items()
        if (rank := _rank(traits := traits_of(metric), role)) is not None
        and traits.is_default_for(probe.family)
        and _applies(metric, probe)
    ]
    return min(ranked)[-1] if ranked else None


def _rank(traits: Traits, role: Role | None) -> int | None:
    """Return a metric's rank in a role, or without one along the segment; None if it has none."""
    if role is not None:
        return traits.rank if traits.role == role else None
    axis = traits.axis
    return axis.rank if axis is not None and axis.reference == "segment" else None


def _beside(metric: Metric, probe: ScoredImage) -> list[str]:
    """Return the metrics that are computed together with one, as far as they apply."""
    traits = traits_of(metric)
    place = traits.axis.place if traits.axis is not None else None
    names = (*traits.beside, *([place] if place else ()))
    return [n for n in names if n in installed("metrics") and _applies(peek_metric(n), probe)]


def _methods(manifest: Manifest) -> set[str]:
    return {spec.name for spec in manifest.methods}


def _missing_methods(metric: Metric, manifest: Manifest) -> list[str]:
    """Return the methods whose images a metric needs, and neither brings nor a manifest has."""
    traits = traits_of(metric)
    there = _methods(manifest) | {*traits.brings}
    return [m for m in traits.compares_with if m not in there]


def _applies(metric: Metric, probe: ScoredImage) -> bool:
    try:
        with extension_errors(f"metric {metric.name!r}", "cannot be used"):
            return bool(metric.applies_to(probe))
    except UserError as error:
        _LOG.warning("not a default: %s", error)
        return False


def missing_weights(metric: Metric) -> list[str]:
    """Return the weights that a metric needs and that are not on this machine."""
    from metrics.weights import CATALOG

    return [name for name in metric.needs if name in CATALOG and not CATALOG[name].is_here]


def _judge(
    role: Role,
    chosen: dict[str, Metric],
    every: dict[str, Metric],
    *,
    probe: ScoredImage,
    of: Manifest,
) -> Judge:
    """Return what judges a plugin: of the chosen metrics with values, that of the lowest rank."""
    ranked = sorted(
        (traits_of(metric).rank, name)
        for name, metric in chosen.items()
        if traits_of(metric).role == role and _applies(metric, probe)
    )
    obstacles = {name: _obstacle(chosen[name], of) for _, name in ranked}
    there = next((name for name, obstacle in obstacles.items() if obstacle is None), None)
    if there is not None:
        return Judge(role, there)
    if obstacles:
        return Judge(role, *next(iter(obstacles.items())))
    best = _best(every, probe, of, role=role)
    if best is None:
        return Judge(role, None, f"no installed metric measures its {role}")
    return Judge(role, None, f"none of the manifest's metrics measures its {role}: add {best}")


def _obstacle(metric: Metric, manifest: Manifest) -> str | None:
    """Return why a metric will have no values in a run; None if it will."""
    if methods := _missing_methods(metric, manifest):
        return f"{metric.name} compares with images of other methods: add {', '.join(methods)}"
    if weights := missing_weights(metric):
        fetch = f"xbench metrics fetch {' '.join(weights)}"
        return f"{metric.name} needs weights that are not here: {fetch}"
    return None
