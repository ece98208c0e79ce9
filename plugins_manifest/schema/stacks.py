"""Plugins that are attached together and measured as one row, and their other arrangements.

A set is a plugin alone, or a stack. Arrangement `own` is what a run measures. `native` replaces the
plugins by the upgraded model's own ones (method `oracle`), `converted` by what was made of their
files for it (method `converted`). In stage 2, `unplugged` removes the base
side's plugins and their words, and `swapped` replaces them by others: they measure what stage 2
takes from the plugin, beyond the picture of stage 1. `direct` loads the base side's plugins into
the upgraded model (method `direct`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from plugins_manifest.schema.manifest import Manifest, Settings
from plugins_manifest.schema.plugins import PluginSettings, PluginSpec, StackSpec
from plugins_manifest.schema.words import Side

STACK = "stack"
Stages = Literal["both", "first", "second"]
PluginArrangement = Literal["own", "native", "converted", "unplugged", "swapped", "direct"]
# key that a plugin of the manifest needs for an arrangement
PARTNER_KEYS: dict[PluginArrangement, str] = {
    "native": "native",
    "converted": "converted",
    "swapped": "swap",
}


@dataclass(frozen=True)
class PluginInSet:
    """A plugin with its weight in the set, and the stages in which it acts.

    `is_moved`: a plugin of the base side that is loaded into the upgraded model; its `plugin` is on
    the upgraded side.
    """

    plugin: PluginSpec
    weight: float
    stages: Stages = "both"
    is_moved: bool = False


@dataclass(frozen=True)
class PluginSet:
    """One or more plugins under one name; `kind` is the plugin's, or "stack".

    `prompts`, `seeds` and the given values of `settings` replace the manifest's.
    """

    id: str
    kind: str
    members: tuple[PluginInSet, ...]
    prompts: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    settings: PluginSettings | None = None

    @property
    def is_remix(self) -> bool:
        """Whether some plugins are on the upgraded side."""
        return any(member.plugin.side == "upgraded" for member in self.members)

    def prompts_of(self, prompt: str, *, separator: str) -> tuple[str, str]:
        """Return base and upgraded prompt: each side gets the words of its own plugins."""
        return (
            separator.join([prompt, *self.words("base")]),
            separator.join([prompt, *self.words("upgraded")]),
        )

    def words(self, side: Side) -> list[str]:
        """Return triggers and tokens of a side's prompt, in order, without duplicates.

        For the base side these are the words of stage 1.
        """
        return self._words(side, "second")

    def stage2_prompt(self, prompt: str, *, separator: str) -> str | None:
        """Return the base prompt of stage 2; None if the same plugins act in both stages."""
        if all(member.stages == "both" for member in self.members):
            return None
        return separator.join([prompt, *self._words("base", "first")])

    def _words(self, side: Side, without: Stages) -> list[str]:
        found = [
            m.plugin.words for m in self.members if m.plugin.side == side and m.stages != without
        ]
        return list(dict.fromkeys(word for word in found if word))

    def negative_prompt(self, prompt: str, side: Side) -> str:
        """Return a side's negative prompt with the tokens of its negative embeddings."""
        own = [m.plugin for m in self.members if m.plugin.side == side]
        tokens = [plugin.token for plugin in own if plugin.polarity == "negative"]
        return ", ".join(text for text in (prompt, *tokens) if text)


def plugin_sets(manifest: Manifest) -> Iterator[PluginSet]:
    """Return everything that a run measures: the plugins that may be alone, then the stacks."""
    for spec in manifest.plugins:
        if spec.alone and spec.side == "base":
            yield PluginSet(
                id=spec.id,
                kind=spec.kind,
                members=(PluginInSet(spec, spec.weight),),
                prompts=spec.prompts,
                seeds=spec.seeds,
                settings=spec.settings,
            )
    for stack in manifest.stacks:
        members = tuple(_members(manifest, stack))
        yield PluginSet(
            id=stack.id,
            kind=STACK,
            members=members,
            prompts=stack.prompts,
            seeds=stack.seeds,
            settings=_joined([*(m.plugin.settings for m in members), stack.settings]),
        )


def settings_of(plugin_set: PluginSet | None, manifest: Manifest) -> Settings:
    """Return the settings of a set's images in every method and arrangement; None: no set."""
    own = None if plugin_set is None else plugin_set.settings
    if own is None:
        return manifest.settings
    return manifest.settings.model_copy(update=own.model_dump(exclude_none=True))


def settings_without_plugin(plugin_set: PluginSet, manifest: Manifest) -> Settings:
    """Return the settings of the set's references by the upgraded model alone.

    They are the set's, so that nothing but the plugins differs; clip_skip is the base side's.
    """
    own = settings_of(plugin_set, manifest)
    return own.model_copy(update={"clip_skip": manifest.settings.clip_skip})


def _joined(found: Sequence[PluginSettings | None]) -> PluginSettings | None:
    """Return all given values; those of a later item replace those of the earlier ones."""
    values: dict[str, Any] = {}
    for own in found:
        values |= {} if own is None else own.model_dump(exclude_none=True)
    return PluginSettings(**values) if values else None


def _members(manifest: Manifest, stack: StackSpec) -> Iterator[PluginInSet]:
    for member in stack.plugins:
        spec, own = manifest.plugin(member.id), member.strength
        yield PluginInSet(spec, spec.weight if own is None else own)


def arrange_sets(manifest: Manifest, arrangement: PluginArrangement) -> dict[str, PluginSet]:
    """Return the sets by id in one arrangement, without those where a plugin lacks its partner."""
    rearranged = _REARRANGED[arrangement]
    found: dict[str, PluginSet] = {}
    for plugin_set in plugin_sets(manifest):
        try:
            members = tuple(m for own in plugin_set.members for m in rearranged(own, manifest))
        except LookupError:
            continue
        found[plugin_set.id] = replace(plugin_set, members=members)
    return found


def _own(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    yield member


def _native(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    spec = member.plugin
    yield member if spec.side == "upgraded" else _partner(spec.native, manifest)


def _converted(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    spec = member.plugin
    yield member if spec.side == "upgraded" else _partner(spec.converted, manifest)


def _unplugged(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    yield member if member.plugin.side == "upgraded" else replace(member, stages="first")


def _swapped(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    yield from _unplugged(member, manifest)
    if member.plugin.side == "base":
        yield replace(_partner(member.plugin.swap, manifest), stages="second")


def _direct(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    if member.plugin.side == "upgraded":
        yield member
        return
    moved = member.plugin.model_copy(update={"side": "upgraded"})
    yield replace(member, plugin=moved, is_moved=True)


def _partner(name: str | None, manifest: Manifest) -> PluginInSet:
    """Return a plugin with its own weight; LookupError without a name."""
    if name is None:
        raise LookupError("no partner")
    spec = manifest.plugin(name)
    return PluginInSet(spec, spec.weight)


_REARRANGED: dict[PluginArrangement, Callable[[PluginInSet, Manifest], Iterator[PluginInSet]]] = {
    "own": _own,
    "native": _native,
    "converted": _converted,
    "unplugged": _unplugged,
    "swapped": _swapped,
    "direct": _direct,
}
