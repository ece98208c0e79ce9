"""Which plugins act where: a lineup's own, their native twins, or others in stage 2.

`own` is what a run measures. `native` puts the upgraded model's own plugins in their place (method
`oracle`). `unplugged` takes the base side's plugins and their words away for stage 2, `swapped`
puts others there: they tell what stage 2 takes from the plugin, beyond the picture of stage 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from plugins_manifest.schema.manifest import Manifest
from plugins_manifest.schema.stacks import PluginInSet, PluginSet, plugin_sets

PluginArrangement = Literal["own", "native", "unplugged", "swapped"]
# what a plugin of the manifest must name so that a cast can be made of it
KEY_OF_CAST: dict[PluginArrangement, str] = {"native": "native", "swapped": "swap"}


def arrange_sets(manifest: Manifest, cast: PluginArrangement) -> dict[str, PluginSet]:
    """The lineups by id in one cast; those with a plugin that lacks its partner are left out."""
    rearranged = _RECAST[cast]
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


def _unplugged(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    yield member if member.plugin.side == "upgraded" else replace(member, stages="first")


def _swapped(member: PluginInSet, manifest: Manifest) -> Iterator[PluginInSet]:
    yield from _unplugged(member, manifest)
    if member.plugin.side == "base":
        yield replace(_partner(member.plugin.swap, manifest), stages="second")


def _partner(name: str | None, manifest: Manifest) -> PluginInSet:
    """A plugin with its own weight; LookupError where none is named."""
    if name is None:
        raise LookupError("no partner is named")
    spec = manifest.plugin(name)
    return PluginInSet(spec, spec.weight)


_RECAST: dict[PluginArrangement, Callable[[PluginInSet, Manifest], Iterator[PluginInSet]]] = {
    "own": _own,
    "native": _native,
    "unplugged": _unplugged,
    "swapped": _swapped,
}
