"""Download a published run into a run directory of this machine, to compare with it.

A run is named URL#KEY, and URL#KEY@sha256:... for exactly one publication: the hash is that of its
index file, which names every object by content. Objects are downloaded once; an interrupted
download goes on with those that are missing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.errors import UserError, disk_error, unknown_name
from bench.publish.base import StoreLocation
from bench.publish.comparison import COMPARISON, SET_KEY
from bench.publish.format import (
    INDEX,
    MAX_INDEX_BYTES,
    MAX_JSON_BYTES,
    MAX_PICTURE_BYTES,
    MAX_TABLE_BYTES,
    MAX_TABLE_PARTS,
    PUBLISHED_FORMAT,
    index_name,
    is_object,
    key_of,
)
from bench.publish.hub import HubLocation
from bench.publish.locations import is_remote, local_folder, open_location
from bench.publish.object_cache import TableCache, read_object
from bench.store import PUBLISHED, TABLES, RunStore, cache_folder, is_run, records
from bench.store.documents import left_out_of, parse_json
from bench.store.files import sha256_of, table_frame
from bench.store.run_store import image_name
from bench.store.verify import TO_REPORT, find_damage
from plugins_manifest.cases import Case
from plugins_manifest.files import temporary_beside
from plugins_manifest.progress import Progress
from plugins_manifest.text import shortened

_PIN = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"\w[\w.+-]{0,199}")  # of trials and metrics, which become names of files
_N_READERS = 8
Objects = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class RunAddress:
    """A run in a published store; `key` None means its only run, `sha256` None any content."""

    store: str
    key: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        """Return the text that `--baseline` takes."""
        pin = f"@sha256:{self.sha256}" if self.sha256 else ""
        return f"{self.store}#{self.key}{pin}" if self.key else self.store


def parse_address(text: str) -> RunAddress | None:
    """Return the address of a published run; None for the path of a run directory.

    Raises `UserError` for a malformed pin.
    """
    if not is_remote(text) and is_run(local_folder(text)):
        return None
    store, mark, fragment = text.partition("#")
    is_store = is_remote(store) or any((local_folder(store) / INDEX).glob("*.json"))
    if not is_store:
        return None
    key, at, pin = fragment.partition("@")
    found = _PIN.fullmatch(pin)
    if (mark and not key) or (at and found is None):
        raise UserError(
            f"{text!r} does not name a run: use {store}#KEY, or {store}#KEY@sha256:<64 digits>, as "
            "`xbench publish` prints it"
        )
    if not is_remote(store):  # the cached run remembers where its images are
        store = str(local_folder(store).absolute())
    return RunAddress(store, key or None, found[1] if found else None)


def download_run(address: RunAddress) -> RunStore:
    """Return the run directory of a published run, made if it is not in the cache.

    With a pin that is in the cache, no request is made. It has tables, scores and cases; images
    are downloaded by `download_images`. Raises `UserError`, also if the pin does not fit.
    """
    if address.sha256 and (store := _cached(address)):
        return store
    place = open_location(address.store)
    key = address.key or _only_key(place, address.store)
    content = place.read(index_name(key), limit_bytes=MAX_INDEX_BYTES)
    if content is None:
        known = sorted(k for name in place.listing(INDEX) if (k := key_of(name)))
        raise UserError(f"{address.store}: {unknown_name('run', key, known)}")
    found = RunAddress(address.store, key, sha256_of(content))
    if address.sha256 not in (None, found.sha256):
        raise UserError(
            f"{address.store}#{key} is not what it is pinned to: it has sha256:{found.sha256}, the "
            f"pin is sha256:{address.sha256}. It was published again since: check why, then use "
            f"{found}"
        )
    return _cached(found) or _Download(place, found, content).make()


def _folder_of(sha256: str) -> Path:
    return cache_folder() / "baselines" / sha256


def _cached(address: RunAddress) -> RunStore | None:
    """Return the run directory in the cache; None if it is missing or damaged."""
    store = RunStore(_folder_of(str(address.sha256)))
    if not is_run(store.folder):
        return None
    if [one for one in find_damage(store, TO_REPORT) if not one.is_missing]:
        return None
    facts = store.run_facts()
    if facts["published"]["address"] != str(address):  # the same bytes at another place
        store.write_run_facts(
            {**facts, "published": {**facts["published"], "address": str(address)}}
        )
    return store


def _only_key(place: StoreLocation, address: str) -> str:
    keys = sorted(key for name in place.listing(INDEX) if (key := key_of(name)))
    if not keys:
        raise UserError(f"{address} has no published run: check the address")
    if len(keys) > 1:
        raise UserError(
            f"{address} has {len(keys)} runs ({shortened(keys)}): name one, such as "
            f"{address}#{keys[0]}"
        )
    return keys[0]


class _Objects:
    """Reads the objects of a store through the cache that all readers share."""

    def __init__(self, place: StoreLocation, address: str) -> None:
        source = None if is_remote(address) else local_folder(address)
        self._place = place
        self._cache = TableCache(cache_folder() / "published", source=source)

    def content(self, name: str, limit_bytes: int) -> bytes:
        read = self._cache.path(name, lambda: read_object(self._place, name, limit_bytes))
        return read.read_bytes()

    def tables(self, names: Sequence[str], columns: pa.Schema, *, title: str) -> pd.DataFrame:
        """Return the rows of a table's objects, downloaded at the same time."""
        with ThreadPoolExecutor(_N_READERS) as pool:
            parts = list(pool.map(lambda name: self.content(name, MAX_TABLE_BYTES), names))
        frames = [table_frame(part, columns, name=title) for part in parts]
        return pd.concat(frames or [columns.empty_table().to_pandas()], ignore_index=True)


