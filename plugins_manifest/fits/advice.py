"""What to do next with a file on a model, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from plugins_manifest.fits.targets import Target

Verdict = Literal["fits", "in-part", "does-not-fit"]


@dataclass(frozen=True)
class Upgrade:
    """A family of xbench: the base side's and the upgraded side's shapes; equal of fine-tunes.

    `methods` are those to try between models of two shapes.
    """

    family: str
    base: str
    upgraded: str
    methods: str = "xadapter and sdedit"


@dataclass(frozen=True)
class Situation:
    """A file's fit on one model: counts of layers, and what loaders refuse."""

    target: Target
    made_for: Target | None
    verdict: Verdict
    n_layers: int
    loaded: int
    other_shape: int
    is_network: bool
    diffusers: str | None


def advice(at: Situation, upgrades: Sequence[Upgrade]) -> str:
    """Return the next step."""
    if at.made_for is None:
        return "read on the page that it comes from which model it was made for"
    if at.verdict == "fits":
        return _of_fit(at, upgrades)
    if at.verdict == "in-part":
        return _of_part(at)
    for upgrade in upgrades:
        if (upgrade.base, upgrade.upgraded) == (at.made_for.base, at.target.base):
            name = upgrade.family
            file = "" if at.is_network else f"convert it (xbench convert FILE --to {name}), "
            return (
                f"run it through family {name} (methods {upgrade.methods} of xbench run), {file}"
                f"or search for a plugin made for {at.target.title}"
            )
    return f"search for a plugin made for {at.target.title}"


def _of_fit(at: Situation, upgrades: Sequence[Upgrade]) -> str:
    caveat = f"; {at.diffusers}" if at.diffusers else ""
    if at.made_for is not None and at.target.name == at.made_for.name:
        return f"load it as usual{caveat}"
    own = at.target.base
    families = [u.family for u in upgrades if (u.base, u.upgraded) == (own, own)]
    how = "compare images with and without it at the same seed"
    if families:
        how = f"measure it with method direct of xbench run, family {families[0]}"
    return f"it loads; shapes do not show whether its effect stays: {how}{caveat}"


def _of_part(at: Situation) -> str:
    caveat = f" ({at.diffusers})" if at.diffusers else ""
    return (
        f"{at.loaded} of {at.n_layers} layers load{caveat}: compare images with and without it, "
        f"or search for a plugin made for {at.target.title}"
    )
