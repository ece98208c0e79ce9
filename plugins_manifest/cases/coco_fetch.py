"""Download COCO val2017 into the user's cache: captions out of the zip by ranges, photos by id.

Of annotations_trainval2017.zip (all captions, boxes and joints of COCO) only the end, which lists
its members, and one member are read. Layout of the cache:
    captions_val2017.json       complete, its CRC checked
    val2017/000000000139.jpg    decoded once, of the size in the captions file
    SHA256SUMS                  a line for each file, for `sha256sum -c`
    partial/                    the member's bytes so far, of one version of the zip
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from plugins_manifest.cases.coco import (
    CAPTIONS,
    MOST_CAPTIONS_BYTES,
    N_NAMED,
    PHOTOS,
    Photo,
    cache_folder,
    chosen_photos,
    coco_place,
    parse_captions,
)
from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.files import append_line, atomic_write, file_sha256
from plugins_manifest.http import Mirror
from plugins_manifest.http.ranged import FileVersion, RangedFile, is_offline
from plugins_manifest.images import decode_image, image_size
from plugins_manifest.schema.manifest import CocoCases
from plugins_manifest.store import Partial

BASE_URL = "http://images.cocodataset.org"  # as published; its certificate has another name
URL_VARIABLE = "XBENCH_COCO_URL"
ARCHIVE = "annotations/annotations_trainval2017.zip"
SUMS = "SHA256SUMS"
TAIL_BYTES = 64 << 10
MOST_PHOTO_BYTES = 16 << 20
_LOCAL_HEADER_BYTES = 4 << 10  # more than a member's local header, its name and extra fields
_N_CONNECTIONS = 8
# errors that end a fetch at once: the next photo would fail too
_HOPELESS = ("unreachable", "busy", "offline", "disk")

Step = Callable[[int, int], object]  # photos done, photos in all


@dataclass(frozen=True)
class Fetched:
    """Result of a fetch: the cache's folder, the captions' sha256, photos new and present before.

    `captions_sha256` is None if the captions are the user's own file.
    """

    folder: Path
    captions_sha256: str | None
    n_fetched: int
    n_there: int


def open_mirror() -> Mirror:
    """Connect to the official server, or to the one in XBENCH_COCO_URL."""
    return Mirror(os.environ.get(URL_VARIABLE) or BASE_URL, setting=URL_VARIABLE)


def fetch_coco(
    spec: CocoCases,
    *,
    folder: Path,
    limit: int | None = None,
    mirror: Mirror | None = None,
    step: Step = lambda done, total: None,
) -> Fetched:
    """Ensure that a manifest's captions and photos are present, as far as they belong in the cache.

    Present photos are hashed, and downloaded again if they changed. Downloads are kept whatever
    happens; the same call resumes. Raises `UserError` with all photos that failed.
    """
    place = coco_place(spec, folder=folder)
    home = cache_folder()
    with _held(home), closing(_Job(home, mirror)) as job:
        captions_sha256 = job.captions() if place.in_cache else None
        photos = chosen_photos(spec, place, limit=limit)
        if not place.photos_in_cache:
            missing = [p for p in photos if not (place.photos / p.file_name).is_file()]
            if missing:
                raise UserError(
                    f"{len(missing)} photos are missing under {place.display_name!r} (the first is "
                    f"{PHOTOS}/{missing[0].file_name}), a folder of yours, where nothing is "
                    "written: add them"
                )
            return Fetched(place.photos, captions_sha256, 0, len(photos))
        n_fetched = job.photos(photos, step)
    return Fetched(home, captions_sha256, n_fetched, len(photos) - n_fetched)


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """Lock the cache for this process; a lock dies with its process."""
    try:
        (home / PHOTOS).mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            yield
    except OSError as error:
        raise FetchError(
            f"{home} cannot be written ({error.strerror}): free some space or change its rights, "
            "or set XBENCH_CACHE to another folder",
            code="disk",
        ) from error


class _Job:
    """One fetch into the locked cache; connects to the mirror only when needed."""

    def __init__(self, home: Path, mirror: Mirror | None) -> None:
        self.home = home
        self.sums = read_sums(home)
        self._mirror, self._given = mirror, mirror

    def close(self) -> None:
        """Close the mirror that was opened here."""
        if self._mirror is not None and self._mirror is not self._given:
            self._mirror.close()

    @property
    def mirror(self) -> Mirror:
        """The server; `FetchError` in offline mode."""
        if is_offline():
            raise FetchError(
                "photos and captions of COCO val2017 cannot be downloaded: offline mode is on: "
                "unset HF_HUB_OFFLINE, or set XBENCH_COCO to a folder that has them",
                code="offline",
            )
        self._mirror = self._mirror or open_mirror()
        return self._mirror

    def is_there(self, name: str) -> bool:
        """Return whether a file is in the cache with the sha256 of its download."""
        path = self.home / name
        return path.is_file() and self.sums.get(name) == file_sha256(path)

    def keep(self, name: str, content: bytes) -> str:
        """Write a checked file atomically, and record its sha256."""
        atomic_write(self.home / name, content)
        is_new = name not in self.sums
        self.sums[name] = hashlib.sha256(content).hexdigest()
        lines = [f"{sha256}  {known}" for known, sha256 in self.sums.items()]
        if is_new:
            append_line(self.home / SUMS, lines[-1])
        else:
            atomic_write(self.home / SUMS, "\n".join([*lines, ""]))
        return self.sums[name]

    def captions(self) -> str:
        """Download the captions if needed and return their sha256."""
        if self.is_there(CAPTIONS):
            return self.sums[CAPTIONS]
        content = read_member(self.mirror, ARCHIVE, CAPTIONS, partial=self.home / "partial")
        parse_captions(content, name=self.mirror.display_url(f"{ARCHIVE}/{CAPTIONS}"))
        return self.keep(CAPTIONS, content)

    def photos(self, photos: list[Photo], step: Step) -> int:
        """Download missing photos and return how many."""
        wanted = [p for p in photos if not self.is_there(f"{PHOTOS}/{p.file_name}")]
        if not wanted:
            return 0
        mirror, problems, n_done = self.mirror, [], len(photos) - len(wanted)
        with ThreadPoolExecutor(_N_CONNECTIONS) as pool:
            open_jobs: dict[Future[bytes], Photo] = {
                pool.submit(fetch_photo, mirror, photo): photo for photo in wanted
            }
            try:
                for job in as_completed(open_jobs):
                    photo = open_jobs[job]
                    try:
                        self.keep(f"{PHOTOS}/{photo.file_name}", job.result())
                    except FetchError as error:
                        if error.code in _HOPELESS:
                            raise
                        problems.append(str(error))
                    n_done += 1
                    step(n_done, len(photos))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        if problems:
            more = [f"{len(problems) - N_NAMED} more photos"] if len(problems) > N_NAMED else []
            raise UserError.collect([*sorted(problems)[:N_NAMED], *more])
        return len(wanted)


def read_sums(home: Path) -> dict[str, str]:
    """Return name -> sha256 of the downloads; damaged lines are skipped."""
    try:
        lines = (home / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.split("  ", 1) for line in lines)
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


def fetch_photo(mirror: Mirror, photo: Photo) -> bytes:
    """Download a photo that decodes and has the stated size; `FetchError` otherwise."""
    name = f"{PHOTOS}/{photo.file_name}"
    content = mirror.get(name, most_bytes=MOST_PHOTO_BYTES)
    try:
        size_px = image_size(content, name="it")
        if photo.size_px in (None, size_px):
            decode_image(content, name="it")
            return content
    except UserError as error:
        raise FetchError(
            f"{mirror.display_url(name)} is not a complete JPEG ({error}): run the same command "
            "again",
            code="wrong-hash",
        ) from None
    raise FetchError(
        f"{mirror.display_url(name)} is {size_px[0]} x {size_px[1]} px, in the captions file "
        f"{photo.size_px[0]} x {photo.size_px[1]}: it is another photo",
        code="wrong-hash",
    )


def read_member(mirror: Mirror, archive: str, member: str, *, partial: Path) -> bytes:
    """Return the content of one member of a remote zip, its CRC checked; `FetchError` otherwise.

    `partial` is a folder that keeps the bytes of an interrupted download.
    """
    version, end = mirror.read_end(archive, TAIL_BYTES)
    url = mirror.display_url(archive)
    held = {version.n_bytes - len(end): end}
    part = Partial(partial / "member.part", partial / "member.json")
    try:
        with zipfile.ZipFile(io.BufferedReader(RangedFile(mirror, archive, version, held))) as book:
            info = _find_member(book, member, url)
        start, content = _member_bytes(mirror, archive, version, info, part)
        held = {**held, start: content}
        with zipfile.ZipFile(io.BufferedReader(RangedFile(mirror, archive, version, held))) as book:
            found = book.read(info.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        part.discard()
        raise FetchError(
            f"{member} in {url} is damaged ({error}); nothing was kept: run the same "
            f"command again, or name a mirror with {mirror.setting}",
            code="wrong-hash",
        ) from None
    part.discard()
    return found


def _find_member(book: zipfile.ZipFile, member: str, url: str) -> zipfile.ZipInfo:
    """Return the member of this file name, in any folder of the zip."""
    found = [info for info in book.infolist() if info.filename.rpartition("/")[2] == member]
    if len(found) != 1:
        raise FetchError(f"{url} has {len(found)} files {member}, not one", code="missing")
    info = found[0]
    if max(info.file_size, info.compress_size) > MOST_CAPTIONS_BYTES:
        raise FetchError(
            f"{member} in {url} has {info.file_size >> 20} MiB, more than "
            f"{MOST_CAPTIONS_BYTES >> 20}: this is another file",
            code="too-large",
        )
    return info


def _member_bytes(
    mirror: Mirror, archive: str, version: FileVersion, info: zipfile.ZipInfo, part: Partial
) -> tuple[int, bytes]:
    """Return first byte and bytes of a member with its local header; resumes a download."""
    start = info.header_offset
    n_name = len(info.filename.encode())
    stop = min(start + _LOCAL_HEADER_BYTES + n_name + info.compress_size, version.n_bytes)
    state: Mapping[str, object] = {
        "archive": mirror.display_url(archive),
        "etag": version.etag,
        "total": version.n_bytes,
        "crc": info.CRC,
        "start": start,
    }
    part.part.parent.mkdir(parents=True, exist_ok=True)
    if part.facts() != dict(state) or part.n_bytes > stop - start:
        part.discard()
        part.remember(state)
    with part.part.open("ab") as stream:
        mirror.read_range(archive, start + stream.tell(), stop, version=version, take=stream.write)
    return start, part.part.read_bytes()
