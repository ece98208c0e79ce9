"""Renderer of one family, loaded before the first batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.plan import Plan
from bench.registry import find_method
from bench.render.audit import Audited, audited
from bench.render.execute import bare_case, render_settings
from bench.store.image_cache import render_context
from plugins_manifest.progress import Progress
from runners.base import Batch, RenderCase, Rendered, RenderSettings, Stack, Variant
from runners.deadline import DeadlineError
from runners.options import DeviceOptions
from runners.quiet import quiet_libraries

if TYPE_CHECKING:
    from runners.batches import BatchSize
    from runners.families import Family


_LOG = logging.getLogger(__name__)


@dataclass
class KeptModels:
    """A loaded family that the runs of one process share; each has a mapper of its own.

    It is loaded by the first run, if it is not given, and only on plain devices: `DeviceOptions`
    that change the models load their own.
    """

    family: Family | None = None

    def with_mapper(self, plan: Plan, device: str) -> Family | None:
        """Return the family with the plan's mapper; None where it has to be loaded."""
        family, dtype = self.family, plan.manifest.settings.dtype
        if family is None or plan.adapter is None:
            return None
        wanted = (plan.manifest.family, device, dtype)
        if (family.name, family.device.partition(":")[0], family.dtype) != wanted:
            return None
        from runners.families import reload_mapper

        return reload_mapper(family, plan.adapter, planned=plan.weights)


class FamilyRenderer:
    """Renders groups with the plan's family; `batch` as `--batch`, `options` as its own.

    `kept` are the models of earlier runs.
    """

    def __init__(
        self,
        plan: Plan,
        device: str,
        *,
        batch: Batch = None,
        options: DeviceOptions | None = None,
        kept: KeptModels | None = None,
    ) -> None:
        self._plan = plan
        self.device = device
        self._batch: Batch = batch
        self._options = options or DeviceOptions()
        self._kept = kept if self._options == DeviceOptions() else None
        self._size: BatchSize | None = None
        self._family: Family | None = None

    def prepare(self) -> None:
        """Load the family and check all batches against it, once.

        Raises one `UserError` for a mapper that does not fit, sizes that the models cannot make,
        and prompts that are too long.
        """
        if self._family is None:
            with Progress(f"loading the models of {self._plan.manifest.family}"):
                self._family = self._load()
                self._check(self._family)

    def __call__(
        self,
        stack: Stack,
        cases: Sequence[RenderCase],
        variants: Sequence[Variant],
        settings: RenderSettings,
    ) -> Iterator[Rendered | Audited]:
        """Call `run_group` with the plan's family; needs `prepare` first.

        If a method changes the models, its images fail, the family is loaded again, and the other
        variants go on. After a deadline the family is loaded again too.
        """
        from runners.guard import ModelsChangedError

        left = list(variants)
        while left:
            try:
                for result in self._run(stack, cases, tuple(left), settings):
                    if isinstance(result, Rendered) and result.index == len(cases) - 1:
                        left.remove(result.variant)
                    yield result
                return
            except DeadlineError:
                self._forget()
                raise
            except ModelsChangedError as error:
                _LOG.warning("%s; the models are loaded again", error)
                self._forget()
                left.remove(error.variant)
                for index in range(len(cases)):
                    yield Rendered(error.variant, index, None, 0.0, 0.0, error=str(error))
                self.prepare()

    def _run(
        self,
        stack: Stack,
        cases: Sequence[RenderCase],
        variants: Sequence[Variant],
        settings: RenderSettings,
    ) -> Iterator[Rendered | Audited]:
        from runners.batches import BatchSize
        from runners.group import run_group

        if self._family is None:
            raise RuntimeError("prepare() must be called before rendering")
        self._size = size = self._size or BatchSize.on(self.device, self._batch)
        run = partial(run_group, self._family, stack, cases, variants, settings, batch=size)
        return audited(stack, lambda on_loaded: run(on_loaded=on_loaded))

    @property
    def context(self) -> str:
        """What changes pixels besides the trial."""
        return context_of(self._plan, self.device, self._options)

    def is_usable(self) -> bool:
        """Return whether the device still computes."""
        from runners.device import is_usable

        return is_usable(self.device)

    def _load(self) -> Family:
        from runners.families import load_family
        from runners.families.options import with_options

        quiet_libraries()
        manifest, options = self._plan.manifest, self._options
        kept = self._kept
        if kept is not None and (found := kept.with_mapper(self._plan, self.device)) is not None:
            return found
        family = load_family(
            manifest.family,
            device="cpu" if options.low_memory else self.device,
            dtype=manifest.settings.dtype,
            adapter=self._plan.adapter,
            planned=self._plan.weights,
            adapters=self._plan.adapters,
        )
        family = with_options(family, self.device, options)
        if kept is not None:
            kept.family = family
        return family

    def _forget(self) -> None:
        """Drop models that are not as they were loaded."""
        self._family = None
        if self._kept is not None:
            self._kept.family = None

    def _check(self, family: Family) -> None:
        from runners.checks import check_group

        methods = {v.method: find_method(v.method) for g in self._plan.groups for v in g.variants}
        problems: dict[str, None] = {}
        for group in self._plan.groups:
            try:
                members = range(len(group.members))
                cases = [bare_case(self._plan, group, index) for index in members]
                check_group(
                    family,
                    None,
                    cases=cases,
                    variants=group.variants,
                    settings=render_settings(group.settings),
                    methods=methods,
                )
            except UserError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise UserError.collect(list(problems))


def context_of(plan: Plan, device: str, options: DeviceOptions) -> str:
    """Return the render context of a plan's images on a device."""
    sizes = [(*g.settings.base_size, *g.settings.upgraded_size) for g in plan.groups]
    largest_px = max((side for size in sizes for side in size), default=0)
    return render_context(
        dtype=plan.manifest.settings.dtype,
        device_kind=device,
        marks=options.marks(device, largest_px),
    )
