"""Shards of a run: their folders, what may be in one run together, and taking them over.

A shard is a run directory of its own, `shards/I-of-N` of the run: no two processes write into one
file. It has the whole plan and the results of its part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import LockedError, UserError, shown_path
from bench.plan.resume import check_identity
from bench.plan.shards import Shard
from bench.render.audit import merge_audits
from bench.store import Row, RunStore, is_run, records
from bench.store.run_store import run_folders
from bench.store.status import SHARD_DONE
from bench.store.verify import TO_SCORE, Part, require_sound
from plugins_manifest.schema import Manifest

_RECORDED = ("run_id", "command", "created", "finished", "device", "render_context", "counts")
_TO_TAKE: tuple[Part, ...] = (*TO_SCORE, "audit")


@dataclass(frozen=True)
class ShardRun:
    """A shard that was started, with the facts of its run.json."""

    shard: Shard
    store: RunStore
    facts: dict[str, Any]

    @property
    def is_done(self) -> bool:
        """Return whether nothing of the shard is left to render."""
        return self.facts.get("status") == SHARD_DONE

    @property
    def command(self) -> str:
        """The command that rendered it."""
        return str(self.facts.get("command"))

    @property
    def trial_ids(self) -> list[str]:
        """The ids of the whole plan; empty before it is written."""
        return self.store.trials()["trial_id"].tolist()

    def require_idle(self) -> None:
        """Raise `LockedError` if a process is writing into the shard."""
        if self.store.is_locked():
            raise LockedError(
                f"shard {self.shard} is being rendered into {shown_path(self.store.folder)}: wait "
                "for it, or stop it"
            )


def find_shards(folder: Path) -> list[ShardRun]:
    """Return the shards in a folder, which may itself be one, in their order."""
    found = []
    for place in (folder, *run_folders(RunStore(folder).shards_dir)):
        facts = RunStore(place).run_facts() if is_run(place) else {}
        if (shard := Shard.of_facts(facts)) is not None:
            found.append(ShardRun(shard, RunStore(place), facts))
    return sorted(found, key=lambda one: (one.shard.count, one.shard.index))


def shard_facts(shards: Sequence[ShardRun]) -> dict[str, list[dict[str, Any]]]:
    """Return what run.json records of the shards of a run; nothing without shards."""
    found = [
        {"shard": str(s.shard), **{key: s.facts[key] for key in _RECORDED if key in s.facts}}
        for s in shards
    ]
    return {"shards": found} if found else {}


def open_shard(whole: RunStore, shard: Shard, manifest: Manifest) -> RunStore:
    """Return the run directory of a shard.

    Raises `UserError` if the run has shards of another number or manifest, or is being written.
    """
    if whole.is_locked():
        raise LockedError(
            f"another run is writing into {shown_path(whole.folder)}, without --shard or to merge "
            "its shards: wait for it, stop it, or choose another --out"
        )
    for other in find_shards(whole.folder):
        check_identity(other.facts, manifest, other.store)
        require_count(other, shard.count)
    return RunStore(whole.shards_dir / shard.name)


def require_count(one: ShardRun, count: int) -> None:
    """Raise `UserError` if a shard is one of another number of shards."""
    if one.shard.count != count:
        raise UserError(
            f"{shown_path(one.store.folder)} is shard {one.shard}, and others are of {count}: give "
            f"all of them the same N in --shard I/N, choose another --out, or delete that folder"
        )


def require_same_plan(store: RunStore, trial_ids: Sequence[str]) -> None:
    """Raise `UserError` if another shard beside this one has another plan."""
    for other in find_shards(store.folder.parents[1]):
        if other.store.folder != store.folder:
            require_plan(other, trial_ids)


def require_plan(one: ShardRun, trial_ids: Sequence[str]) -> None:
    """Raise `UserError` if a shard has another plan than this one."""
    found = one.trial_ids
    if found and found != trial_ids:
        raise UserError(
            f"{shown_path(one.store.folder)} has another plan, {len(found):,} trials where the "
            f"others have {len(trial_ids):,}: run all shards with the same options and files, or "
            f"delete that folder and run it again: {one.command}"
        )


def take_over_shards(store: RunStore, manifest: Manifest) -> None:
    """Take over what the shards of a run have rendered, before the run goes on as a whole."""
    for one in find_shards(store.folder):
        check_identity(one.facts, manifest, one.store)
        take_over(store, one, may_miss=("images",))


def take_over(store: RunStore, one: ShardRun, *, may_miss: Collection[Part] = ()) -> None:
    """Commit the finished batches of a shard to a locked run, with their images and audits.

    What the run has already stays. Raises `UserError` for a shard that is in use, or damaged beyond
    the parts that `may_miss`.
    """
    one.require_idle()
    part, done = one.store, store.finished_trials()
    if not part.table_paths("trials"):
        return
    require_sound(part, _TO_TAKE, may_miss=("audit", *may_miss))
    _adopt_conditions(store, part)
    for path in part.result_paths():
        found = records(part.read_part("results", path.stem))
        rows = [row for row in found if row["trial_id"] not in done and _is_there(part, row)]
        for row in rows:
            if row["image"]:
                store.adopt_file(part.folder / row["image"], name=row["image"])
        if rows:
            store.write_results(path.stem, rows)
    merge_audits(store, part)


def _is_there(part: RunStore, row: Row) -> bool:
    return not row["image"] or (part.folder / row["image"]).is_file()


def _adopt_conditions(store: RunStore, part: RunStore) -> None:
    known, more, root = store.condition_hashes(), part.condition_hashes(), part.conditions_dir
    inside = {n: sha for n, sha in more.items() if (part.folder / n).parent.parent == root}
    for name in inside.keys() - known.keys():
        store.adopt_file(part.folder / name, name=name)
    store.write_condition_hashes(inside | known)
