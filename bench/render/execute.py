"""Execute a plan batch by batch, resumable, with one row for every trial that fails.

The batch is the unit of work. Its images are written as they come, its rows in one file at its
end; an interrupted batch has no rows and is rendered again with the same members. Batches are
rendered here, one by one, or by workers; plan, cache, files and limits are this process's alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import RLock
from typing import Any

from bench.plan import ConditionSet, Plan, Trial
from bench.plan.cases import prompts_of
from bench.plan.cost import work_of
from bench.plan.plan import Group
from bench.render.audit import Audited, LoadAudit
from bench.render.budget import Budget
from bench.render.clock import Stopwatch
from bench.render.engine.scheduler import Ended, Event, Item, Job, Lost, Scheduler
from bench.render.worker import (
    N_THREADS,
    Ahead,
    BatchWork,
    BatchWorker,
    Made,
    Rectangle,
    Render,
    encoded,
    names,
)
from bench.store import ImageCache, Row, RunStore
from bench.store.files import write_bytes
from bench.store.image_cache import CACHED_FACTS
from plugins_manifest.interrupts import Interrupts
from plugins_manifest.outputs import one_line
from plugins_manifest.progress import Progress
from plugins_manifest.schema import Settings
from plugins_manifest.schema.kinds import needs_reference
from runners.base import RenderCase, Rendered, RenderSettings, Variant

_LOG = logging.getLogger(__name__)
_LONGEST_NAME = 40  # characters of a progress bar's title


@dataclass
class _Batch:
    """A batch with trials that have no result; `rows` are the new ones, by trial id.

    `fresh` are rendered images and their rows, for the cache. `before` is the file of rows that
    `ahead_of_end` replaced for the time being.
    """

    group: Group
    missing: Sequence[Trial]
    rows: dict[str, Row] = field(default_factory=dict)
    fresh: list[tuple[bytes, Row]] = field(default_factory=list)
    work: BatchWork | None = None
    restore: Callable[[], None] = field(default=lambda: None)

    @property
    def open_trials(self) -> list[Trial]:
        """The trials that have no new row either."""
        return [trial for trial in self.missing if trial.trial_id not in self.rows]


@dataclass(frozen=True)
class _Stored:
    """A new row, and the image of it."""

    row: Row
    png: bytes | None


@dataclass
class Execution:
    """Everything that rendering batches needs.

    `render` is `runners.group.run_group` with its family; `prepare` loads that family and is called
    before every batch that has something to render. Its errors end the run, and so does a file
    that is not the planned one; any other error fails its batch. With `workers`, they render in
    place of both. A batch may take `batch_timeout` seconds. With `only`, just these trials are
    made, with their whole batch, so that their pixels are those of a whole run. Once the `budget`
    is reached, the run ends after the variants in progress, whose members are all made: what is
    left is rendered later with the same members. `on_commit` receives the id of each batch whose
    rows are written, on any thread.
    """

    plan: Plan
    store: RunStore
    conditions: ConditionSet
    render: Render | None = None
    prepare: Callable[[], None] | None = None
    audits: LoadAudit | None = None
    cache: ImageCache | None = None
    show_progress: bool = True
    clock: Stopwatch = field(default_factory=Stopwatch)
    interrupts: Interrupts = field(default_factory=Interrupts)
    only: frozenset[str] | None = None
    batch_timeout: float | None = None
    budget: Budget = field(default_factory=Budget)
    workers: Scheduler | None = None
    on_commit: Callable[[str], None] = lambda batch_id: None
    _entering: RLock = field(default_factory=RLock, init=False)

    def run(self) -> str | None:
        """Render every trial that is not finished; failed ones are tried again.

        Returns the limit of the budget that ended it with trials left, else None.
        """
        finished = self.store.finished_trials()
        if self.only is not None:
            finished |= {trial.trial_id for trial in self.plan.trials} - self.only
        todo = []
        for group in self.plan.groups:
            if missing := [t for t in group.trials if t.trial_id not in finished]:
                todo.append(_Batch(group, missing))
            else:
                self.on_commit(group.group_id)
        n_missing = sum(len(batch.missing) for batch in todo)
        bar = Progress(
            f"rendering {one_line(self.plan.title, longest=_LONGEST_NAME)}",
            unit="image",
            total=len(self.plan.trials),
            done=len(self.plan.trials) - n_missing,
            has_bar=self.show_progress,
        )
        batches = {batch.group.group_id: batch for batch in todo}
        try:
            with bar:
                jobs = self._jobs(todo, bar)
                if self.workers is None:
                    self._render_here(jobs, batches, bar)
                else:
                    for event in self._by_workers(jobs, self.workers):
                        self._received(batches[event.key], event, bar)
        except BaseException:
            for batch in todo:
                batch.restore()
            raise
        is_whole = all(not batch.open_trials for batch in todo)
        return None if is_whole else self.budget.reached

    def _jobs(self, todo: Iterable[_Batch], bar: Progress) -> Iterator[Job]:
        """Yield what has to be rendered, batch by batch; the rest comes from the cache."""
        for batch in todo:
            if self.budget.reached:
                return
            for trial in batch.missing:
                if (row := self._from_cache(trial)) is not None:
                    batch.rows[trial.trial_id] = row
                    with self._entering:
                        bar.skip()
            group, n_open = batch.group, len(batch.open_trials)
            _LOG.info(
                "batch %s: %d from the cache, %d to render",
                *(group.group_id, len(batch.rows), n_open),
            )
            if not n_open:
                self._commit(batch)
                continue
            cost = work_of(self.plan, [group]) if self.workers else None
            yield Job(
                group.group_id,
                partial(self._work, batch, bar),
                cost=len(group.trials) if cost is None else cost,
                affinity=(group.plugin, group.arrangement),
            )

    def _render_here(
        self, jobs: Iterable[Job], batches: Mapping[str, _Batch], bar: Progress
    ) -> None:
        """Render in this process; images are encoded and stored on threads meanwhile.

        So is the end of a batch, while the next one is rendered: the last images and the rows.
        """
        if self.render is None:
            raise ValueError("an execution needs a renderer or workers")
        worker = BatchWorker(
            self.render,
            self.prepare,
            clock=self.clock,
            interrupts=self.interrupts,
            budget=self.budget,
            batch_timeout=self.batch_timeout,
        )
        with ThreadPoolExecutor(N_THREADS) as threads, ThreadPoolExecutor(1) as committing:
            last = committing.submit(lambda: None)
            for job in jobs:
                batch = batches[job.key]
                self._fail_ahead(batch)
                images = Ahead(threads, self._kept)
                for result in worker.results(job.payload()):
                    images.add(result)
                    for value in images.done():
                        self._received(batch, Item(job.key, value), bar)
                    if last.done():
                        last.result()  # a full disk ends the run at once
                self.interrupts.check()  # rows of a batch that Ctrl-C broke are not results
                last.result()
                last = committing.submit(self._end, batch, images, bar)
            last.result()

    def _end(self, batch: _Batch, images: Ahead[Any, _Stored | Audited], bar: Progress) -> None:
        """Enter the last images of a batch, and write its rows."""
        for value in images.rest():
            self._received(batch, Item(batch.group.group_id, value), bar)
        self._commit(batch)

    def _by_workers(self, jobs: Iterable[Job], workers: Scheduler) -> Iterator[Event]:
        """Have the workers render; the time in which they are waited for is the models'."""
        events = workers.run(list(jobs), is_stopped=lambda: self.budget.reached is not None)
        while True:
            with self.clock.in_models():
                event = next(events, None)
            if event is None:
                return
            if isinstance(event, Item):
                self.budget.n_rendered += isinstance(event.value, Made)
                event = replace(event, value=self._stored(event.value))
            yield event

    def _received(self, batch: _Batch, event: Event, bar: Progress) -> None:
        match event:
            case Item(_, value):
                with self._entering:
                    self._enter(batch, value, bar)
            case Ended():
                self.interrupts.check()  # rows of a batch that Ctrl-C broke are not results
                self._commit(batch)
            case Lost(_, reason):
                for trial in batch.open_trials:
                    batch.rows[trial.trial_id] = _failed(trial, reason)
                    bar.update()
                self._commit(batch)

    def _enter(self, batch: _Batch, value: Any, bar: Progress) -> None:
        match value:
            case Audited(file, audit):
                if self.audits is not None:
                    self.audits.enter(file, audit)
            case _Stored(row, png):
                bar.update(row["trial_id"] not in batch.rows)
                batch.rows[row["trial_id"]] = row
                if png is not None:
                    batch.fresh.append((png, row))

    def _commit(self, batch: _Batch) -> None:
        """Write the rows of a batch, which may not have all."""
        with self._entering:
            if batch.open_trials:
                batch.restore()
            self.store.write_results(batch.group.group_id, list(batch.rows.values()))
            batch.restore, batch.work = (lambda: None), None
        self.on_commit(batch.group.group_id)
        if self.cache is not None:
            for png, row in batch.fresh:
                facts = {key: row[key] for key in (*CACHED_FACTS, "batch")}
                self.cache.put(row["trial_id"], png, facts)
        batch.fresh.clear()

    def _fail_ahead(self, batch: _Batch) -> None:
        """With a deadline, write the rows that stay if the process has to be ended in the batch.

        Any other end restores the rows of before.
        """
        if self.batch_timeout is None:
            return
        path = self.store.table_path("results", batch.group.group_id)
        before = path.read_bytes() if path.is_file() else None

        def restore() -> None:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                write_bytes(path, before)

        reason = f"the process ended in this batch (--batch-timeout {self.batch_timeout:g})"
        rows = [_failed(trial, reason) for trial in batch.open_trials]
        batch.restore = restore
        self.store.write_results(batch.group.group_id, rows)

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

    def _kept(self, result: tuple[str, Rendered] | Audited) -> _Stored | Audited:
        """Encode an image and write it."""
        return self._stored(encoded(result))

    def _stored(self, made: Made | Audited) -> _Stored | Audited:
        """Write an image, and return its row."""
        if isinstance(made, Audited):
            return made
        if made.png is None:
            return _Stored(_row(made.trial_id, status="failed", **made.facts), None)
        image, sha256 = self.store.write_image_file(made.trial_id, made.png)
        return _Stored(
            _row(made.trial_id, image=image, image_sha256=sha256, **made.facts), made.png
        )

    def _work(self, batch: _Batch, bar: Progress) -> BatchWork:
        """Return what has to be rendered of a batch; a batch without any result in one call.

        Again after the death of a worker: variants that have all their images are left out, the
        others keep the same members.
        """
        bar.detail(one_line(names(self.plan.stack(batch.group)), longest=_LONGEST_NAME))
        if batch.work is None:
            batch.work = self._whole_work(batch.group, {t.trial_id for t in batch.open_trials})
        else:
            batch.work = batch.work.without(batch.rows)
        return batch.work

    def _whole_work(self, group: Group, wanted: set[str]) -> BatchWork:
        rectangles = [
            Rectangle(
                tuple(self._case(group, index) for index in members),
                variants,
                {
                    (variant, i): trial_id
                    for variant in variants
                    for i, m in enumerate(members)
                    if (trial_id := _trial(group, variant, m).trial_id) in wanted
                },
            )
            for members, variants in _rectangles(group, wanted, whole=self.only is not None)
        ]
        stack, settings = self.plan.stack(group), render_settings(group.settings)
        return BatchWork(group.group_id, stack, settings, tuple(rectangles))

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
        negative_prompt=prompts.upgraded_negative,
        base_negative_prompt=negative if negative != prompts.upgraded_negative else None,
        stage2_prompt=prompts.stage2,
        content_prompt=case.prompt if case.prompt != prompts.upgraded else None,
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


def _trial(group: Group, variant: Variant, member: int) -> Trial:
    return group.trials[group.variants.index(variant) * len(group.members) + member]


def _failed(trial: Trial, reason: str) -> Row:
    blank = {"seconds": 0.0, "peak_memory_mib": 0.0, "effective_t0": None}
    return _row(trial.trial_id, status="failed", error=reason, **blank)


def _row(trial_id: str, *, status: str = "ok", **facts: Any) -> Row:
    blank: Mapping[str, Any] = {"image": None, "image_sha256": None, "error": None}
    return {"trial_id": trial_id, "status": status, **blank, "origin": "rendered", **facts}