class _Download:
    """One published run on its way into a run directory."""

    def __init__(self, place: StoreLocation, address: RunAddress, index: bytes) -> None:
        self._address = address
        self._objects = _Objects(place, address.store)
        data = parse_json(index, name=str(address))
        self._index = data if isinstance(data, dict) else {}
        if self._index.get("format") != PUBLISHED_FORMAT:
            raise self._damaged(f"its format is {self._index.get('format')!r}")

    def make(self) -> RunStore:
        """Write the run directory under a temporary name, and then its own."""
        final = _folder_of(str(self._address.sha256))
        folder = temporary_beside(final)
        try:
            with Progress(f"downloading the tables of {self._address}"):
                self._write(RunStore(folder))
            shutil.rmtree(final, ignore_errors=True)
            folder.rename(final)
        except OSError as error:
            if not is_run(final):  # another process may have made it meanwhile
                raise disk_error(error, final) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return RunStore(final)

    def _write(self, store: RunStore) -> None:
        comparison = self._index.get("comparison")
        if not isinstance(comparison, dict):
            raise UserError(
                f"{self._address} cannot be compared with: it was published by an earlier version, "
                "or after its cases.json was deleted: publish the run again"
            )
        objects = _checked(self._index.get("tables"), PUBLISHED)
        facts, manifest = self._index.get("facts"), self._manifest()
        if not isinstance(facts, dict):
            raise self._damaged("it has no facts")
        results = self._table("results", objects)
        origin = {"address": str(self._address), "results": list(objects["results"])}
        origin["has_images"] = bool(results["image"].notna().any())
        store.write_run_facts({**facts, "published": origin})
        store.write_manifest(manifest)
        cases = self._comparison("cases", comparison)
        store.write_cases(self._cases(cases))
        conditions = self._comparison("conditions", comparison)
        store.write_condition_hashes(
            dict(zip(conditions["path"], conditions["sha256"], strict=True))
        )
        store.write_table("trials", self._table("trials", objects))
        store.write_table("results", _with_images(results), "published")
        for name in ("summary", "compatibility", "audit"):
            if not (frame := self._table(name, objects)).empty:
                store.write_table(name, frame)
        self._write_scores(store, self._table("scores", objects), comparison, cases)

    def _write_scores(
        self, store: RunStore, scores: pd.DataFrame, comparison: Any, cases: pd.DataFrame
    ) -> None:
        prompts = {row["prompt_sha256"]: self._facts_of(row)["prompt"] for row in records(cases)}
        left_out = {
            tuple(row[key] for key in SET_KEY): _named(row["leave_one_out"], prompts)
            for row in records(self._comparison("sets", comparison))
        }
        found = [left_out.get(tuple(row[key] for key in SET_KEY)) for row in records(scores)]
        is_set = scores["level"] == "group"
        scores = scores.assign(leave_one_out=pd.Series(found, dtype=object).where(is_set, None))
        for metric, frame in scores.groupby("metric"):
            store.write_scores(self._name(metric), frame)

    def _table(self, name: str, objects: Objects) -> pd.DataFrame:
        frame = self._objects.tables(objects[name], PUBLISHED[name], title=TABLES[name].title)
        for trial in frame["trial_id"].dropna() if "trial_id" in frame else ():
            self._name(trial)
        return frame

    def _comparison(self, name: str, listed: Any) -> pd.DataFrame:
        objects = _checked(listed, COMPARISON)
        return self._objects.tables(objects[name], COMPARISON[name], title=name)

    def _cases(self, frame: pd.DataFrame) -> list[Case]:
        found = [self._facts_of(row) for row in records(frame)]
        return [
            Case(**{**facts, "scene": tuple(facts["scene"]) if facts.get("scene") else None})
            for facts in found
        ]

    def _facts_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        facts = parse_json(row["facts"] or "", name="a case")
        if not isinstance(facts, dict) or set(facts) - _CASE_KEYS or not set(facts) >= _CASE_TEXTS:
            raise self._damaged("a case is not one")
        return facts

    def _manifest(self) -> Mapping[str, Any]:
        name = self._index.get("manifest")
        content = None
        if is_object(name, "json"):
            content = parse_json(self._objects.content(str(name), MAX_JSON_BYTES), name="manifest")
        if not isinstance(content, dict):
            raise self._damaged("it has no manifest")
        return content

    def _name(self, name: object) -> str:
        if isinstance(name, str) and _NAME.fullmatch(name):
            return name
        raise self._damaged(f"{str(name)[:60]!r} is not a name")

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self._address} is damaged: {why}: publish the run again")


