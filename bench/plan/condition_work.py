"""The conditions that take long: what networks detect, made before the plan, with progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tqdm import tqdm

from bench.plan.cases import all_cases, rendered_lineups
from bench.plan.conditions import ConditionSet, uses_network
from bench.plan.selection import Selection
from plugins_manifest.cases.cases import Case
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.words import Side


def make_slow_conditions(
    manifest: Manifest, selection: Selection, conditions: ConditionSet, *, show_progress: bool
) -> None:
    """Have every condition image that a network makes; what is there already is not made again."""
    chosen = selection.apply(manifest)
    if not any(spec.condition and uses_network(spec.condition) for spec in chosen.plugins):
        return
    cases = all_cases(chosen, limit=selection.limit)
    wanted = dict.fromkeys(_wanted(chosen, cases))
    quiet = None if show_progress else True
    for case, condition, side in tqdm(wanted, desc="conditions", unit="image", disable=quiet):
        conditions.sha256(case, condition, side=side)


def _wanted(
    manifest: Manifest, cases: Mapping[str, Sequence[Case]]
) -> Iterator[tuple[Case, str, Side]]:
    """Every case with each condition that a network makes of it, and the plugin's side."""
    for plugin_set in rendered_lineups(manifest):
        for member in plugin_set.members:
            condition = member.plugin.condition
            if condition is not None and uses_network(condition):
                for case in cases[plugin_set.id]:
                    yield case, condition, member.plugin.side
