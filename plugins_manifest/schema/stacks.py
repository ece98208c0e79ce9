"""What is attached together and measured as one row: a plugin alone, or a stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.plugins import PluginSpec, StackSpec
from plugins_manifest.schema.words import Side

STACK = "stack"
Stages = Literal["both", "first", "second"]


@dataclass(frozen=True)
class PluginInSet:
    """A plugin with the weight that it has here, and the stages in which it acts."""

    plugin: PluginSpec
    weight: float
    stages: Stages = "both"


@dataclass(frozen=True)
class PluginSet:
    """One or more plugins under one name; `kind` is the plugin's, or "stack".

    `prompts` and `seeds` are its own, None for the manifest's.
    """

    id: str
    kind: str
    members: tuple[PluginInSet, ...]
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
        """Triggers and tokens that a side's prompt needs, in order, none twice.

        Of the base side these are the words of stage 1.
        """
        return self._words(side, "second")

    def stage2_prompt(self, prompt: str, *, separator: str) -> str | None:
        """The base prompt of stage 2; None where the same plugins act in both stages."""
        if all(member.stages == "both" for member in self.members):
            return None
        return separator.join([prompt, *self._words("base", "first")])

    def _words(self, side: Side, without: Stages) -> list[str]:
        found = [
            m.plugin.words for m in self.members if m.plugin.side == side and m.stages != without
        ]
        return list(dict.fromkeys(word for word in found if word))

    def base_negative_prompt(self, prompt: str) -> str:
        """The base side's negative prompt: with the tokens of embeddings made for it."""
        tokens = [m.plugin.token for m in self.members if m.plugin.polarity == "negative"]
        return ", ".join(text for text in (prompt, *tokens) if text)


def plugin_sets(manifest: Manifest) -> Iterator[PluginSet]:
    """Everything a run measures: the plugins that may be alone, then the stacks."""
    for spec in manifest.plugins:
        if spec.alone and spec.side == "base":
            yield PluginSet(
                id=spec.id,
                kind=spec.kind,
                members=(PluginInSet(spec, spec.weight),),
                prompts=spec.prompts,
                seeds=spec.seeds,
            )
    for stack in manifest.stacks:
        yield PluginSet(
            id=stack.id,
            kind=STACK,
            members=tuple(_members(manifest, stack)),
            prompts=stack.prompts,
            seeds=stack.seeds,
        )


def _members(manifest: Manifest, stack: StackSpec) -> Iterator[PluginInSet]:
    for member in stack.plugins:
        spec, own = manifest.plugin(member.id), member.strength
        yield PluginInSet(spec, spec.weight if own is None else own)