_CASE_KEYS = {"case_id", "prompt", "negative_prompt", "scene"}
_CASE_TEXTS = {"case_id", "prompt"}


def _checked(listed: Any, known: Collection[str]) -> Objects:
    """Return the objects of each table; names that are not those of objects are left out."""
    listed = listed if isinstance(listed, dict) else {}
    return {
        table: [
            name
            for name in list(listed.get(table) or ())[:MAX_TABLE_PARTS]
            if is_object(name, "parquet")
        ]
        for table in known
    }


def _named(cell: str | None, prompts: Mapping[str, str]) -> str:
    """Return a set score's cell with prompts in place of their hashes, where they are known."""
    from json import dumps

    return dumps({prompts.get(key, key): value for key, value in left_out_of(cell).items()})


def _with_images(results: pd.DataFrame) -> pd.DataFrame:
    """Return results that name the images' places here, and the hashes of the published files."""
    rows = []
    for row in records(results):
        published = row.pop("image")
        has_one = row["status"] == "ok"
        if is_object(published, "png"):
            row["image_sha256"] = Path(published).stem
        rows.append({**row, "image": image_name(row["trial_id"]) if has_one else None})
    return pd.DataFrame(rows, columns=[*results.columns])


def download_images(store: RunStore, case_ids: Collection[str]) -> None:
    """Download the images of some cases of a published run, where it was published with them."""
    origin = store.run_facts().get("published")
    if not isinstance(origin, dict) or not origin["has_images"]:
        return
    address = parse_address(origin["address"])
    if address is None:
        raise UserError(f"the published store {origin['address']} is gone: check the address")
    objects = _Objects(open_location(address.store), address.store)
    frame = objects.tables(origin["results"], PUBLISHED["results"], title="Results")
    names = dict(zip(frame["trial_id"], frame["image"], strict=True))
    trials = store.trials()
    wanted = set(trials.loc[trials["case_id"].isin(list(case_ids)), "trial_id"])
    missing = sorted(wanted - store.image_ids())

    def fetch(trial: str) -> None:
        if is_object(name := names.get(trial), "png"):
            store.write_image_file(trial, objects.content(str(name), MAX_PICTURE_BYTES))

    what = f"downloading images of {address}"
    with (
        ThreadPoolExecutor(_N_READERS) as pool,
        Progress(what, unit="image", total=len(missing)) as bar,
    ):
        for _ in pool.map(fetch, missing):
            bar.update()


def picture_urls(store: RunStore, trials: Collection[str]) -> dict[str, str]:
    """Return trial -> web address of its published thumbnail.

    Empty where a run was not published, or to a place that browsers do not read.
    """
    origin = store.run_facts().get("published")
    if not isinstance(origin, dict) or (address := parse_address(origin["address"])) is None:
        return {}
    if not isinstance(place := open_location(address.store), HubLocation):
        return {}
    objects = _Objects(place, address.store)
    frame = objects.tables(origin["results"], PUBLISHED["results"], title="Results")
    found = zip(frame["trial_id"], frame["thumbnail"], strict=True)
    return {t: place.url(name) for t, name in found if t in trials and is_object(name, "webp")}
