"""One benchmark run: request -> job -> plan -> images -> scores -> tables; or one shard of it."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import provenance
from bench.errors import UserError
from bench.plan import (
    ConditionSet,
    Job,
    MissingItem,
    Plan,
    Selection,
    estimate,
    make_plan,
    preflight,
    resolve_job,
)
from bench.plan.cases import keep_case_ids
from bench.plan.checks import check_room, output_problems
from bench.plan.conditions import UnmadeConditions, make_slow_conditions, uses_network
from bench.plan.job import with_family_settings
from bench.plan.judges import judge_remarks
from bench.plan.metrics import expand_metrics, selected_metrics
from bench.plan.missing import missing_items, with_placeholders
from bench.plan.resume import (
    check_identity,
    find_finished,
    locked_manifest,
    plan_key,
    sample_hashes,
)
from bench.plan.shards import Shard, part_of
from bench.plan.speed import record_speed
from bench.registry import extension_problems, known_names
from bench.render import Budget, KeptModels, Stopwatch
from bench.render.engine.choice import Workers
from bench.run.rendering import Rendering
from bench.run.scores import score_and_write, write_tables
from bench.run.shards import (
    find_shards,
    open_shard,
    require_same_plan,
    shard_facts,
    take_over_shards,
)
from bench.store import ImageCache, RunStore, records
from bench.store.status import SHARD_DONE
from bench.store.verify import PARTS, require_sound
from metrics.device import choose_device
from metrics.stats.verdicts import Thresholds
from plugins_manifest.files import file_sha256
from plugins_manifest.interrupts import Interrupts, watched_interrupts
from plugins_manifest.progress import Progress
from plugins_manifest.schema import Manifest, load_manifest
from runners.base import Batch
from runners.options import DeviceOptions

BUDGET_REACHED = "budget reached"  # the status of a run that a limit of its command ended
# facts of earlier sessions
_OF_MACHINES = ("device", "render_context", "engine", "nodes", "metric_device")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """The options of `xbench run`; `out` None means runs/<manifest name>."""

    manifest: str
    selection: Selection = field(default_factory=Selection)
    out: Path | None = None
    device: str = "auto"
    use_cache: bool = True
    show_progress: bool = True
    started: float | None = None  # time.time() at the start of the process
    ids_from: Path | None = None  # a run whose ids of unnamed cases are taken over
    thresholds: Thresholds | None = None  # of the verdicts; None: the shipped ones
    batch: Batch = None  # images of one call of the models
    options: DeviceOptions = field(default_factory=DeviceOptions)
    batch_timeout: float | None = None  # seconds that a batch, or a metric's chunk, may take
    budget: Budget = field(default_factory=Budget)  # counted over all runs of this request
    shard: Shard | None = None  # render this part of the plan alone
    workers: Workers = field(default_factory=Workers)
    metric_device: str = "auto"  # of the scores
    loaded: Manifest | None = None  # in place of the file that `manifest` names
    models: KeptModels | None = None  # of earlier runs of this process


@dataclass(frozen=True)
class RunOutcome:
    """The result of a run; `overhead` is the share of wall time outside models and metrics.

    `stopped` is the limit that ended it with `n_open` images left to make. Of a `shard`, as "1/4",
    the numbers are those of its part, and `open_shards` are those that are not complete; a merged
    run has none of either.
    """

    folder: Path
    n_trials: int
    n_failed: int = 0
    n_rendered: int = 0
    n_cached: int = 0
    wall_seconds: float = 0.0
    overhead: float | None = None
    was_finished: bool = False
    n_open: int = 0
    stopped: str | None = None
    shard: str | None = None
    open_shards: tuple[str, ...] = ()
    is_merged: bool = False


def open_job(request: RunRequest) -> Job:
    """Load the manifest and resolve it with the selection; no model is loaded.

    Raises one `UserError` for all mistakes in the manifest and in the selection's values.
    """
    try:
        manifest = request.loaded or load_manifest(request.manifest, known=known_names())
        manifest = with_family_settings(manifest)
    except UserError as error:
        raise UserError.collect([*error.problems, *request.selection.problems()]) from error
    job = resolve_job(manifest, request.selection)
    own = request.out or Path("runs") / manifest.name
    for folder in (request.ids_from, own, manifest.folder):
        if folder is not None and (store := RunStore(folder)).cases_path.is_file():
            with suppress(UserError):  # damaged: the run itself is refused later
                return _with_ids_of(store, job)
    return job


def _with_ids_of(store: RunStore, job: Job) -> Job:
    """Return the job with a run's ids of its unnamed cases."""
    if isinstance(job.cases, MissingItem):
        return job
    return replace(job, cases=keep_case_ids(job.cases, store.cases(), job.manifest))


def plan_run(request: RunRequest) -> Plan:
    """Preflight and plan, writing nothing."""
    job = open_job(request)
    preflight(job)
    plan = make_plan(job, ConditionSet.of_job(job, cache=ImageCache("conditions")))
    return part_of(plan, request.shard)


