"""The real renderer behind an execution: one family, loaded when the first batch comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.plan import Plan
from runners.base import PluginFile, RenderCase, Rendered, RenderSettings, Variant

if TYPE_CHECKING:
    from runners.families import Family


class FamilyRenderer:
    """Renders groups with a family that is loaded when the first group comes."""

    def __init__(self, plan: Plan, device: str) -> None:
        self._plan = plan
        self._device = device
        self._family: Family | None = None

    def __call__(
        self,
        plugin: PluginFile | None,
        cases: Sequence[RenderCase],
        variants: Sequence[Variant],
        settings: RenderSettings,
    ) -> Iterator[Rendered]:
        """`run_group` with the plan's family."""
        from runners.group import run_group

        return run_group(self._loaded(), plugin, cases, variants, settings)

    def _loaded(self) -> Family:
        from runners.families import load_family

        if self._family is None:
            _quiet_libraries()
            self._family = load_family(
                self._plan.manifest.family,
                device=self._device,
                dtype=self._plan.manifest.settings.dtype,
                adapter=self._plan.selection.adapter,
            )
        return self._family


def _quiet_libraries() -> None:
    """Keep diffusers' and transformers' own bars and hints out of ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
