"""What the cases lack for the plugins: condition images, pictures to make them from, references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.plan.cases import rendered_lineups
from bench.plan.conditions import needs_finished, why_not_made
from plugins_manifest.cases.cases import Case
from plugins_manifest.schema.kinds import needs_reference
from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.plugins import PluginSpec

N_SHOWN = 5


class Missing(str):
    """A problem that is gone once files are here: the message says how to get them."""

    __slots__ = ()


@dataclass
class Wanted:
    """What is wanted of one condition: by which plugins, of which cases without finished images."""

    plugins: dict[str, None] = field(default_factory=dict)
    bare: dict[str, Case] = field(default_factory=dict)


def wanted_conditions(manifest: Manifest, cases: Mapping[str, Sequence[Case]]) -> dict[str, Wanted]:
    """Condition -> what is wanted of it; `cases` are by lineup."""
    found: dict[str, Wanted] = {}
    for spec, own in _members(manifest, cases):
        if spec.condition is not None:
            wanted = found.setdefault(spec.condition, Wanted())
            wanted.plugins[spec.id] = None
            wanted.bare |= {c.case_id: c for c in own if c.condition_path(spec.condition) is None}
    return found


def picture_problems(manifest: Manifest, cases: Mapping[str, Sequence[Case]]) -> Iterator[str]:
    """All that is lacking, each condition told once with every plugin that wants it."""
    for condition, wanted in wanted_conditions(manifest, cases).items():
        yield from _condition_problems(condition, wanted)
    told: dict[str, None] = {}
    for spec, own in _members(manifest, cases):
        if needs_reference(spec.kind) and spec.reference is None:
            blank = [c.case_id for c in own if c.reference_path is None and not c.has_picture]
            if blank:
                told[
                    f"plugin {spec.id!r} needs a reference image, but {shown_names(blank)} has "
                    "none: add 'reference: PATH' to the plugin or to the case"
                ] = None
    yield from told


def _condition_problems(condition: str, wanted: Wanted) -> Iterator[str]:
    plugins = [*wanted.plugins]
    who = f"{'plugin' if len(plugins) == 1 else 'plugins'} {shown_names(plugins)}"
    if wanted.bare and (why := why_not_made(condition)) is not None:
        text = f"{who}: {needs_finished(shown_names([*wanted.bare]), condition, why)}"
        yield Missing(text)
        return
    blank = [case_id for case_id, case in wanted.bare.items() if not case.has_picture]
    if blank:
        verb = "needs" if len(plugins) == 1 else "need"
        yield (
            f"{who} {verb} a condition, but {shown_names(blank)} has no picture: add "
            "'image: PATH' to the case"
        )


def has_detector(condition: str) -> bool:
    """Whether a detector is known here, with or without its weights."""
    from metrics.condition.detectors import DETECTORS

    return condition in DETECTORS


def _members(
    manifest: Manifest, cases: Mapping[str, Sequence[Case]]
) -> Iterator[tuple[PluginSpec, Sequence[Case]]]:
    for plugin_set in rendered_lineups(manifest):
        for member in plugin_set.members:
            yield member.plugin, cases[plugin_set.id]


def shown_names(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    text = ", ".join(repr(name) for name in names[:N_SHOWN])
    return text if len(names) <= N_SHOWN else f"{text} and {len(names) - N_SHOWN} more"