def look_ahead(request: RunRequest) -> tuple[Plan, list[MissingItem]]:
    """Return the plan and the files that still have to be downloaded; makes no network requests.

    With `only`, nothing may be missing: ids of trials depend on it.
    """
    if request.selection.only is not None:
        return plan_run(request), []
    job = open_job(request)
    preflight(job, allow_missing=True)
    plan = make_plan(with_placeholders(job), UnmadeConditions.of_job(job))
    return part_of(plan, request.shard), missing_items(job)


def trial_ids(request: RunRequest) -> list[str] | None:
    """Return the ids of a run's trials; None where something that decides them is missing.

    So are condition images that a network detects: the run makes them.
    """
    conditions = {spec.condition for spec in open_job(request).manifest.plugins if spec.condition}
    if any(uses_network(condition) for condition in conditions):
        return None
    try:
        return [trial.trial_id for trial in plan_run(request).trials]
    except UserError:
        return None


def run_benchmark(request: RunRequest) -> RunOutcome:
    """Run or resume a benchmark; the same command continues an interrupted run.

    The last shard to finish merges all of them. Raises `UserError`; finished images are kept in
    every case.
    """
    started = time.monotonic() - _age(request.started)
    with Progress("hashing plugins and reading cases"):
        job, clock = open_job(request), Stopwatch()
    whole = store = RunStore(request.out or Path("runs") / job.manifest.name)
    fix = {}
    if request.shard is not None:
        if whole.exists() and (n_trials := find_finished(whole, job)) is not None:
            return RunOutcome(whole.folder, n_trials, was_finished=True)
        store = open_shard(whole, request.shard, job.written)
        fix = {"fix": "give each process a --shard of its own"}
    is_resumed = store.exists()
    if not is_resumed:
        check_job(job, store, clock)
    with store.lock(**fix):
        if is_resumed:
            require_sound(store, may_miss=PARTS)
            if (n_trials := find_finished(store, job)) is not None:
                if request.thresholds is not None:
                    write_tables(store, mode=job.manifest.mode, thresholds=request.thresholds)
                return RunOutcome(store.folder, n_trials, was_finished=True)
            check_job(job, store, clock)
        outcome = _Run(request, job, store, started, clock).go(is_resumed=is_resumed)
    if request.shard is None:
        return outcome
    from bench.run.merge import merge_if_last

    return merge_if_last(request, whole, outcome)


def _age(started: float | None) -> float:
    """Return the seconds since a time, 0 if the clock was set back meanwhile."""
    return 0.0 if started is None else max(0.0, time.time() - started)


def check_job(job: Job, store: RunStore, clock: Stopwatch) -> None:
    """Run `preflight`, and check that the run directory can be written.

    Reading the methods' traits imports torch: those seconds count as the models'.
    """
    problems = [*check_room(store.folder, needed_mib=1), *output_problems(store.folder, job)]
    with Progress("checking methods, metrics and files"):
        with clock.in_models():
            extension_problems((spec.name for spec in job.manifest.methods), ())
        with clock.in_metrics():
            extension_problems((), expand_metrics(selected_metrics(job.manifest), job.manifest))
        try:
            preflight(job)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError.collect(problems)
    for remark in judge_remarks(job.manifest):
        _LOG.warning("%s", remark)


def final_status(n_failed: int) -> str:
    """Return the status of a run that has a result for each trial."""
    return "complete" if n_failed == 0 else "failed trials"


