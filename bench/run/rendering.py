"""Render what a run is missing, in this process or by workers, and record where that was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import provenance
from bench.errors import UserError
from bench.plan import ConditionSet, Plan
from bench.plan.metrics import selected_metrics
from bench.render import Execution, FamilyRenderer, LoadAudit, Stopwatch
from bench.render.engine.choice import Pool, open_pool
from bench.render.engine.scheduler import Scheduler
from bench.render.program import RenderProgram
from bench.store import ImageCache, RunStore
from plugins_manifest.interrupts import Interrupts
from plugins_manifest.progress import Progress

if TYPE_CHECKING:
    from bench.run.benchmark import RunRequest
    from bench.scoring.beside import EarlyScores, ScoringBeside


@dataclass
class Rendering:
    """The images of a plan; `write_facts` adds to the run's run.json."""

    request: RunRequest
    plan: Plan
    conditions: ConditionSet
    store: RunStore
    clock: Stopwatch
    interrupts: Interrupts
    write_facts: Callable[..., None]
    context: str = ""
    nodes: list[Mapping[str, Any]] = field(default_factory=list)
    early: EarlyScores | None = None  # of images that were scored beside

    def go(self, nodes: Iterable[Mapping[str, Any]]) -> str | None:
        """Render what is missing; return the limit that ended it early, if one did.

        `nodes` are the machines of earlier workers of the run.
        """
        request, plan = self.request, self.plan
        self.nodes.extend(nodes)
        with Progress("preparing the device"), self.clock.in_models():
            pool = None if request.workers.is_here else open_pool(request.workers, request.device)
            device = provenance.choose_device(request.device) if pool is None else pool.device
            self.write_facts(device=_device_facts(device, pool))
        renderer = partial(
            FamilyRenderer, plan, device, batch=request.batch, options=request.options
        )
        here = renderer(kept=request.models)
        self.context = here.context
        self.write_facts(render_context=self.context)
        cache = ImageCache(self.context) if request.use_cache else None
        audits = LoadAudit.of_plan(plan, self.store, self.context, cache)
        execution = Execution(
            plan=plan,
            store=self.store,
            conditions=self.conditions,
            audits=audits,
            cache=cache,
            show_progress=request.show_progress,
            clock=self.clock,
            interrupts=self.interrupts,
            batch_timeout=request.batch_timeout,
            budget=request.budget,
        )
        if pool is None:
            execution.render, execution.prepare = here, here.prepare
        else:
            program = RenderProgram(renderer, request.batch_timeout)
            execution.workers = Scheduler(pool.open(program), self._on_worker)
        stopped = self._run(execution, _busy_cores(device, pool))
        audits.complete(plan.files_by_audit().values())
        return stopped

    def _run(self, execution: Execution, n_cores: int | None) -> str | None:
        """Render, and score finished batches beside that where it pays."""
        beside = self._begin_beside(n_cores)
        if beside is None:
            return execution.run()
        execution.on_commit = beside.add
        try:
            stopped = execution.run()
        except BaseException:
            beside.leave()
            raise
        with self.clock.in_metrics():
            self.early = beside.end()
        return stopped

    def _begin_beside(self, n_cores: int | None) -> ScoringBeside | None:
        request, store = self.request, self.store
        if request.shard is not None:
            return None
        with self.clock.in_metrics():
            from bench.scoring.beside import begin_beside
            from bench.scoring.device import scoring_device

            return begin_beside(
                store,
                selected_metrics(self.plan.manifest),
                device=scoring_device(store, request.metric_device),
                n_images=len(self.plan.trials) - len(store.finished_trials()),
                n_cores=n_cores,
                timeout_s=request.batch_timeout,
            )

    def _on_worker(self, facts: Mapping[str, Any]) -> None:
        """Record a worker's machine; raise `UserError` if its images would be others."""
        if facts["render_context"] != self.context:
            raise UserError(
                f"a worker on {facts['node']} renders as {facts['render_context']}, the run is "
                f"{self.context}: install the same versions on all machines"
            )
        found = {"node": facts["node"], **facts["device"]}
        self.nodes += [found] if found not in self.nodes else []
        engine = str(self.request.workers)
        self.write_facts(engine=engine, device=facts["device"], nodes=self.nodes)


def _busy_cores(device: str, pool: Pool | None) -> int | None:
    """Return the cores of this machine that rendering takes; None where that is not known."""
    if pool is not None:
        return pool.n_cores
    import torch

    return torch.get_num_threads() if device == "cpu" else 1


def _device_facts(device: str, pool: Pool | None) -> dict[str, Any]:
    """Return the facts of the device; those of a worker's GPU are known once it is ready."""
    is_known = pool is None or device == "cpu"
    return provenance.device_facts(device) if is_known else {"kind": device, "name": device}
