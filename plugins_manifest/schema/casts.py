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
from plugins_manifest.schema.stacks import Lineup, Member, lineups

Cast = Literal["own", "native", "unplugged", "swapped"]
# what a plugin of the manifest must name so that a cast can be made of it
KEY_OF_CAST: dict[Cast, str] = {"native": "native", "swapped": "swap"}


def cast_lineups(manifest: Manifest, cast: Cast) -> dict[str, Lineup]:
    """The lineups by id in one cast; those with a plugin that lacks its partner are left out."""
    recast = _RECAST[cast]
    found: dict[str, Lineup] = {}
    for lineup in lineups(manifest):
        try:
            members = tuple(m for own in lineup.members for m in recast(own, manifest))
        except LookupError:
            continue
        found[lineup.id] = replace(lineup, members=members)
    return found


def _own(member: Member, manifest: Manifest) -> Iterator[Member]:
    yield member


def _native(member: Member, manifest: Manifest) -> Iterator[Member]:
    spec = member.plugin
    yield member if spec.side == "upgraded" else _partner(spec.native, manifest)


def _unplugged(member: Member, manifest: Manifest) -> Iterator[Member]:
    yield member if member.plugin.side == "upgraded" else replace(member, stages="first")


def _swapped(member: Member, manifest: Manifest) -> Iterator[Member]:
    yield from _unplugged(member, manifest)
    if member.plugin.side == "base":
        yield replace(_partner(member.plugin.swap, manifest), stages="second")


def _partner(name: str | None, manifest: Manifest) -> Member:
    """A plugin with its own weight; LookupError where none is named."""
    if name is None:
        raise LookupError("no partner is named")
    spec = manifest.plugin(name)
    return Member(spec, spec.weight)


_RECAST: dict[Cast, Callable[[Member, Manifest], Iterator[Member]]] = {
    "own": _own,
    "native": _native,
    "unplugged": _unplugged,
    "swapped": _swapped,
}