@dataclass
class _Run:
    """A run with work to do; the directory's lock is held."""

    request: RunRequest
    job: Job
    store: RunStore
    started: float  # time.monotonic()
    clock: Stopwatch
    facts: dict[str, Any] = field(default_factory=dict)
    own: frozenset[str] = frozenset()  # ids of the trials to make, once they are planned

    def go(self, *, is_resumed: bool) -> RunOutcome:
        """Render, score and report; keep run.json's status correct also after an error."""
        if self.request.metric_device != "auto":
            choose_device(self.request.metric_device)  # `UserError` before anything is rendered
        self._open(is_resumed=is_resumed)
        try:
            with watched_interrupts() as interrupts:
                outcome = self._work(interrupts)
        except KeyboardInterrupt as error:
            self._write_facts(status="interrupted")
            planned = self.own or set(self.store.trials()["trial_id"])
            n_done = len(planned & self.store.finished_trials())
            raise KeyboardInterrupt(f"{n_done} of {len(planned)} images are done.") from error
        except Exception:
            with suppress(UserError, OSError):  # on a full disk the status cannot be written
                self._write_facts(status="stopped")
            raise
        status = final_status(outcome.n_failed) if outcome.shard is None else SHARD_DONE
        self._write_facts(
            status=BUDGET_REACHED if outcome.stopped else status,
            **({"stopped": outcome.stopped} if outcome.stopped else {}),
            finished=provenance.utc_now(),
            counts={
                "trials": outcome.n_trials,
                "failed": outcome.n_failed,
                "from_cache": outcome.n_cached,
                **({"open": outcome.n_open} if outcome.stopped else {}),
            },
            overhead=outcome.overhead,
            distributions=provenance.took_part(self.facts.get("distributions")),
        )
        return outcome

    def _open(self, *, is_resumed: bool) -> None:
        old = self.store.run_facts() if is_resumed else {}
        if old:
            check_identity(old, self.job.written, self.store)
        manifest = self.job.written
        self.facts = {
            "run_id": old.get("run_id", uuid.uuid4().hex),
            "status": "running",
            "created": old.get("created", provenance.utc_now()),
            "command": provenance.command_line(),
            "manifest": manifest.name,
            "manifest_fingerprint": manifest.fingerprint(),
            "plan_key": plan_key(self.job),
            **({} if self.request.shard is None else {"shard": str(self.request.shard)}),
            "selection": self.job.selection.as_data(),
            "family": manifest.family,
            "git": provenance.git_state(),
            "versions": provenance.versions(),
            "distributions": provenance.took_part(old.get("distributions")),
            **{key: old[key] for key in _OF_MACHINES if key in old},
            **shard_facts(find_shards(self.store.folder) if self.request.shard is None else ()),
        }
        self._write_facts()

    def _write_facts(self, **changes: Any) -> None:
        self.facts |= changes
        self.store.write_run_facts(self.facts)

    def _work(self, interrupts: Interrupts) -> RunOutcome:
        job, store, shard = self.job, self.store, self.request.shard
        if shard is None:
            take_over_shards(store, job.written)
        cache = ImageCache("conditions") if self.request.use_cache else None
        conditions = ConditionSet.of_job(job, store.folder, cache=cache)
        self._make_conditions(conditions)
        with Progress("planning the images"):
            whole = make_plan(job, conditions)
            plan = part_of(whole, shard)
            if problems := check_room(store.folder, estimate(plan).disk_mib):
                raise UserError.collect(problems)
            if shard is not None:
                require_same_plan(store, [trial.trial_id for trial in whole.trials])
            self._write_plan(whole, conditions)
        self.own = frozenset(trial.trial_id for trial in plan.trials)
        before, stopped, early = store.finished_trials(), None, None
        if self.own - before:
            rendering = Rendering(
                self.request, plan, conditions, store, self.clock, interrupts, self._write_facts
            )
            stopped = rendering.go(self.facts.get("nodes", ()))
            early = rendering.early
        if shard is None:
            score_and_write(
                store,
                selected_metrics(job.manifest),
                clock=self.clock,
                mode=job.manifest.mode,
                thresholds=self.request.thresholds,
                timeout_s=self.request.batch_timeout,
                show_progress=self.request.show_progress,
                metric_device=self.request.metric_device,
                workers=self.request.workers,
                early=early,
            )
            self.facts["metric_device"] = self.store.run_facts().get("metric_device")
        return self._outcome(plan, before, stopped)

    def _make_conditions(self, conditions: ConditionSet) -> None:
        """Make the slow conditions, which networks detect; the plan makes the others."""
        show_progress = self.request.show_progress
        try:
            with self.clock.in_models():
                make_slow_conditions(self.job, conditions, show_progress=show_progress)
        finally:
            conditions.save_index()

    def _write_plan(self, plan: Plan, conditions: ConditionSet) -> None:
        conditions.save_index()
        self.store.write_manifest(locked_manifest(plan, self.store.folder))
        self.store.write_cases(plan.cases.values())
        self.store.write_trials([trial.as_row() for trial in plan.trials])
        files = plan.plugins.items()
        self._write_facts(
            weights=plan.weights,
            references={n: file_sha256(f.reference) for n, f in files if f.reference is not None},
            **({"samples": samples} if (samples := sample_hashes(plan.manifest)) else {}),
            adapter_sha256=plan.weights.get("mapper"),
            **({"adapters": {a.id: a.sha256 for a in plan.adapters}} if plan.adapters else {}),
            counts={"trials": len(plan.trials)},
        )

    def _outcome(self, plan: Plan, before: set[str], stopped: str | None) -> RunOutcome:
        rows = [row for row in records(self.store.results()) if row["trial_id"] in self.own]
        fresh = [row for row in rows if row["trial_id"] not in before]
        made = (row for row in fresh if row["origin"] == "rendered" and row["status"] == "ok")
        if self.request.workers.is_here:  # several share a machine, or are on others
            record_speed(plan, {row["trial_id"]: row["seconds"] for row in made})
        wall_seconds = time.monotonic() - self.started
        inside = self.clock.models + self.clock.metrics
        return RunOutcome(
            folder=self.store.folder,
            n_trials=len(plan.trials),
            n_failed=sum(row["status"] == "failed" for row in rows),
            n_rendered=sum(row["origin"] == "rendered" for row in fresh),
            n_cached=sum(row["origin"] == "cache" for row in rows),
            wall_seconds=wall_seconds,
            overhead=1 - inside / max(wall_seconds, inside, 1e-9),
            n_open=len(plan.trials) - len(rows),
            stopped=stopped,
            shard=plan.shard,
        )
