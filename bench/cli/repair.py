"""Repair a damaged run: restore what has a copy, render and score the rest again.

Nothing is deleted: damaged files are moved into `.damaged` of the run directory. What is rendered
anew is rendered in the context of the run, so that the tables come out as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import provenance
from bench.errors import UserError, disk_error, shown_path
from bench.plan import ConditionSet, Plan, Selection, make_plan, preflight
from bench.plan.shards import Shard, part_of
from bench.registry import find_metric, installed
from bench.render import Execution, FamilyRenderer, LoadAudit, context_of
from bench.run import RunRequest, open_job, write_tables
from bench.store import TABLES, ImageCache, RunStore, records
from bench.store.checksums import CHECKSUMS_FILE, Checksums
from bench.store.files import sha256_of, table_bytes
from bench.store.run_store import RUN_FILE
from bench.store.verify import (
    TO_REPORT,
    TO_SCORE,
    Damage,
    Part,
    find_damage,
    n_unplanned,
    require_sound,
)
from plugins_manifest.files import make_folders, temporary_beside
from plugins_manifest.interrupts import watched_interrupts
from runners.options import DeviceOptions

_ASIDE = ".damaged"
_ORIGINS = ("rendered", "cache")


@dataclass(frozen=True)
class Repair:
    """What was damaged, what of it is sound now, and why the rest is not.

    `n_unplanned` results belong to trials that the plan does not have; they are not counted.
    """

    damaged: tuple[Damage, ...]
    not_repaired: Mapping[str, str] = field(default_factory=dict)  # file -> why
    n_unplanned: int = 0

    @property
    def repaired(self) -> list[str]:
        """The files that were damaged and are sound now."""
        return [d.file for d in self.damaged if d.file not in self.not_repaired]

    def as_data(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return {
            "damaged": [{"file": d.file, "problem": d.problem} for d in self.damaged],
            "repaired": self.repaired,
            "not_repaired": dict(self.not_repaired),
            "unplanned_results": self.n_unplanned,
        }


def check_run(folder: Path) -> Repair:
    """Verify everything in a run directory and change nothing."""
    store = _opened(folder)
    found = tuple(find_damage(store))
    return Repair(found, {d.file: d.problem for d in found}, _unplanned(store))


def repair_run(folder: Path, *, show_progress: bool = True) -> Repair:
    """Verify a run directory and repair what is damaged; a sound one is only recorded."""
    store = _opened(folder)
    with store.lock():
        found = tuple(find_damage(store))
        reasons = _Work(store, found, show_progress=show_progress).go() if found else {}
        left = find_damage(store)
        store.record_files(skip={damage.file for damage in left})
        left = find_damage(store) if left else []
        why = {damage.file: reasons.get(damage.part, damage.problem) for damage in left}
        return Repair(found, why, _unplanned(store))


def _opened(folder: Path) -> RunStore:
    if not any((folder / name).exists() for name in (RUN_FILE, CHECKSUMS_FILE)):
        raise UserError(f"{shown_path(folder)} is not a run directory: it has no {RUN_FILE}")
    return RunStore(folder)


def _unplanned(store: RunStore) -> int:
    with suppress(UserError):
        return n_unplanned(store)
    return 0


class _Work:
    """The repair of one run, whose lock is held."""

    def __init__(self, store: RunStore, found: Iterable[Damage], *, show_progress: bool) -> None:
        self.store, self.show_progress = store, show_progress
        self.found = list(found)
        self.reasons: dict[Part, str] = {}
        self.sums = Checksums()
        with suppress(UserError):
            self.sums = store.checksums()
        self._aside = store.folder / _ASIDE

    def go(self) -> dict[Part, str]:
        """Repair each part after those that it depends on; return why a part was not repaired."""
        self._restore_texts()
        self._try(("images",), self._restore_images)
        self.found = find_damage(self.store)
        sound = {path: path.read_bytes() for path in self._sound_results()}
        self._set_aside("plan", "results", "images", "conditions", "audit", "scores", "tables")
        if self._has("plan", "results", "images", "conditions", "audit"):
            parts: tuple[Part, ...] = ("plan", "results", "images", "conditions", "audit")
            self._try(parts, lambda: self._render(sound))
        if self._has("results", "images", "scores"):
            self._try(("scores",), self._score)
        has_changed = self._has(
            "results", "images", "scores", "conditions", "tables", "audit", "plan"
        )
        if has_changed and self._shard is None:
            self._try(("tables",), self._tabulate)
        self.reasons.setdefault("gate", "compare the runs again: xbench gate BASELINE RUN")
        return self.reasons

    def _has(self, *parts: Part) -> bool:
        return any(damage.part in parts for damage in self.found)

    def _try(self, parts: Iterable[Part], work: Callable[[], None]) -> None:
        try:
            work()
        except UserError as error:
            self.reasons |= dict.fromkeys(parts, str(error))

    # --- files with a copy

    def _restore_texts(self) -> None:
        """Restore run.json and manifest.yaml from their copies."""
        if any(damage.file == CHECKSUMS_FILE for damage in self.found):
            self._move_aside(self.store.folder / CHECKSUMS_FILE)
        for damage in self.found:
            if (text := self.sums.copies.get(damage.file)) is not None:
                self._move_aside(self.store.folder / damage.file)
                self.store.write_file(self.store.folder / damage.file, text.encode())

    def _restore_images(self) -> None:
        """Restore images from the cache where they have the hash of the results."""
        if not self._has("images"):
            return
        cache = ImageCache(self.facts.get("render_context", ""))
        rows = [
            row
            for path in self._sound_results()
            for row in records(self.store.read_part("results", path.stem))
        ]
        hashes = {row["trial_id"]: row["image_sha256"] for row in rows}
        for damage in self.found:
            cached = damage.trial_id and cache.get(damage.trial_id)
            if cached and sha256_of(cached.png) == hashes.get(damage.trial_id):
                self._move_aside(self.store.folder / damage.file)
                self.store.write_image_file(str(damage.trial_id), cached.png)

    def _set_aside(self, *parts: Part) -> None:
        """Move away what is still damaged, so that it counts as missing."""
        for damage in find_damage(self.store):
            if damage.part in parts and not damage.is_missing:
                self._move_aside(self.store.folder / damage.file)

    def _move_aside(self, path: Path) -> None:
        if not path.exists() and not path.is_symlink():
            return
        target = self._aside / path.relative_to(self.store.folder)
        try:
            make_folders(target.parent, below=self.store.folder)
            if target.exists() or target.is_symlink():
                target = target.with_name(f"{temporary_beside(target).stem[-12:]}-{target.name}")
            path.rename(target)
        except OSError as error:
            raise disk_error(error, target) from error

    @cached_property
    def facts(self) -> dict[str, Any]:
        return self.store.run_facts()

    @property
    def _shard(self) -> Shard | None:
        with suppress(UserError):  # run.json is damaged: that is reported as such
            return Shard.of_facts(self.facts)
        return None

    # --- results, images, conditions

    def _sound_results(self) -> list[Path]:
        broken = {damage.file for damage in self.found}
        paths = self.store.table_paths("results")
        return [p for p in paths if p.relative_to(self.store.folder).as_posix() not in broken]

    def _render(self, sound: Mapping[Path, bytes]) -> None:
        """Plan again as the run did, make what is missing, keep rows whose images came back."""
        conditions, plan = self._plan()
        known = {row["trial_id"]: row for row in records(self.store.results())}
        images = self.store.image_ids()
        planned = {trial.trial_id for trial in part_of(plan, self._shard).trials}
        wanted = {t for t, row in known.items() if row["status"] == "ok" and t not in images}
        if self._has("results"):
            wanted |= planned - known.keys()
        if lost := wanted - planned:
            raise UserError(
                f"{len(lost)} trials are not in the plan that its manifest gives here: a prompt, a "
                "picture or a plugin has changed since"
            )
        self._write_plan(conditions, plan)
        context = self._context(plan)
        cache = ImageCache(context)
        audits = LoadAudit.of_plan(plan, self.store, context, cache)
        if wanted:
            device = context.split("-")[2]
            renderer = FamilyRenderer(plan, device, options=self._options)
            with watched_interrupts() as interrupts:
                Execution(
                    plan=plan,
                    store=self.store,
                    conditions=conditions,
                    render=renderer,
                    prepare=renderer.prepare,
                    audits=audits,
                    cache=cache,
                    show_progress=self.show_progress,
                    interrupts=interrupts,
                    only=frozenset(wanted),
                ).run()
        audits.complete(plan.plugins.values())
        self._keep_rows(sound)

    def _plan(self) -> tuple[ConditionSet, Plan]:
        chosen = Selection.from_data(self.facts.get("selection", {}))
        request = RunRequest(str(self.store.manifest_path), chosen)
        job = open_job(request)
        preflight(job)
        cache = ImageCache("conditions")
        conditions = ConditionSet.of_job(job, self.store.folder, cache=cache)
        return conditions, make_plan(job, conditions)

    def _write_plan(self, conditions: ConditionSet, plan: Plan) -> None:
        conditions.save_index()
        if not self.store.cases_path.exists():
            self.store.write_cases(plan.cases.values())
        if self.store.table_paths("trials"):
            return
        path = self.store.table_path("trials")
        self.store.write_trials([trial.as_row() for trial in plan.trials])
        is_same = self.sums.files.get(path.name) == sha256_of(path.read_bytes())
        done, planned = set(self.store.results()["trial_id"]), set(self.store.trials()["trial_id"])
        if not is_same and not done <= planned:
            self._move_aside(path)
            raise UserError(
                "the run's manifest gives another plan here than the one it was run with"
            )

    @property
    def _options(self) -> DeviceOptions:
        return DeviceOptions.of_context(self.facts.get("render_context", ""))

    def _context(self, plan: Plan) -> str:
        """Return the run's render context; raise `UserError` if this machine has another one."""
        kind = self.facts.get("device", {}).get("kind", "auto")
        device = provenance.choose_device(kind)
        context = context_of(plan, device, self._options)
        wanted = self.facts.get("render_context", context)
        if context != wanted:
            raise UserError(
                f"it was rendered as {wanted}, here it would be {context}: run the same command "
                "into a new folder"
            )
        return context

    def _keep_rows(self, sound: Mapping[Path, bytes]) -> None:
        """Write results back byte by byte where images came out with the recorded hashes."""
        for path, content in sound.items():
            if path.read_bytes() != content:
                fresh = path.read_bytes()
                self.store.write_file(path, content)
                if not self._fits(path):
                    self.store.write_file(path, fresh)
        for name, sha256 in self.sums.files.items():
            path = self.store.folder / name
            if path.parent == self.store.table_path("results").parent and path.exists():
                self._as_recorded(path, sha256)

    def _fits(self, path: Path) -> bool:
        rows = records(self.store.read_part("results", path.stem))
        return all(row["status"] != "ok" or self.store.has_image(row) for row in rows)

    def _as_recorded(self, path: Path, sha256: str) -> None:
        """Restore the column `origin`, which the cache does not have, if that gives the hash."""
        if sha256_of(path.read_bytes()) == sha256:
            return
        frame = self.store.read_part("results", path.stem)
        for origin in _ORIGINS:
            content = table_bytes(frame.assign(origin=origin), TABLES["results"].columns)
            if sha256_of(content) == sha256:
                self.store.write_file(path, content)

    # --- scores and tables

    def _score(self) -> None:
        from bench.scoring import score_by_names

        require_sound(self.store, TO_SCORE)
        damaged = {Path(d.file).stem for d in self.found if d.part == "scores"}
        present = {path.stem for path in self.store.table_paths("scores")}
        changed = self._has("results", "images")
        names = damaged | {name for name in present if changed and _is_available(name)}
        unknown = sorted(names - installed("metrics").keys())
        score_by_names(self.store, sorted(names - set(unknown)), show_progress=self.show_progress)
        if unknown:
            raise UserError(f"no metric {', '.join(unknown)} is installed here")

    def _tabulate(self) -> None:
        require_sound(self.store, TO_REPORT)
        plots = self.store.plots_dir.relative_to(self.store.folder)
        has_png = any(Path(n).parent == plots and n.endswith(".png") for n in self.sums.files)
        write_tables(self.store, png=has_png)


def _is_available(metric: str) -> bool:
    from metrics.base import MetricUnavailableError

    try:
        find_metric(metric).recipe()
    except (UserError, MetricUnavailableError):
        return False
    return True
