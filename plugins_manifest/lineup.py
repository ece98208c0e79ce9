"""What is attached together and measured as one row: a plugin alone, or a stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from plugins_manifest.plugin_schema import PluginSpec, Side, StackSpec
from plugins_manifest.schema import Manifest

STACK = "stack"


@dataclass(frozen=True)
class Member:
    """A plugin with the weight that it has here."""

    plugin: PluginSpec
    weight: float


@dataclass(frozen=True)
class Lineup:
    """One or more plugins under one name; `kind` is the plugin's, or "stack".

    `prompts` and `seeds` are its own, None for the manifest's.
    """

    id: str
    kind: str
    members: tuple[Member, ...]
    prompts: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None

    @property
    def is_remix(self) -> bool:
        """Whether the upgraded model has plugins of its own."""
        return any(member.plugin.side == "upgraded" for member in self.members)

    def prompts_of(self, prompt: str, *, separator: str) -> tuple[str, str]:
        """Base and upgraded prompt: each side gets the words of its own plugins."""
        return (
            separator.join([prompt, *self.words("base")]),
            separator.join([prompt, *self.words("upgraded")]),
        )

    def words(self, side: Side) -> list[str]:
        """Triggers and tokens that a side's prompt needs, in order, none twice."""
        found = [m.plugin.words for m in self.members if m.plugin.side == side]
        return list(dict.fromkeys(word for word in found if word))

    def base_negative_prompt(self, prompt: str) -> str:
        """The base side's negative prompt: with the tokens of embeddings made for it."""
        tokens = [m.plugin.token for m in self.members if m.plugin.polarity == "negative"]
        return ", ".join(text for text in (prompt, *tokens) if text)


def lineups(manifest: Manifest) -> Iterator[Lineup]:
    """Everything a run measures: the plugins that may be alone, then the stacks."""
    for spec in manifest.plugins:
        if spec.alone and spec.side == "base":
            yield Lineup(
                id=spec.id,
                kind=spec.kind,
                members=(Member(spec, spec.weight),),
                prompts=spec.prompts,
                seeds=spec.seeds,
            )
    for stack in manifest.stacks:
        yield Lineup(
            id=stack.id,
            kind=STACK,
            members=tuple(_members(manifest, stack)),
            prompts=stack.prompts,
            seeds=stack.seeds,
        )


def native_lineups(manifest: Manifest) -> Iterator[Lineup]:
    """The lineups of which every plugin has a native twin, made of the upgraded model's plugins."""
    for lineup in lineups(manifest):
        if (twin := _native(lineup, manifest)) is not None:
            yield twin


def _native(lineup: Lineup, manifest: Manifest) -> Lineup | None:
    members = []
    for member in lineup.members:
        spec = member.plugin
        if spec.side == "upgraded":
            members.append(member)
        elif spec.native is None:
            return None
        else:
            twin = manifest.plugin(spec.native)
            members.append(Member(twin, twin.weight))
    return replace(lineup, members=tuple(members))


def find_lineup(manifest: Manifest, name: str) -> Lineup:
    """The lineup of this id; KeyError if there is none."""
    return {lineup.id: lineup for lineup in lineups(manifest)}[name]


def _members(manifest: Manifest, stack: StackSpec) -> Iterator[Member]:
    for member in stack.plugins:
        spec, own = manifest.plugin(member.id), member.strength
        yield Member(spec, spec.weight if own is None else own)
