"""Publishing a finished run: check it, strip what is private, write objects, the index last.

The same run always gives the same bytes, so a second publication uploads nothing and one that was
interrupted is completed by the same command. Readers see the old state until the index is there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.errors import UserError
from bench.publish.facts import public_facts, public_gate, public_manifest
from bench.publish.format import (
    INDEX,
    MAX_INDEX_BYTES,
    OBJECTS,
    PUBLISHED_FORMAT,
    index_name,
    is_key,
)
from bench.publish.locations import open_place
from bench.publish.pictures import THUMBNAIL_RECIPE, Published, UploadQueue
from bench.publish.previous import index_before, pictures_before
from bench.publish.redaction import Privacy
from bench.publish.select import PublicRun, pick, render_pictures
from bench.publish.tables import (
    public_results,
    public_table,
    public_trials,
    spool_table,
)
from bench.store.run_store import RunStore

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Publication:
    """What was published; `n_new` and `new_bytes` are of what was not there before."""

    to: str
    key: str
    n_trials: int
    n_failed: int
    n_plugins: int
    n_nsfw_left_out: int
    n_conditions_missing: int
    n_objects: int
    n_bytes: int
    n_new: int
    new_bytes: int
    has_images: bool

    def as_data(self) -> dict[str, Any]:
        """Plain data for scripts."""
        return asdict(self)


def publish_run(
    run_dir: Path,
    address: str,
    *,
    key: str | None = None,
    images: bool = False,
    nsfw: bool = False,
    show_progress: bool = False,
    say: Progress = lambda _: None,
) -> Publication:
    """Publish a run at an address; `UserError` names everything that is wrong with the run.

    `key` is its name in the store (default: its folder's), `images` adds the PNG files, `nsfw`
    keeps plugins that are marked so. `say` is told before the upload.
    """
    store, place = RunStore.open(run_dir), open_place(address)
    key = key or store.folder.resolve().name
    if not is_key(key):
        raise UserError(f"{key!r} cannot be a key: choose letters, digits, . _ - with --key")
    chosen = pick(store, nsfw=nsfw)
    existing = place.listing(OBJECTS)
    index = place.listing(INDEX)
    old = index_before(place, key, chosen) if index_name(key) in index else None
    with tempfile.TemporaryDirectory(prefix="xbench-publish-") as folder:
        spool = UploadQueue(Path(folder), {name: file.n_bytes for name, file in existing.items()})
        before = pictures_before(place, old)
        made = render_pictures(chosen, spool, before, images=images, show_progress=show_progress)
        content = _index(key, chosen, made.pictures, made.conditions, spool)
        size = sum(spool.sizes[name] for name in spool.new)
        changes = {} if content == old else {index_name(key): content}
        if spool.new or changes:
            say(f"uploading {len(spool.new)} files, {told_size(size)}, to {place.address}")
            place.upload(dict(sorted(spool.new.items())), changes)
        return Publication(
            to=place.address,
            key=key,
            n_trials=chosen.tables.trials.num_rows,
            n_failed=_n_with(chosen.tables.results, "status", "failed"),
            n_plugins=len(chosen.plugins),
            n_nsfw_left_out=len(chosen.left_out),
            n_conditions_missing=made.n_conditions_missing,
            n_objects=len(spool.sizes) + 1,
            n_bytes=sum(spool.sizes.values()) + len(content),
            n_new=len(spool.new) + len(changes),
            new_bytes=size + sum(map(len, changes.values())),
            has_images=images,
        )


def told_size(n_bytes: int) -> str:
    """A size as people read it."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _index(
    key: str,
    chosen: PublicRun,
    pictures: Mapping[str, Published],
    conditions: Mapping[str, Published],
    spool: UploadQueue,
) -> bytes:
    """The index file; everything that it names is put into the spool."""
    # names of what is left out must not stand in a reason either
    privacy, tables = Privacy(words=chosen.left_out), chosen.tables
    public = {
        "trials": public_trials(tables.trials, conditions, privacy),
        "results": public_results(tables.results, pictures, privacy),
        "scores": public_table(tables.scores, privacy),
        "summary": public_table(tables.summary, privacy),
        "compatibility": public_table(tables.compatibility, privacy),
        "audit": public_table(tables.audit, privacy),
    }
    manifest = public_manifest(chosen.manifest, privacy, left_out=chosen.left_out)
    facts = public_facts(chosen.facts, privacy, left_out=chosen.left_out)
    counts = {
        "trials": tables.trials.num_rows,
        "failed": _n_with(tables.results, "status", "failed"),
        "from_cache": _n_with(tables.results, "origin", "cache"),
    }
    # a verdict over plugins that are left out would speak of them
    gate = None if chosen.left_out or chosen.gate is None else public_gate(chosen.gate, privacy)
    data = {
        "format": PUBLISHED_FORMAT,
        "key": key,
        "facts": {"format": chosen.facts["format"], **facts, "counts": counts},
        "tables": {name: spool_table(table, spool) for name, table in public.items()},
        "manifest": spool.add(_json(manifest), "json"),
        "gate": None if gate is None else spool.add(_json(gate), "json"),
        "thumbnails": THUMBNAIL_RECIPE,
        "n_nsfw_left_out": len(chosen.left_out),
    }
    content = _json(data)
    if len(content) > MAX_INDEX_BYTES:
        raise UserError(f"run.json is too large to publish ({told_size(len(content))})")
    return content


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _n_with(table: pa.Table, column: str, value: str) -> int:
    return table.filter(pc.field(column) == value).num_rows
