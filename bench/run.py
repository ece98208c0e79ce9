"""One benchmark run from the manifest to the report: plan, render, score, summarise."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import provenance
from bench.cache import ImageCache, render_context
from bench.cases import all_cases
from bench.conditions import ConditionSet
from bench.errors import UserError, shown_path
from bench.execute import Execution, Stopwatch, finished_trials
from bench.plan import Plan, estimate, make_plan
from bench.preflight import check_room, preflight
from bench.registry import find_method, installed, known_names
from bench.rows import records
from bench.selection import Selection
from bench.sources import resolve_plugin
from bench.store import RunStore
from plugins_manifest.load import load_manifest
from plugins_manifest.schema import Manifest
from runners.base import PluginFile, RenderCase, Rendered, RenderSettings, Variant
from runners.fingerprint import family_fingerprint

if TYPE_CHECKING:
    from runners.families import Family


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
        if is_resumed and (outcome := _finished(store, manifest, key)) is not None:
            return outcome
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


def plan_key(manifest: Manifest, selection: Selection) -> str:
    """Hash of everything a plan is made from; equal keys mean equal plans. Loads no torch."""
    problems = selection.problems()
    if problems:
        raise UserError.collect(problems)
    cases = {
        case.case_id: [asdict(case), _file_state(case.image_path)]
        for listed in all_cases(manifest, limit=selection.limit).values()
        for case in listed
    }
    files = {spec.id: resolve_plugin(spec, manifest).sha256 for spec in manifest.plugins}
    weights = family_fingerprint(manifest.family, adapter=selection.adapter)
    facts = [manifest.fingerprint(), selection.as_data(), weights, files, cases]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _file_state(path: str | None) -> list[int] | None:
    if path is None:
        return None
    state = Path(path).stat()
    return [state.st_size, state.st_mtime_ns]


def _conditions(manifest: Manifest, folder: Path | None) -> ConditionSet:
    return ConditionSet(manifest.family, manifest.settings.base_size, folder=folder)


def _check_identity(facts: dict[str, Any], manifest: Manifest, store: RunStore) -> None:
    if facts.get("manifest_fingerprint") != manifest.fingerprint():
        raise UserError(
            f"{shown_path(store.folder)} holds a run of another manifest "
            f"({facts.get('manifest')!r}, {str(facts.get('manifest_fingerprint'))[:8]}; this one "
            f"is {manifest.name!r}, {manifest.fingerprint()[:8]}): choose another --out, or delete "
            "that folder"
        )


def _finished(store: RunStore, manifest: Manifest, key: str) -> RunOutcome | None:
    """The outcome of a run that has nothing left to do, read without torch; None otherwise."""
    facts = store.run_facts()
    _check_identity(facts, manifest, store)
    if facts.get("status") != "complete" or facts.get("plan_key") != key:
        return None
    planned = set(store.trials()["trial_id"])
    if not planned <= finished_trials(store) or store.summary().empty:
        return None
    if not (store.tables_dir / "report.md").is_file():
        return None
    return RunOutcome(
        folder=store.folder,
        n_trials=len(planned),
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
            outcome = self._work()
        except KeyboardInterrupt:
            self._write_facts(status="interrupted")
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
            _check_identity(old, self.manifest, self.store)
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
        }
        self._write_facts()

    def _write_facts(self, **changes: Any) -> None:
        self.facts |= changes
        self.store.write_run_facts(self.facts)

    def _work(self) -> RunOutcome:
        manifest, store = self.manifest, self.store
        conditions = _conditions(manifest, store.folder)
        plan = make_plan(manifest, self.request.selection, conditions)
        problems = check_room(store.folder, estimate(plan).disk_mib)
        if problems:
            raise UserError.collect(problems)
        self._write_plan(plan, conditions)
        before = finished_trials(store)
        if {trial.trial_id for trial in plan.trials} - before:
            self._execute(plan, conditions)
        self._judge(manifest)
        return self._outcome(plan, before)

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

    def _execute(self, plan: Plan, conditions: ConditionSet) -> None:
        with self.clock.in_models():
            device = provenance.choose_device(self.request.device)
            self._write_facts(device=provenance.device_facts(device))
        dtype = plan.manifest.settings.dtype
        context = render_context(dtype=dtype, device_kind=device)
        Execution(
            plan=plan,
            store=self.store,
            conditions=conditions,
            render=FamilyRenderer(plan, device),
            cache=ImageCache(context) if self.request.use_cache else None,
            show_progress=self.request.show_progress,
            clock=self.clock,
        ).run()

    def _judge(self, manifest: Manifest) -> None:
        """Score, summarise, report."""
        started = time.perf_counter()
        from bench.judge import score, write_tables

        self.clock.metrics += time.perf_counter() - started  # torch, where nothing was rendered
        names, show_progress = manifest.metrics, self.request.show_progress
        self.clock.metrics += score(self.store, names, show_progress=show_progress)
        write_tables(self.store)

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


def locked_manifest(plan: Plan, folder: Path) -> dict[str, Any]:
    """The manifest with every plugin's sha256; local paths are made relative to `folder`."""
    data = plan.manifest.as_data()
    for entry in data["plugins"]:
        file = plan.plugins[entry["id"]]
        entry["sha256"] = file.sha256
        if ":" not in entry["source"]:
            entry["source"] = _relative(file.path, folder)
    if isinstance(data["cases"], dict) and "path" in data["cases"]:
        data["cases"]["path"] = _relative(plan.manifest.folder / data["cases"]["path"], folder)
    for case in data["cases"] if isinstance(data["cases"], list) else ():
        if "image" in case:
            case["image"] = _relative(plan.manifest.folder / case["image"], folder)
    return data


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())
