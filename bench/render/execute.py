"""Execute a plan batch by batch, resumable, with one row for every trial that fails.

The batch is the unit of work. Its images are written as they come, its rows in one file at its
end; an interrupted batch has no rows and is rendered again with the same members.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bench.errors import UserError
from bench.plan import ConditionSet, Plan, Trial
from bench.plan.cases import prompts_of
from bench.plan.plan import Group
from bench.render.budget import Budget
from bench.store import ImageCache, Row, RunStore
from bench.store.files import png_bytes, write_bytes
from bench.store.image_cache import CACHED_FACTS
from plugins_manifest.content import ChangedFileError
from plugins_manifest.installed import describe_error
from plugins_manifest.interrupts import Interrupts
from plugins_manifest.outputs import one_line
from plugins_manifest.progress import Progress
from plugins_manifest.schema import Settings
from plugins_manifest.schema.kinds import needs_reference
from runners.base import RenderCase, Rendered, RenderSettings, Stack, Variant
from runners.deadline import Deadline, DeadlineError

_LOG = logging.getLogger(__name__)
_N_WRITERS = 4  # at a batch's end its last images are encoded side by side
_LONGEST_NAME = 40  # characters of a progress bar's title
_Batch = tuple[Stack, Sequence[RenderCase], Sequence[Variant], RenderSettings]

Render = Callable[
    [Stack, Sequence[RenderCase], Sequence[Variant], RenderSettings],
    Iterator[Rendered],
]


@dataclass
class Stopwatch:
    """Seconds spent inside models (loading included) and inside metrics."""

    models: float = 0.0
    metrics: float = 0.0

    @contextmanager
    def in_models(self) -> Iterator[None]:
        """Count the time inside the context as the models'."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.models += time.perf_counter() - started

    @contextmanager
    def in_metrics(self) -> Iterator[None]:
        """Count the time inside the context as the metrics'."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.metrics += time.perf_counter() - started


@dataclass
class Execution:
    """Everything that rendering batches needs.

    `render` is `runners.group.run_group` with its family; `prepare` loads that family and is called
    before every batch that has something to render. Its errors end the run, and so does a file
    that is not the planned one; any other error fails its batch. A batch may take `batch_timeout`
    seconds. With `only`, just these trials are made, with their whole batch, so that their pixels
    are those of a whole run. Once the `budget` is reached, the run ends after the variant in
    progress, whose members are all made: what is left is rendered later with the same members.
    """

    plan: Plan
    store: RunStore
    conditions: ConditionSet
    render: Render
    prepare: Callable[[], None] | None = None
    cache: ImageCache | None = None
    show_progress: bool = True
    clock: Stopwatch = field(default_factory=Stopwatch)
    interrupts: Interrupts = field(default_factory=Interrupts)
    only: frozenset[str] | None = None
    batch_timeout: float | None = None
    budget: Budget = field(default_factory=Budget)

    def run(self) -> str | None:
        """Render every trial that is not finished; failed ones are tried again.

        Returns the limit of the budget that ended it with trials left, else None.
        """
        finished = self.store.finished_trials()
        if self.only is not None:
            finished |= {trial.trial_id for trial in self.plan.trials} - self.only
        todo = [trial for trial in self.plan.trials if trial.trial_id not in finished]
        bar = Progress(
            f"rendering {one_line(self.plan.title, longest=_LONGEST_NAME)}",
            unit="image",
            total=len(self.plan.trials),
            done=len(self.plan.trials) - len(todo),
            has_bar=self.show_progress,
        )
        with bar:
            for group in self.plan.groups:
                missing = [t for t in group.trials if t.trial_id not in finished]
                is_done = not missing or (
                    self.budget.reached is None and self._make(group, missing, bar)
                )
                if not is_done:
                    return self.budget.reached
        return None

    def _make(self, group: Group, missing: Sequence[Trial], bar: Progress) -> bool:
        """Make the missing trials of a batch, write their rows, return whether it has all."""
        rows: dict[str, Row] = {}
        bar.detail(one_line(_names(self.plan.stack(group)), longest=_LONGEST_NAME))
        for trial in missing:
            if (row := self._from_cache(trial)) is not None:
                rows[trial.trial_id] = row
                bar.skip()
        fresh: list[tuple[str, bytes, Row]] = []
        open_trials = [t for t in missing if t.trial_id not in rows]
        _LOG.info(
            "batch %s: %d from the cache, %d to render", group.group_id, len(rows), len(open_trials)
        )
        with self._failed_ahead(group, open_trials) as restore:
            for trial, row, png in self._stored(self._render(group, open_trials)):
                rows[trial.trial_id] = row
                if png is not None:
                    fresh.append((trial.trial_id, png, row))
                bar.update()
            self.interrupts.check()  # rows of a batch that Ctrl-C broke are not results
            if is_stopped := len(rows) < len(missing):
                restore()
            self.store.write_results(group.group_id, list(rows.values()))
        if self.cache is not None:
            for trial_id, png, row in fresh:
                facts = {key: row[key] for key in (*CACHED_FACTS, "batch")}
                self.cache.put(trial_id, png, facts)
        return not is_stopped

    @contextmanager
    def _failed_ahead(self, group: Group, trials: Sequence[Trial]) -> Iterator[Callable[[], None]]:
        """With a deadline, write the rows that stay if the process has to be ended in the batch.

        Yields a function that restores the rows of before; any error does so too.
        """
        if self.batch_timeout is None or not trials:
            yield lambda: None
            return
        path = self.store.table_path("results", group.group_id)
        before = path.read_bytes() if path.is_file() else None

        def restore() -> None:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                write_bytes(path, before)

        reason = f"the process ended in this batch (--batch-timeout {self.batch_timeout:g})"
        blank = {"seconds": 0.0, "peak_memory_mib": 0.0, "effective_t0": None}
        rows = [_row(t.trial_id, status="failed", error=reason, **blank) for t in trials]
        self.store.write_results(group.group_id, rows)
        try:
            yield restore
        except BaseException:
            restore()
            raise

    def _from_cache(self, trial: Trial) -> Row | None:
        cached = None if self.cache is None else self.cache.get(trial.trial_id)
        if cached is None:
            return None
        image, sha256 = self.store.write_image_file(trial.trial_id, cached.png)
        return _row(
            trial.trial_id,
            image=image,
            image_sha256=sha256,
            seconds=cached.seconds,
            peak_memory_mib=cached.peak_memory_mib,
            effective_t0=cached.effective_t0,
            batch=cached.batch,
            origin="cache",
        )

    def _stored(
        self, rendered: Iterator[tuple[Trial, Rendered]]
    ) -> Iterator[tuple[Trial, Row, bytes | None]]:
        """Store images on threads, so that they are encoded while the next ones are rendered.

        Yields in order, each image as soon as it is written; write errors are raised then.
        """
        waiting: deque[tuple[Trial, Future[tuple[Row, bytes | None]]]] = deque()
        with ThreadPoolExecutor(_N_WRITERS) as writer:
            for trial, image in rendered:
                waiting.append((trial, writer.submit(self._store, trial, image)))
                while waiting and waiting[0][1].done():
                    first, future = waiting.popleft()
                    yield first, *future.result()
            for trial, future in waiting:
                yield trial, *future.result()

    def _store(self, trial: Trial, rendered: Rendered) -> tuple[Row, bytes | None]:
        facts: Row = {
            "seconds": rendered.seconds,
            "peak_memory_mib": rendered.peak_memory_mib,
            "effective_t0": rendered.effective_t0,
            "batch": rendered.batch,
        }
        if rendered.image is None:
            error = rendered.error or "the renderer returned no image"
            return _row(trial.trial_id, status="failed", error=error, **facts), None
        png = png_bytes(rendered.image)
        image, sha256 = self.store.write_image_file(trial.trial_id, png)
        return _row(trial.trial_id, image=image, image_sha256=sha256, **facts), png

    def _render(self, group: Group, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Rendered]]:
        """Render trials of a batch; a batch without any result is rendered in one call."""
        plan = self.plan
        if trials and self.prepare is not None:
            with self.clock.in_models():
                self.prepare()
        deadline = Deadline(self.batch_timeout, what=f"batch {group.group_id}")
        wanted = {trial.trial_id for trial in trials}
        for members, variants in _rectangles(group, wanted, whole=self.only is not None):
            cases = [self._case(group, index) for index in members]
            trial_of = {
                (variant, i): group.trials[group.variants.index(variant) * len(group.members) + m]
                for variant in variants
                for i, m in enumerate(members)
            }
            batch = (plan.stack(group), cases, variants, render_settings(group.settings))
            for rendered in self._guarded(batch, deadline):
                trial = trial_of.pop((rendered.variant, rendered.index))
                if trial.trial_id in wanted:
                    yield trial, rendered
            if self.budget.reached:
                return

    def _guarded(self, batch: _Batch, deadline: Deadline) -> Iterator[Rendered]:
        """Yield from the renderer; if it raises, yield a failed result for every open trial."""
        stack, cases, variants, settings = batch
        still_open = [(variant, i) for variant in variants for i in range(len(cases))]
        reason = "the renderer skipped it"
        try:
            results = self.render(stack, cases, variants, settings)
            while (rendered := self._next(results, deadline)) is not None:
                still_open.remove((rendered.variant, rendered.index))
                self.budget.n_rendered += 1
                yield rendered
                is_whole = rendered.variant not in {variant for variant, _ in still_open}
                if is_whole and still_open and self.budget.reached:
                    return
        except ChangedFileError:
            raise
        except DeadlineError:
            reason = deadline.reason
            _LOG.warning("a batch of %s: %s", _names(stack), reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - methods may raise anything
            self.interrupts.check()  # Ctrl-C inside a library may look like its failure
            reason = describe_error(error)
            if isinstance(error, UserError):  # a fault of the user's file: its message is enough
                _LOG.warning("a batch of %s failed: %s", _names(stack), error)
            else:
                _LOG.warning("a batch of %s failed", _names(stack), exc_info=error)
        for variant, index in still_open:
            yield Rendered(variant, index, None, 0.0, 0.0, error=reason)

    def _next(self, results: Iterator[Rendered], deadline: Deadline) -> Rendered | None:
        """Return the next result, None at the end; count its time as the models'."""
        with self.clock.in_models(), deadline.running():
            return next(results, None)

    def _case(self, group: Group, index: int) -> RenderCase:
        case, stack = self.plan.cases[group.members[index][0]], self.plan.stack(group)
        reference = next((file for file in stack if needs_reference(file.kind)), None)
        return replace(
            bare_case(self.plan, group, index),
            conditions={
                file.plugin_id: self.conditions.image(case, file.condition, side=file.side)
                for file in stack
                if file.condition is not None
            },
            reference=reference and self.conditions.reference(case, reference.reference),
        )


