"""Publish a finished run: check it, remove what is private, write objects, the index last.

The same run always gives the same bytes, so a second publication uploads nothing and an interrupted
one is completed by the same command. Readers see the old state until the index is written.
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

from bench.errors import UserError, shown_path
from bench.publish.base import StoreLocation
from bench.publish.comparison import comparison_tables
from bench.publish.download import RunAddress
from bench.publish.facts import public_facts, public_gate, public_manifest
from bench.publish.format import (
    INDEX,
    MAX_INDEX_BYTES,
    MAX_TABLE_BYTES,
    OBJECTS,
    PUBLISHED_FORMAT,
    index_name,
    is_content,
    is_key,
    is_object,
)
from bench.publish.locations import is_remote, local_folder, open_location
from bench.publish.pictures import LOSSLESS, Published, Thumbnails, UploadQueue
from bench.publish.redaction import Privacy
from bench.publish.select import (
    KnownPictures,
    Pictures,
    PublicRun,
    render_pictures,
    select_public,
)
from bench.publish.tables import public_results, public_table, public_trials, queue_table
from bench.store import RunStore
from bench.store.files import sha256_of
from bench.store.parquet import open_parquet
from plugins_manifest.documents import parse_json
from plugins_manifest.folders import refuse_overlap
from plugins_manifest.progress import Progress

Report = Callable[[str], None]
_PICTURE_COLUMNS = ["trial_id", "image_sha256", "image", "thumbnail"]


@dataclass(frozen=True)
class Publication:
    """What was published; `n_new` and `new_bytes` count what the store did not have before.

    `baseline` names exactly this publication, for `xbench gate` and `xbench run --baseline`; None
    if the run's cases are missing.
    """

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
    baseline: str | None

    def as_data(self) -> dict[str, Any]:
        """Return plain data for scripts."""
        return asdict(self)


def publish_run(
    run_dir: Path,
    address: str,
    *,
    key: str | None = None,
    images: bool = False,
    nsfw: bool = False,
    thumbnails: Thumbnails = LOSSLESS,
    show_progress: bool = False,
    report: Report = lambda _: None,
) -> Publication:
    """Publish a run at an address; raise one `UserError` with all problems of the run.

    `key` is its name in the store (default: its folder's), `images` adds the PNG files, `nsfw`
    keeps plugins that are marked so; by default `thumbnails` of small pictures are lossless.
    `report` is called with a line before the upload.
    """
    store, place = RunStore.open(run_dir), open_location(address)
    if not is_remote(address):
        refuse_overlap(local_folder(address), [store.folder], option="--to")
    key = key or store.folder.resolve().name
    if not is_key(key):
        raise UserError(f"{key!r} cannot be a key: choose letters, digits, . _ - with --key")
    chosen = select_public(store, nsfw=nsfw)
    existing = place.listing(OBJECTS)
    index = place.listing(INDEX)
    old = _published_index(place, key, chosen) if index_name(key) in index else None
    with tempfile.TemporaryDirectory(prefix="xbench-publish-") as folder:
        queue = UploadQueue(Path(folder), {name: file.n_bytes for name, file in existing.items()})
        made = render_pictures(
            chosen,
            queue,
            _published_pictures(place, old, thumbnails),
            images=images,
            thumbnails=thumbnails,
            show_progress=show_progress,
        )
        content, is_comparable = _index(key, chosen, made, queue, thumbnails)
        pinned = RunAddress(address, key, sha256_of(content))
        size = sum(queue.sizes[name] for name in queue.new)
        changes = {} if content == old else {index_name(key): content}
        if queue.new or changes:
            report(f"uploading {len(queue.new)} files, {size_text(size)}, to {place.address}")
            with Progress(f"uploading {len(queue.new)} files to {place.address}"):
                place.upload(dict(sorted(queue.new.items())), changes)
        return Publication(
            to=place.address,
            key=key,
            n_trials=chosen.tables["trials"].num_rows,
            n_failed=_n_with(chosen.tables["results"], "status", "failed"),
            n_plugins=len(chosen.plugins),
            n_nsfw_left_out=len(chosen.left_out),
            n_conditions_missing=made.n_conditions_missing,
            n_objects=len(queue.sizes) + 1,
            n_bytes=sum(queue.sizes.values()) + len(content),
            n_new=len(queue.new) + len(changes),
            new_bytes=size + sum(map(len, changes.values())),
            has_images=images,
            baseline=str(pinned) if is_comparable else None,
        )


def size_text(n_bytes: int) -> str:
    """Return a size in kB or MB."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


# --- what the store has from an earlier publication


def _published_index(place: StoreLocation, key: str, chosen: PublicRun) -> bytes | None:
    """Return the run's current index file; raise `UserError` if the key is another run's."""
    content = place.read(index_name(key), limit_bytes=MAX_INDEX_BYTES)
    facts = _parsed(content).get("facts")
    other = facts.get("run_id") if isinstance(facts, dict) else None
    if other is not None and other != chosen.facts.get("run_id"):
        raise UserError(
            f"{place.address} has another run under the key {key!r}: choose another with --key "
            f"(this one is {shown_path(chosen.folder)})"
        )
    return content


def _published_pictures(
    place: StoreLocation, index: bytes | None, thumbnails: Thumbnails
) -> KnownPictures:
    """Return the pictures that the results of an index name; none if any of it is not valid."""
    data = _parsed(index)
    tables = data.get("tables")
    names = tables.get("results") if isinstance(tables, dict) else None
    if data.get("thumbnails") != thumbnails.recipe or not isinstance(names, list):
        return {}
    found: dict[tuple[str, str], Published] = {}
    for name in names:
        is_table = is_object(name, "parquet")
        content = place.read(name, limit_bytes=MAX_TABLE_BYTES) if is_table else None
        if content is None or not is_content(name, content):
            return {}
        try:
            rows = open_parquet(content, name=name).read(columns=_PICTURE_COLUMNS).to_pylist()
        except (UserError, pa.ArrowException, OSError, ValueError):
            return {}
        for row in rows:
            trial, sha256, image, thumbnail = (row.get(column) for column in _PICTURE_COLUMNS)
            if is_object(thumbnail, "webp"):
                image = image if is_object(image, "png") else None
                found[str(trial), str(sha256)] = Published(image, str(thumbnail))
    return found


def _parsed(index: bytes | None) -> dict[str, Any]:
    try:
        data = parse_json(index or b"{}", name=INDEX)
    except UserError:
        return {}
    return data if isinstance(data, dict) else {}


# --- the new index


def _index(
    key: str, chosen: PublicRun, made: Pictures, queue: UploadQueue, thumbnails: Thumbnails
) -> tuple[bytes, bool]:
    """Return the index file, and whether a gate can compare with the run.

    Every object that the index names is put into the queue.
    """
    # names of what is left out must not occur in a reason either
    privacy, tables = Privacy(words=chosen.left_out), chosen.tables
    public = {
        **{name: public_table(table, privacy) for name, table in tables.items()},
        "trials": public_trials(tables["trials"], made.conditions, privacy),
        "results": public_results(tables["results"], made.pictures, privacy),
    }
    manifest = public_manifest(chosen.manifest, privacy, left_out=chosen.left_out)
    facts = public_facts(chosen.facts, privacy, left_out=chosen.left_out)
    counts = {
        "trials": tables["trials"].num_rows,
        "failed": _n_with(tables["results"], "status", "failed"),
        "from_cache": _n_with(tables["results"], "origin", "cache"),
    }
    # a verdict over plugins that are left out would name them
    gate = None if chosen.left_out or chosen.gate is None else public_gate(chosen.gate, privacy)
    compared = comparison_tables(
        RunStore(chosen.folder),
        privacy,
        case_ids=set(tables["trials"]["case_id"].to_pylist()),
        left_out=chosen.left_out,
    )
    data = {
        "format": PUBLISHED_FORMAT,
        "key": key,
        "facts": {"format": chosen.facts["format"], **facts, "counts": counts},
        "tables": {name: queue_table(table, queue) for name, table in public.items()},
        "comparison": compared and {name: queue_table(t, queue) for name, t in compared.items()},
        "manifest": queue.add(_json(manifest), "json"),
        "gate": None if gate is None else queue.add(_json(gate), "json"),
        "thumbnails": thumbnails.recipe,
        "n_nsfw_left_out": len(chosen.left_out),
    }
    content = _json(data)
    if len(content) > MAX_INDEX_BYTES:
        raise UserError(
            f"the facts of the run are too large to publish ({size_text(len(content))})"
        )
    return content, compared is not None


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _n_with(table: pa.Table, column: str, value: str) -> int:
    return table.filter(pc.field(column) == value).num_rows
