"""Survey the pictures of a source: which can be used, their sizes, and why others cannot.

Every picture is read and hashed once, none is decoded: one that is damaged further inside is left
out later (`bench.train.pictures`). The survey is kept, and made again when a file has changed.
"""

from __future__ import annotations

import io
import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.train.schema import PicturesData, Recipe, TableOptions
from bench.train.sources.entry import Entry, Reason, Source, reason_of, stamp_of
from bench.train.sources.open import min_side_of, open_source
from plugins_manifest.documents import parse_json
from plugins_manifest.files import atomic_write
from plugins_manifest.images import image_size
from plugins_manifest.outputs import one_line
from plugins_manifest.progress import Progress
from plugins_manifest.text import first_line, shortened

FILE, SKIPPED_FILE = "survey.parquet", "skipped.tsv"
_N_READERS, _N_AHEAD = 8, 64
_N_NAMED = 3
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture that can be used; sizes in px, upright; `sha256` of its bytes."""

    entry: Entry
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that is left out, and why."""

    name: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Survey:
    """The usable pictures of a source in their order, and the others."""

    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]

    @property
    def sha256(self) -> str:
        """What changes with any picture, its caption or their order."""
        total = sha256()
        for photo in self.photos:
            total.update(f"{photo.sha256}{photo.entry.caption}\0".encode())
        return total.hexdigest()


Surveyed = tuple[Source, Survey]


def survey_of(recipe: Recipe, folder: Path | None) -> Surveyed:
    """Open and survey the pictures of a recipe; see `survey_pictures`."""
    spec = recipe.data
    assert isinstance(spec, PicturesData), "a source of pictures"
    source = open_source(recipe, folder)
    return source, survey_pictures(source, spec, min_side=min_side_of(recipe), folder=folder)


def survey_pictures(
    source: Source,
    spec: PicturesData,
    *,
    min_side: int,
    folder: Path | None,
    is_written: bool = True,
) -> Survey:
    """Survey the pictures that a recipe's data name, or read what `folder` has of them.

    Raises `UserError` if no picture can be used.
    """
    # names of columns and filters decide what a file's pictures are
    settings = spec.model_dump(exclude={"cache", "per_host"})
    stamp = stamp_of(source.files(), _VERSION, min_side, settings)
    kept = None if folder is None else _read(folder / FILE, stamp)
    found = kept or _survey(source, min_side=min_side, n_images=spec.n_images)
    is_written = is_written and folder is not None
    if folder is not None and is_written and kept is None:
        write_skipped(folder / SKIPPED_FILE, found.skipped)
        atomic_write(folder / FILE, _packed(found, stamp))
    if not found.photos:
        is_table = isinstance(spec, TableOptions)
        nothing = "no row passes the filters" if is_table else "there is none"
        what = "; ".join(count_reasons(found.skipped)) or nothing
        at = ""
        if found.skipped and folder is not None and is_written:
            at = f"; all are listed in {shown_path(folder / SKIPPED_FILE)}"
        raise UserError(f"no picture of {source.title} can be used: {what}{at}")
    return found


def count_reasons(skipped: Sequence[Skipped]) -> list[str]:
    """Return how many pictures are left out for each reason, the first of them by name."""
    parts = []
    for reason, count in Counter(one.reason for one in skipped).most_common():
        names = [one_line(one.name, longest=60) for one in skipped if one.reason == reason]
        parts.append(f"{count:,} {reason} ({shortened(names, _N_NAMED)})")
    return parts


def write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    """Write reason, name and detail of every picture that is left out."""
    rows = [(one.reason, one_line(one.name), one_line(one.detail)) for one in skipped]
    atomic_write(path, "".join("\t".join(row) + "\n" for row in rows))


def _survey(source: Source, *, min_side: int, n_images: int | None) -> Survey:
    photos: list[Photo] = []
    skipped: list[Skipped] = []
    with Progress(f"surveying {source.title}", unit="picture") as bar:
        for found in _examined(source, islice(source.entries(), n_images), min_side):
            if isinstance(found, Photo):
                photos.append(found)
            else:
                skipped.append(found)
            bar.update()
    return Survey(tuple(photos), tuple(skipped))


def _examined(source: Source, entries: Iterator[Entry], min_side: int) -> Iterator[Photo | Skipped]:
    """Yield the results in order; some readers work ahead, since disks answer several at once."""
    ahead: deque[Future[Photo | Skipped]] = deque()
    with ThreadPoolExecutor(_N_READERS) as pool:
        for entry in entries:
            ahead.append(pool.submit(_examine, source, entry, min_side))
            if len(ahead) >= _N_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _examine(source: Source, entry: Entry, min_side: int) -> Photo | Skipped:
    if entry.reason is not None:
        return Skipped(entry.name, entry.reason, entry.detail)
    try:
        content = source.content(entry)
        width, height = image_size(content, name=entry.name, is_upright=True)
    except (UserError, OSError) as error:
        return Skipped(entry.name, reason_of(error), first_line(error))
    if min(width, height) < min_side:
        detail = f"{width} x {height} px, the least side is {min_side}"
        return Skipped(entry.name, "too small", detail)
    return Photo(entry, sha256(content).hexdigest(), width, height)


# --- the kept survey


def _packed(survey: Survey, stamp: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    photos = survey.photos
    columns: dict[str, list[Any]] = {
        name: [getattr(photo.entry, name) for photo in photos]
        for name in ("name", "caption", "file", "at", "size")
    }
    columns |= {
        name: [getattr(photo, name) for photo in photos] for name in ("sha256", "width", "height")
    }
    skipped = [[one.name, one.reason, one.detail] for one in survey.skipped]
    table = pa.table(columns).replace_schema_metadata(
        {"stamp": stamp, "skipped": json.dumps(skipped)}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _read(path: Path, stamp: str) -> Survey | None:
    """Return a kept survey of the same files; None for another one, or a damaged one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        facts = table.schema.metadata or {}
        if facts.get(b"stamp") != stamp.encode():
            return None
        rows = table.to_pylist()
        skipped = parse_json(facts[b"skipped"], name=path.name, most_bytes=1 << 30)
    except (pa.ArrowException, OSError, KeyError, UserError):
        return None
    photos = [
        Photo(
            Entry(row["name"], row["caption"], row["file"], row["at"], row["size"]),
            row["sha256"],
            row["width"],
            row["height"],
        )
        for row in rows
    ]
    return Survey(tuple(photos), tuple(Skipped(*one) for one in skipped))
