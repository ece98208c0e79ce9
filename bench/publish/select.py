"""Select what of a finished run is published: checked file by file, without nsfw plugins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.publish.format import file_inside
from bench.publish.pictures import Published, Thumbnails, UploadQueue, publish_picture
from bench.publish.redaction import Privacy
from bench.publish.tables import Tables, kept_rows, of_trials, private_names, read_tables
from bench.store import RunStore
from bench.store.documents import paths_of, read_json, read_yaml
from bench.store.status import is_finished
from bench.store.verify import Damage, damage_lines, find_damage
from plugins_manifest.progress import Progress
from plugins_manifest.schema.stacks import PARTNER_KEYS

KnownPictures = Mapping[tuple[str, str], Published]  # by trial and the image's sha256


@dataclass(frozen=True)
class PublicRun:
    """The public part of a run; `left_out` are the nsfw plugins and stacks."""

    folder: Path
    facts: Mapping[str, Any]
    manifest: Mapping[str, Any]
    gate: Mapping[str, Any] | None
    tables: Tables
    plugins: tuple[str, ...]
    left_out: frozenset[str]


@dataclass(frozen=True)
class Pictures:
    """Objects of images by trial, and of condition images by their path in the run."""

    pictures: Mapping[str, Published]
    conditions: Mapping[str, Published]
    n_conditions_missing: int


def select_public(store: RunStore, *, nsfw: bool) -> PublicRun:
    """Return the public part of a finished run; raise one `UserError` with all its problems.

    Every file is compared with its hash.
    """
    found = find_damage(store)
    problems = damage_lines(store, [one for one in found if not _is_unpublished(one)])
    facts, manifest = store.run_facts(), _manifest(store, problems)
    if not is_finished(facts):
        problems.append(
            f"its status is {facts.get('status')!r}: run the same command again to finish it"
        )
    tables = read_tables(store, problems)
    done = set(tables["results"]["trial_id"].to_pylist())
    if missing := [t for t in tables["trials"]["trial_id"].to_pylist() if t not in done]:
        problems.append(f"{len(missing)} trials have no result: run the same command again")
    privacy = Privacy()
    for name, table in tables.items():
        for column in private_names(table, privacy):
            problems.append(f"{name}: column {column} contains a path of this machine or a secret")
    try:
        _condition_paths(tables)
    except (ValueError, AttributeError):
        problems.append("trials: column conditions is damaged: run the same command again")
    gate = _gate(store, problems)
    left_out = frozenset() if nsfw else _marked(manifest)
    kept = _without(tables, left_out)
    if problems:
        raise UserError.collect([f"{shown_path(store.folder)}: {text}" for text in problems])
    if kept["trials"].num_rows == 0:
        raise UserError(
            f"{shown_path(store.folder)}: nothing is left to publish: every plugin is marked nsfw, "
            "or there are no trials; --nsfw keeps them"
        )
    plugins = tuple(sorted(name for name in kept["trials"]["plugin"].unique().to_pylist() if name))
    return PublicRun(store.folder, facts, manifest, gate, kept, plugins, left_out)


def render_pictures(
    chosen: PublicRun,
    queue: UploadQueue,
    published: KnownPictures,
    *,
    images: bool,
    thumbnails: Thumbnails,
    show_progress: bool,
) -> Pictures:
    """Put all pictures into the queue, on all cores; those `published` before are only counted."""
    rows = chosen.tables["results"].select(["trial_id", "image", "image_sha256"]).to_pylist()
    known = {row["trial_id"]: published.get((row["trial_id"], row["image_sha256"])) for row in rows}
    wanted = [(row["trial_id"], row["image"]) for row in rows if row["image"]]
    paths = _condition_paths(chosen.tables)
    existing = [(path, path) for path in paths if file_inside(chosen.folder, path)]

    def one(item: tuple[str, str], *, original: bool) -> tuple[str, Published]:
        old = known.get(item[0])
        if old is not None and queue.keep(old.thumbnail):
            if not original:
                return item[0], Published(None, old.thumbnail)
            if old.image is not None and queue.keep(old.image):
                return item[0], old
        path = file_inside(chosen.folder, item[1])
        content = path.read_bytes() if path else b""
        return item[0], publish_picture(content, queue, thumbnails, with_original=original)

    total = len(wanted) + len(existing)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("reducing pictures", unit="picture", total=total, has_bar=show_progress) as bar,
    ):
        pictures = {}
        for trial, picture in pool.map(lambda item: one(item, original=images), wanted):
            pictures[trial] = picture
            bar.update()
        conditions = dict(pool.map(lambda item: one(item, original=False), existing))
        bar.update(len(existing))
    return Pictures(pictures, conditions, len(paths) - len(existing))


def _is_unpublished(damage: Damage) -> bool:
    is_case = damage.part == "plan" and damage.file.startswith("cases")
    return is_case or (damage.is_missing and damage.part in ("plan", "conditions"))


def _manifest(store: RunStore, problems: list[str]) -> Mapping[str, Any]:
    path = store.manifest_path
    try:
        data = read_yaml(path)
        if not isinstance(data, dict) or not all("id" in entry for entry in data["plugins"]):
            raise ValueError("it lists no plugins")
        return data
    except (UserError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {"plugins": []}


def _gate(store: RunStore, problems: list[str]) -> Mapping[str, Any] | None:
    path = store.gate_path
    if not path.is_file():
        return None
    try:
        data = read_json(path)
    except UserError as error:
        problems.append(f"{path.name} is damaged ({error}): delete it, or run `xbench gate` again")
        return None
    return data if isinstance(data, dict) else None


def _marked(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Return plugins marked nsfw, and plugins and stacks that are rendered with one of them."""
    plugins = manifest["plugins"]
    marked = {entry["id"] for entry in plugins if entry.get("nsfw")}
    keys = PARTNER_KEYS.values()
    partners = {entry["id"] for entry in plugins if {entry.get(key) for key in keys} & marked}
    stacks = {
        stack["id"]
        for stack in manifest.get("stacks", ())
        if {member["id"] for member in stack["plugins"]} & (marked | partners)
    }
    return frozenset(marked | partners | stacks)


def _without(tables: Tables, left_out: frozenset[str]) -> Tables:
    """Remove some plugins from the tables, and cases that only those have (own prompts)."""
    if not left_out:
        return tables
    cases = tables["trials"].select(["plugin", "case_id"]).to_pylist()
    kept = {row["case_id"] for row in cases if row["plugin"] and row["plugin"] not in left_out}
    removed = {row["case_id"] for row in cases if row["plugin"] in left_out} - kept
    found = {
        name: kept_rows(table, plugins=left_out, cases=removed)
        for name, table in tables.items()
        if name != "results"
    }
    return {**tables, **found, "results": of_trials(tables["results"], found["trials"]["trial_id"])}


def _condition_paths(tables: Tables) -> list[str]:
    trials = tables["trials"]
    found: set[str] = {path for path in trials["condition_path"].to_pylist() if path}
    for text in trials["conditions"].unique().to_pylist():
        found |= set(_paths_in(text))
    return sorted(found)


def _paths_in(text: str | None) -> Iterable[str]:
    return paths_of(text).values()
