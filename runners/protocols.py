"""The protocol of a method, and its optional traits with their defaults. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from plugins_manifest.installed import (
    describe_entry,
    extension_errors,
    load_entry,
    require_contract,
)
from plugins_manifest.schema.stacks import PluginArrangement
from plugins_manifest.schema.words import Side, Stage1Mode
from runners.base import MethodCost, PassName, RenderSettings, Variant

if TYPE_CHECKING:
    from plugins_manifest.cases import Case
    from plugins_manifest.schema import Settings
    from plugins_manifest.schema.manifest import MethodSpec
    from runners.families import Family
    from runners.session import GroupSession


class Method(Protocol):
    """A way to make an image; `side` names the model whose image size it has.

    `shares` names the passes of `GroupSession` that it reads, so that their seconds are split over
    the trials that use them. Further traits are optional:

    - `arrangement`: the plugins it is rendered with, see `plugins_manifest.schema.stacks` (default
      "own"; `cast` is the older name of this trait);
    - `uses_base`: whether the base model and its prompts decide its pixels (default: with
      `uses_plugin`, and of side "base");
    - `uses_upgraded`: whether the upgraded model's weights decide its pixels (default: side
      "upgraded");
    - `stage1_mode`: how stage 1 runs (default: that of the settings);
    - `style`: a `runners.base.MethodStyle`, its look and sentence in reports and charts;
    - `cost(settings)`: a `runners.base.MethodCost` for the estimate of a run;
    - `knobs`: a `Knobs`, the settings that it alone has in a manifest (default: none).
    """

    name: str
    uses_t0: bool
    uses_plugin: bool
    uses_adapter: bool
    side: Side
    shares: tuple[PassName, ...]

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Return uint8 RGB [n cases, height, width, 3]."""
        ...


class Knobs(Protocol):
    """Settings that a method alone has; a variant names them in `adapter` and `adapter_scale`."""

    keys: tuple[str, ...]

    def variants(self, spec: MethodSpec) -> Iterator[tuple[str | None, float | None]]:
        """Yield (`adapter`, `adapter_scale`) of every combination in a manifest's entry."""
        ...

    def facts(self, variant: Variant, case: Case) -> dict[str, Any]:
        """Return all that decides pixels, beyond what every method has, as JSON data."""
        ...

    def cost(self, settings: Settings, variant: Variant) -> MethodCost:
        """Return the cost of a variant."""
        ...

    def problem(self, variant: Variant, family: Family) -> str | None:
        """Return why the models cannot render a variant; None if they can."""
        ...


@cache
def find_method(name: str) -> Method:
    """Return the installed method of a name; `UserError` with the nearest names if unknown.

    Its own name must be that of the entry point: trials are identified by it.
    """
    kind = load_entry("methods", name)
    with extension_errors(describe_entry("methods", name), "cannot be made"):
        method: Method = kind()
    require_contract("methods", name, method, Method)
    return method


def arrangement_of(method: Method) -> PluginArrangement:
    """Return which plugins a method is rendered with."""
    return getattr(method, "arrangement", None) or getattr(method, "cast", "own")


def stage1_mode_of(method: Method, settings: RenderSettings | Settings) -> Stage1Mode:
    """Return the method's own way to run stage 1, else that of the settings."""
    own: Stage1Mode | None = getattr(method, "stage1_mode", None)
    return own or settings.stage1_mode


def uses_base(method: Method) -> bool:
    """Return whether the base model and its prompts decide a method's pixels."""
    return bool(getattr(method, "uses_base", method.uses_plugin or method.side == "base"))


def uses_upgraded(method: Method) -> bool:
    """Return whether the upgraded model's weights decide a method's pixels."""
    return bool(getattr(method, "uses_upgraded", method.side == "upgraded"))


def knobs_of(method: Method) -> Knobs | None:
    """Return the settings that a method alone has; None without any."""
    return getattr(method, "knobs", None)


def cost_of(method: Method, settings: Settings, variant: Variant | None = None) -> MethodCost:
    """Return a method's own cost; by default that of a stage 2, with the mapper if it has one."""
    if variant is not None and (knobs := knobs_of(method)) is not None:
        return knobs.cost(settings, variant)
    if (own := getattr(method, "cost", None)) is not None:
        return own(settings)
    return MethodCost(
        base_calls=int(method.uses_adapter),
        mapper_calls=int(method.uses_adapter),
        upgraded_calls=1,
        n_encodes=int(method.uses_t0),
        n_decodes=1,
    )
