"""Merge the shards of a run into one: take them over, score, write the tables."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import provenance
from bench.errors import LockedError, UserError, shown_path
from bench.plan.metrics import selected_metrics
from bench.plan.resume import check_same_manifest, moved_manifest
from bench.plan.shards import Shard
from bench.render import Stopwatch
from bench.render.engine.choice import Workers
from bench.run.benchmark import RunOutcome, RunRequest, final_status
from bench.run.scores import score_and_write
from bench.run.shards import (
    ShardRun,
    find_shards,
    require_count,
    require_plan,
    shard_facts,
    take_over,
)
from bench.store import RunStore, records
from bench.store.verify import PARTS, require_sound
from metrics.stats.verdicts import Thresholds
from plugins_manifest.progress import Progress

_OF_SHARDS = (  # facts that are alike in all shards
    *("manifest", "manifest_fingerprint", "plan_key", "selection", "family", "git", "versions"),
    *("weights", "references", "samples", "adapter_sha256", "adapters", "device", "render_context"),
)
_LOG = logging.getLogger(__name__)
_OPTION = re.compile(r"--shard[ =]\S+")


def merge_shards(
    out: Path,
    folders: Sequence[Path] = (),
    *,
    thresholds: Thresholds | None = None,
    timeout_s: float | None = None,
    show_progress: bool = True,
    metric_device: str = "auto",
    workers: Workers | None = None,
) -> RunOutcome:
    """Make one run in `out` of the shards in it and in other folders; score it.

    Raises `UserError` unless all shards are there, complete and of one plan. What `out` has
    already stays; the shards are not changed.
    """
    started = time.monotonic()
    shards, store = _all_shards(out, folders), RunStore(out)
    if is_resumed := store.exists():
        check_same_manifest(store.run_facts(), shards[0].facts, store)
    with store.lock():
        if is_resumed:
            require_sound(store, may_miss=PARTS)
        merge = _Merge(
            store,
            shards,
            thresholds,
            timeout_s,
            show_progress=show_progress,
            metric_device=metric_device,
            workers=workers,
        )
        outcome = merge.go()
    return replace(outcome, wall_seconds=time.monotonic() - started)


def merge_if_last(request: RunRequest, whole: RunStore, outcome: RunOutcome) -> RunOutcome:
    """Merge the shards of a folder if all are complete; else add to the outcome which are not.

    Of several that finish at once, one merges.
    """
    found = {one.shard.index: one for one in find_shards(whole.folder)}
    count = Shard.parse(str(outcome.shard)).count
    missing = [str(Shard(i, count)) for i in range(1, count + 1) if not _is_ready(found.get(i))]
    if missing:
        return replace(outcome, open_shards=tuple(missing))
    try:
        return merge_shards(
            whole.folder,
            thresholds=request.thresholds,
            timeout_s=request.batch_timeout,
            show_progress=request.show_progress,
            metric_device=request.metric_device,
            workers=request.workers,
        )
    except LockedError:
        return outcome


def _is_ready(one: ShardRun | None) -> bool:
    return one is not None and one.is_done and not one.store.is_locked()


# --- which shards


def _all_shards(out: Path, folders: Sequence[Path]) -> list[ShardRun]:
    """Return the shards of a run in their order; one `UserError` for all that is missing."""
    found: dict[Path, ShardRun] = {}
    for folder in (out, *folders):
        shards = find_shards(folder)
        if not shards and (folder is not out or not folders):
            raise UserError(
                f"there are no shards in {shown_path(folder)}: render them with "
                f"xbench run ... --shard I/N --out {shown_path(folder)}"
            )
        found |= {one.store.folder.resolve(): one for one in shards}
    shards = sorted(found.values(), key=lambda one: one.shard.index)
    _require_one_plan(shards)
    by_index: dict[int, ShardRun] = {}
    for one in shards:
        other = by_index.setdefault(one.shard.index, one)
        if other is not one:
            raise UserError(
                f"shard {one.shard} is in both {shown_path(other.store.folder)} and "
                f"{shown_path(one.store.folder)}: leave one of them out"
            )
    if problems := list(_incomplete(by_index, shards[0])):
        raise UserError.collect(problems)
    return shards


def _require_one_plan(shards: Sequence[ShardRun]) -> None:
    first = shards[0]
    planned = next((ids for one in shards if (ids := one.trial_ids)), [])
    for one in shards:
        one.require_idle()
        require_count(one, first.shard.count)
        check_same_manifest(one.facts, first.facts, one.store)
        require_plan(one, planned)


def _incomplete(by_index: Mapping[int, ShardRun], first: ShardRun) -> Iterator[str]:
    """Yield which shards are missing or not complete, each with the command."""
    for index in range(1, first.shard.count + 1):
        one = by_index.get(index)
        if one is None:
            shard = Shard(index, first.shard.count)
            yield f"shard {shard} is missing: {_command_of(first, shard)}"
        elif not one.is_done:
            yield (
                f"shard {one.shard} in {shown_path(one.store.folder)} is not complete "
                f"({one.facts.get('status')}): {_command_of(one, one.shard)}"
            )


def _command_of(one: ShardRun, shard: Shard) -> str:
    """Return the command of another shard of the same run."""
    command, n = _OPTION.subn(f"--shard {shard}", one.command)
    return f"run: {command}" if n else f"run it with --shard {shard}"


# --- the work


@dataclass
class _Merge:
    """The merge of complete shards into a run whose lock is held."""

    store: RunStore
    shards: Sequence[ShardRun]
    thresholds: Thresholds | None
    timeout_s: float | None
    show_progress: bool
    metric_device: str
    workers: Workers | None

    def go(self) -> RunOutcome:
        """Write plan, results and tables; keep run.json's status correct also after an error."""
        facts = self._facts()
        self.store.write_run_facts(facts)
        try:
            self._take_over()
            self._score()
        except BaseException as error:
            status = "stopped" if isinstance(error, Exception) else "interrupted"
            with suppress(UserError, OSError):  # on a full disk the status cannot be written
                self.store.write_run_facts({**facts, "status": status})
            raise
        planned = set(self.store.trials()["trial_id"])
        rows = [row for row in records(self.store.results()) if row["trial_id"] in planned]
        outcome = RunOutcome(
            folder=self.store.folder,
            n_trials=len(planned),
            n_failed=sum(row["status"] == "failed" for row in rows),
            n_cached=sum(row["origin"] == "cache" for row in rows),
            is_merged=True,
        )
        ended = {
            "status": final_status(outcome.n_failed),
            "finished": provenance.utc_now(),
            "counts": {
                "trials": outcome.n_trials,
                "failed": outcome.n_failed,
                "from_cache": outcome.n_cached,
            },
            "distributions": provenance.took_part(facts["distributions"]),
        }
        self.store.write_run_facts({**self.store.run_facts(), **ended})
        return outcome

    def _facts(self) -> dict[str, Any]:
        """Return the facts of the merged run; `shards` has those of each."""
        old = self.store.run_facts() if self.store.exists() else {}
        first = self.shards[0].facts
        parts = [p for s in self.shards for p in s.facts.get("distributions") or ()]
        created = min(str(one.facts.get("created")) for one in self.shards)
        return {
            "run_id": old.get("run_id", uuid.uuid4().hex),
            "status": "running",
            "created": old.get("created", created),
            "command": provenance.command_line(),
            **{key: first[key] for key in _OF_SHARDS if key in first},
            "distributions": provenance.took_part(parts),
            **{key: old[key] for key in ("metric_device",) if key in old},
            **shard_facts(self.shards),
        }

    def _take_over(self) -> None:
        store, first = self.store, self.shards[0].store
        contexts = {str(one.facts.get("render_context")) for one in self.shards} - {"None"}
        if len(contexts) > 1:
            _LOG.warning(
                "the shards were rendered in different contexts (%s): their images may differ by "
                "rounding from those of one machine",
                ", ".join(sorted(contexts)),
            )
        store.write_manifest(moved_manifest(first, store.folder))
        store.write_cases(first.cases().values())
        store.write_table("trials", first.trials())
        what = f"merging {len(self.shards)} shards"
        with Progress(what, unit="shard", total=len(self.shards)) as progress:
            for one in self.shards:
                progress.detail(str(one.shard))
                take_over(store, one)
                progress.update()
        lost = set(store.trials()["trial_id"]) - set(store.results()["trial_id"])
        if lost:
            raise UserError(
                f"{len(lost):,} images are in none of the shards, which were dealt in different "
                f"ways: render them with xbench run --manifest MANIFEST --out "
                f"{shown_path(store.folder)}"
            )

    def _score(self) -> None:
        manifest = self.store.manifest()
        score_and_write(
            self.store,
            selected_metrics(manifest),
            clock=Stopwatch(),
            mode=manifest.mode,
            thresholds=self.thresholds,
            timeout_s=self.timeout_s,
            show_progress=self.show_progress,
            metric_device=self.metric_device,
            workers=self.workers,
        )
