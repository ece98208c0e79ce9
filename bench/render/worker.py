"""Render what is missing of a batch, image by image: in this process or in one of several."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from bench.errors import UserError
from bench.render.audit import Audited
from bench.render.budget import Budget
from bench.render.clock import Stopwatch
from bench.render.engine.messages import BrokenWorkerError
from bench.store.files import png_bytes
from plugins_manifest.content import ChangedFileError
from plugins_manifest.installed import describe_error
from plugins_manifest.interrupts import Interrupts
from runners.base import RenderCase, Rendered, RenderSettings, Stack, Variant
from runners.deadline import Deadline, DeadlineError

N_THREADS = 4  # at a batch's end its last images are encoded side by side
_LOG = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


Render = Callable[
    [Stack, tuple[RenderCase, ...], tuple[Variant, ...], RenderSettings],
    Iterator[Rendered | Audited],
]


@dataclass(frozen=True)
class Rectangle:
    """Cases x variants of one call; `trial_ids` has those images of it that are missing."""

    cases: tuple[RenderCase, ...]
    variants: tuple[Variant, ...]
    trial_ids: Mapping[tuple[Variant, int], str]


@dataclass(frozen=True)
class BatchWork:
    """What is missing of a batch: all that a worker needs to know of it."""

    batch_id: str
    stack: Stack
    settings: RenderSettings
    rectangles: tuple[Rectangle, ...]

    def without(self, trial_ids: Collection[str]) -> BatchWork:
        """Leave out variants that have all their images; the others keep all members."""
        left = []
        for one in self.rectangles:
            wanted = {variant for (variant, _), t in one.trial_ids.items() if t not in trial_ids}
            if wanted:
                left.append(replace(one, variants=tuple(v for v in one.variants if v in wanted)))
        return replace(self, rectangles=tuple(left))


@dataclass(frozen=True)
class Made:
    """One image as a PNG file, or why there is none."""

    trial_id: str
    png: bytes | None
    facts: Mapping[str, Any]


@dataclass
class BatchWorker:
    """Renders batches, one at a time.

    `prepare` loads the models and is called before every batch; its errors end the run, and so does
    a file that is not the planned one; any other error fails its batch. A batch may take
    `batch_timeout` seconds. Once the `budget` is reached, it ends after the variant in progress,
    whose members are all made. Once `is_usable` is false after a failure, `BrokenWorkerError` is
    raised in its place.
    """

    render: Render
    prepare: Callable[[], None] | None = None
    clock: Stopwatch = field(default_factory=Stopwatch)
    interrupts: Interrupts = field(default_factory=Interrupts)
    budget: Budget = field(default_factory=Budget)
    batch_timeout: float | None = None
    is_usable: Callable[[], bool] = lambda: True

    def __call__(self, work: BatchWork) -> Iterator[Made | Audited]:
        """Yield the missing images, encoded on a thread while the next ones are rendered.

        Each comes as soon as it is there.
        """
        with ThreadPoolExecutor(N_THREADS) as threads:
            images = Ahead(threads, encoded)
            for result in self.results(work):
                images.add(result)
                yield from images.done()
            yield from images.rest()

    def results(self, work: BatchWork) -> Iterator[tuple[str, Rendered] | Audited]:
        """Yield the ids and the arrays of the missing images."""
        if work.rectangles and self.prepare is not None:
            with self.clock.in_models():
                self.prepare()
        deadline = Deadline(self.batch_timeout, what=f"batch {work.batch_id}")
        for rectangle in work.rectangles:
            for result in self._guarded(work, rectangle, deadline):
                if isinstance(result, Audited):
                    yield result
                elif trial_id := rectangle.trial_ids.get((result.variant, result.index)):
                    yield trial_id, result
            if self.budget.reached:
                return

    def _guarded(
        self, work: BatchWork, rectangle: Rectangle, deadline: Deadline
    ) -> Iterator[Rendered | Audited]:
        """Yield from the renderer; if it raises, yield a failed result for every open trial."""
        cases, variants = rectangle.cases, rectangle.variants
        still_open = [(variant, i) for variant in variants for i in range(len(cases))]
        reason = "the renderer skipped it"
        try:
            results = self.render(work.stack, cases, variants, work.settings)
            while (result := self._next(results, deadline)) is not None:
                if isinstance(result, Audited):
                    yield result
                    continue
                if result.error is not None:
                    self._require_usable()
                still_open.remove((result.variant, result.index))
                self.budget.n_rendered += 1
                yield result
                is_whole = result.variant not in {variant for variant, _ in still_open}
                if is_whole and still_open and self.budget.reached:
                    return
        except (ChangedFileError, BrokenWorkerError):
            raise
        except DeadlineError:
            reason = deadline.reason
            _LOG.warning("a batch of %s: %s", names(work.stack), reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - methods may raise anything
            self.interrupts.check()  # Ctrl-C inside a library may look like its failure
            self._require_usable()
            reason = describe_error(error)
            if isinstance(error, UserError):  # a fault of the user's file: its message is enough
                _LOG.warning("a batch of %s failed: %s", names(work.stack), error)
            else:
                _LOG.warning("a batch of %s failed", names(work.stack), exc_info=error)
        for variant, index in still_open:
            yield Rendered(variant, index, None, 0.0, 0.0, error=reason)

    def _next(
        self, results: Iterator[Rendered | Audited], deadline: Deadline
    ) -> Rendered | Audited | None:
        """Return the next result, None at the end; count its time as the models'."""
        with self.clock.in_models(), deadline.running():
            return next(results, None)

    def _require_usable(self) -> None:
        if not self.is_usable():
            raise BrokenWorkerError


def encoded(result: tuple[str, Rendered] | Audited) -> Made | Audited:
    """Return an image as a PNG file."""
    if isinstance(result, Audited):
        return result
    trial_id, rendered = result
    facts = {
        "seconds": rendered.seconds,
        "peak_memory_mib": rendered.peak_memory_mib,
        "effective_t0": rendered.effective_t0,
        "batch": rendered.batch,
    }
    if rendered.image is None:
        error = rendered.error or "the renderer returned no image"
        return Made(trial_id, None, {**facts, "error": error})
    return Made(trial_id, png_bytes(rendered.image), facts)


class Ahead(Generic[T, R]):
    """Does work(item) on threads, in the order of the items; an error is raised in its place."""

    def __init__(self, threads: Executor, work: Callable[[T], R]) -> None:
        self._threads, self._work = threads, work
        self._waiting: deque[Future[R]] = deque()

    def add(self, item: T) -> None:
        """Begin the work on an item."""
        self._waiting.append(self._threads.submit(self._work, item))

    def done(self) -> Iterator[R]:
        """Yield the results that are there, up to the first that is not."""
        while self._waiting and self._waiting[0].done():
            yield self._waiting.popleft().result()

    def rest(self) -> Iterator[R]:
        """Wait for all results."""
        while self._waiting:
            yield self._waiting.popleft().result()


def names(stack: Stack) -> str:
    """Return the plugins of a batch as messages name them."""
    return " + ".join(file.plugin_id for file in stack) or "the upgraded model"
