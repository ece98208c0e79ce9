"""One benchmark run from the manifest to the report: plan, render, score, summarise."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import provenance
from bench.errors import UserError
from bench.plan.condition_work import make_slow_conditions
from bench.plan.conditions import ConditionSet
from bench.plan.cost import estimate
from bench.plan.metrics import metrics_asked
from bench.plan.missing import MissingItem, outline
from bench.plan.plan import Plan, make_plan
from bench.plan.preflight import check_room, preflight
from bench.plan.resume import check_identity, find_finished, locked_manifest, plan_key
from bench.plan.selection import Selection
from bench.preload import preload
from bench.registry import find_method, installed, known_names
from bench.render.audit import LoadAudit
from bench.render.execute import Execution, Stopwatch, finished_trials
from bench.render.family import FamilyRenderer
from bench.render.interrupts import Interrupts, watched_interrupts
from bench.store.image_cache import ImageCache, render_context
from bench.store.rows import records
from bench.store.run_store import RunStore
from plugins_manifest.schema.load import load_manifest
from plugins_manifest.schema.manifest import Manifest

_REPORTING = (
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("jinja2", "scipy.special", "scipy.stats"),
)


@dataclass(frozen=True)
class RunRequest:
    """What `xbench run` was asked to do; `out` None means runs/<manifest name>."""

    manifest: str
    selection: Selection = field(default_factory=Selection)
    out: Path | None = None
    device: str = "auto"
    use_cache: bool = True
    show_progress: bool = True
    started: float | None = None  # time.time() at which the process began


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to; `overhead` is the share of wall time outside models and metrics."""

    folder: Path
    n_trials: int
    n_failed: int
    n_rendered: int
    n_cached: int
    wall_seconds: float
    overhead: float | None
    was_finished: bool


def read_request(request: RunRequest) -> Manifest:
    """Load and check everything that needs no model; one `UserError` for all problems."""
    try:
        manifest = load_manifest(request.manifest, known=known_names())
    except UserError as error:
        raise UserError.collect([*error.problems, *request.selection.problems()]) from error
    return manifest


def plan_run(request: RunRequest) -> Plan:
    """Preflight and plan, writing nothing."""
    manifest = read_request(request)
    preflight(manifest, request.selection)
    return make_plan(manifest, request.selection, _conditions(manifest, None))


def look_ahead(request: RunRequest) -> tuple[Plan, list[MissingItem]]:
    """The plan with what the run would want that is not here yet; asks no network.

    With `only`, everything must be here: ids of trials depend on it.
    """
    if request.selection.only is not None:
        return plan_run(request), []
    manifest = read_request(request)
    preflight(manifest, request.selection, may_lack_files=True)
    return outline(manifest, request.selection)


def run_benchmark(request: RunRequest) -> RunOutcome:
    """Run, or resume, a benchmark; the same command goes on where a killed run stopped.

    Raises `UserError`; what was finished before is kept whatever happens.
    """
    started = time.time() if request.started is None else request.started
    manifest = read_request(request)
    store = RunStore(request.out or Path("runs") / manifest.name)
    is_resumed = store.exists()
    clock = Stopwatch()
    if not is_resumed:
        preflight_all(manifest, request.selection, store, clock)
    with store.lock():
        key = plan_key(manifest, request.selection)
        if is_resumed and (n_trials := find_finished(store, manifest, key)) is not None:
            return nothing_left(store, n_trials)
        if is_resumed:
            preflight_all(manifest, request.selection, store, clock)
        run = _Run(request, manifest, store, key=key, started=started, clock=clock)
        return run.go(is_resumed=is_resumed)


def preflight_all(
    manifest: Manifest, selection: Selection, store: RunStore, clock: Stopwatch
) -> None:
    """`preflight`, and whether the run directory can be written.

    Methods tell their traits, which imports torch: those seconds are the models'.
    """
    problems = check_room(store.folder, needed_mib=1)
    with clock.in_models():
        for name in {spec.name for spec in selection.apply(manifest).methods}:
            if name in installed("methods"):
                find_method(name)
    try:
        preflight(manifest, selection)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError.collect(problems)


def _conditions(manifest: Manifest, folder: Path | None, *, use_cache: bool = True) -> ConditionSet:
    settings = manifest.settings
    return ConditionSet(
        manifest.family,
        settings.base_size,
        folder=folder,
        upgraded_size_px=settings.upgraded_size,
        cache=ImageCache("conditions") if use_cache else None,
    )


def nothing_left(store: RunStore, n_trials: int) -> RunOutcome:
    """The outcome of asking for a run that is finished."""
    return RunOutcome(
        folder=store.folder,
        n_trials=n_trials,
        n_failed=0,
        n_rendered=0,
        n_cached=0,
        wall_seconds=0.0,
        overhead=None,
        was_finished=True,
    )