def _names(stack: Stack) -> str:
    return " + ".join(file.plugin_id for file in stack) or "the upgraded model"


def bare_case(plan: Plan, group: Group, index: int) -> RenderCase:
    """Return a member of a batch as the runners take it, without its condition images."""
    case_id, seed = group.members[index]
    case = plan.cases[case_id]
    prompts = prompts_of(plan.plugin_set(group), case, family=plan.manifest.family)
    negative = prompts.base_negative
    return RenderCase(
        case_id=case_id,
        seed=seed,
        base_prompt=prompts.base,
        upgraded_prompt=prompts.upgraded,
        negative_prompt=case.negative_prompt,
        base_negative_prompt=negative if negative != case.negative_prompt else None,
        stage2_prompt=prompts.stage2,
    )


def render_settings(settings: Settings) -> RenderSettings:
    """Return the manifest's settings as the runners take them."""
    return RenderSettings(
        base_size_px=settings.base_size,
        upgraded_size_px=settings.upgraded_size,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        sampler=settings.sampler,
        dtype=settings.dtype,
        preset=settings.preset,
        stage1_mode=settings.stage1_mode,
        clip_skip=settings.clip_skip or 1,
        prompt_syntax=settings.prompt_syntax,
    )


def _rectangles(
    group: Group, trial_ids: set[str], *, whole: bool = False
) -> Iterator[tuple[tuple[int, ...], tuple[Variant, ...]]]:
    """Split trials into rectangles (members x variants), one for each set of members.

    With `whole`, a variant with one of the trials has all members.
    """
    n = len(group.members)
    by_members: dict[tuple[int, ...], list[Variant]] = {}
    for i, variant in enumerate(group.variants):
        row = group.trials[i * n : (i + 1) * n]
        members = tuple(m for m, trial in enumerate(row) if trial.trial_id in trial_ids)
        if members:
            by_members.setdefault(tuple(range(n)) if whole else members, []).append(variant)
    for members, variants in by_members.items():
        yield members, tuple(variants)


def _row(trial_id: str, *, status: str = "ok", **facts: Any) -> Row:
    blank: Mapping[str, Any] = {"image": None, "image_sha256": None, "error": None}
    return {"trial_id": trial_id, "status": status, **blank, "origin": "rendered", **facts}