class _Run:
    """A run that has something to do; holds the directory's lock."""

    def __init__(
        self,
        request: RunRequest,
        manifest: Manifest,
        store: RunStore,
        *,
        key: str,
        started: float,
        clock: Stopwatch,
    ) -> None:
        self.request = request
        self.manifest = manifest
        self.store = store
        self.key = key
        self.started = started
        self.clock = clock
        self.facts: dict[str, Any] = {}

    def go(self, *, is_resumed: bool) -> RunOutcome:
        """Render, score, report; keeps run.json's status true on every way out."""
        self._open(is_resumed=is_resumed)
        try:
            with watched_interrupts() as interrupts:
                outcome = self._work(interrupts)
        except KeyboardInterrupt as error:
            self._write_facts(status="interrupted")
            n_done, n_trials = len(finished_trials(self.store)), len(self.store.trials())
            raise KeyboardInterrupt(f"{n_done} of {n_trials} images are done.") from error
        except UserError:
            with suppress(UserError):  # a full disk takes no status either
                self._write_facts(status="stopped")
            raise
        self._write_facts(
            status="complete" if outcome.n_failed == 0 else "failed trials",
            finished=provenance.utc_now(),
            counts={
                "trials": outcome.n_trials,
                "failed": outcome.n_failed,
                "from_cache": outcome.n_cached,
            },
            overhead=outcome.overhead,
        )
        return outcome

    def _open(self, *, is_resumed: bool) -> None:
        old = self.store.run_facts() if is_resumed else {}
        if old:
            check_identity(old, self.manifest, self.store)
        manifest = self.manifest
        self.facts = {
            "run_id": old.get("run_id", uuid.uuid4().hex),
            "status": "running",
            "created": old.get("created", provenance.utc_now()),
            "command": provenance.command_line(),
            "manifest": manifest.name,
            "manifest_fingerprint": manifest.fingerprint(),
            "plan_key": self.key,
            "selection": self.request.selection.as_data(),
            "family": manifest.family,
            "git": provenance.git_state(),
            "versions": provenance.versions(),
            **{key: old[key] for key in ("device", "render_context") if key in old},
        }
        self._write_facts()

    def _write_facts(self, **changes: Any) -> None:
        self.facts |= changes
        self.store.write_run_facts(self.facts)

    def _work(self, interrupts: Interrupts) -> RunOutcome:
        manifest, store = self.manifest, self.store
        conditions = _conditions(manifest, store.folder, use_cache=self.request.use_cache)
        self._make_conditions(conditions)
        plan = make_plan(manifest, self.request.selection, conditions)
        problems = check_room(store.folder, estimate(plan).disk_mib)
        if problems:
            raise UserError.collect(problems)
        self._write_plan(plan, conditions)
        before = finished_trials(store)
        if {trial.trial_id for trial in plan.trials} - before:
            self._execute(plan, conditions, interrupts)
        self._judge(manifest)
        return self._outcome(plan, before)

    def _make_conditions(self, conditions: ConditionSet) -> None:
        """Make what networks detect, which takes its time; the plan makes the rest."""
        try:
            with self.clock.in_models():
                make_slow_conditions(
                    self.manifest,
                    self.request.selection,
                    conditions,
                    show_progress=self.request.show_progress,
                )
        finally:
            conditions.save_index()

    def _write_plan(self, plan: Plan, conditions: ConditionSet) -> None:
        conditions.save_index()
        self.store.write_manifest(locked_manifest(plan, self.store.folder))
        self.store.write_cases(plan.cases.values())
        self.store.write_trials([trial.as_row() for trial in plan.trials])
        self._write_facts(
            weights=plan.weights,
            adapter_sha256=plan.weights.get("mapper"),
            counts={"trials": len(plan.trials)},
        )

    def _execute(self, plan: Plan, conditions: ConditionSet, interrupts: Interrupts) -> None:
        with self.clock.in_models():
            device = provenance.choose_device(self.request.device)
            self._write_facts(device=provenance.device_facts(device))
        dtype = plan.manifest.settings.dtype
        context = render_context(dtype=dtype, device_kind=device)
        self._write_facts(render_context=context)
        cache = ImageCache(context) if self.request.use_cache else None
        audits = LoadAudit(
            self.store,
            model={**plan.weights, "context": context, "preset": plan.manifest.settings.preset},
            kept=None if cache is None else cache.audits,
        )
        renderer = FamilyRenderer(plan, device, audits)
        Execution(
            plan=plan,
            store=self.store,
            conditions=conditions,
            render=renderer,
            prepare=renderer.prepare,
            cache=cache,
            show_progress=self.request.show_progress,
            clock=self.clock,
            interrupts=interrupts,
        ).run()
        audits.complete(plan.plugins.values())

    def _judge(self, manifest: Manifest) -> None:
        """Score, summarise, report."""
        started = time.perf_counter()
        from bench.scoring.suite import score, write_tables

        self.clock.metrics += time.perf_counter() - started  # torch, where nothing was rendered
        mode = self.request.selection.apply(manifest).mode
        names, show_progress = metrics_asked(manifest, mode), self.request.show_progress
        preload(*_REPORTING)
        self.clock.metrics += score(self.store, names, show_progress=show_progress)
        write_tables(self.store, mode=mode, png=False)  # `xbench report` draws them too

    def _outcome(self, plan: Plan, before: set[str]) -> RunOutcome:
        planned = {trial.trial_id for trial in plan.trials}
        rows = [row for row in records(self.store.results()) if row["trial_id"] in planned]
        fresh = [row for row in rows if row["trial_id"] not in before]
        wall_seconds = time.time() - self.started
        inside = self.clock.models + self.clock.metrics
        return RunOutcome(
            folder=self.store.folder,
            n_trials=len(plan.trials),
            n_failed=sum(row["status"] == "failed" for row in rows),
            n_rendered=sum(row["origin"] == "rendered" for row in fresh),
            n_cached=sum(row["origin"] == "cache" for row in rows),
            wall_seconds=wall_seconds,
            overhead=max(0.0, 1 - inside / wall_seconds),
            was_finished=False,
        )
