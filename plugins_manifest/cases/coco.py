"""Cases from COCO val2017 (Lin et al. 2014, arXiv 1405.0312): photos with one caption each.

They are read from a folder that the manifest or XBENCH_COCO names, else from the user's cache,
which `xbench cases fetch` fills (coco_fetch). Nothing is downloaded here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from platformdirs import user_cache_path

from plugins_manifest.cases.case import Case
from plugins_manifest.cases.finished import with_finished_conditions
from plugins_manifest.documents import parse_json, read_content
from plugins_manifest.errors import UserError
from plugins_manifest.files import file_sha256
from plugins_manifest.schema.manifest import CocoCases
from plugins_manifest.text import shortened

CAPTIONS = "captions_val2017.json"
PHOTOS = "val2017"
CONDITIONS = "conditions"
VARIABLE = "XBENCH_COCO"
N_PHOTOS = 5000
PHOTO_BYTES = 150_000  # mean of 50 of the photos
CAPTIONS_BYTES = 900_000  # the captions, deflated, and the end of the zip
N_NAMED = 5
MOST_CAPTIONS_BYTES = 64 << 20


class CasesNotFetchedError(UserError):
    """Captions or photos are missing on this machine; `xbench cases fetch` downloads them.

    `n_cases` is the number of cases in all, `n_photos` of missing photos, `n_bytes` the
    approximate size of the download.
    """

    def __init__(self, label: str, *, n_cases: int, n_photos: int, has_captions: bool) -> None:
        self.n_cases, self.n_photos, self.has_captions = n_cases, n_photos, has_captions
        self.n_bytes = n_photos * PHOTO_BYTES + (0 if has_captions else CAPTIONS_BYTES)
        lacking = [] if has_captions else ["the captions"]
        if n_photos:
            lacking.append(f"{n_photos:,} of {n_cases:,} photos")
        super().__init__(
            f"the cases are photos of COCO val2017, and {' and '.join(lacking)} are not on this "
            f"machine (about {max(1, round(self.n_bytes / 1e6)):,} MB): run: xbench cases fetch "
            f"{label}, or set {VARIABLE} to a folder with {CAPTIONS} and {PHOTOS}"
        )


@dataclass(frozen=True)
class Photo:
    """A photo of COCO with its caption: of the five or more, the one of the lowest id."""

    image_id: int
    file_name: str
    caption: str
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True)
class CocoPlace:
    """Where COCO val2017 is; parts of the cache may be missing, those of a named folder not.

    `conditions` is a folder of finished condition images beside the photos, None without one.
    """

    captions: Path
    photos: Path
    in_cache: bool
    photos_in_cache: bool
    conditions: Path | None
    display_name: str


def cache_folder() -> Path:
    """Return the folder of downloads: `coco` in `XBENCH_CACHE` or the user's cache."""
    named = os.environ.get("XBENCH_CACHE")
    return (Path(named) if named else user_cache_path("xbench")) / "coco"


def coco_place(spec: CocoCases, *, folder: Path) -> CocoPlace:
    """Resolve where captions and photos belong; `UserError` for a folder without captions."""
    named = str(folder / spec.path) if spec.path is not None else os.environ.get(VARIABLE)
    if not named:
        root = cache_folder()
        return CocoPlace(root / CAPTIONS, root / PHOTOS, True, True, None, root.name)
    root = Path(named)
    display_name = spec.path or root.name
    candidates = [root] if root.is_file() else [root / CAPTIONS, root / "annotations" / CAPTIONS]
    captions = next((path for path in candidates if path.is_file()), None)
    if captions is None:
        raise UserError(
            f"{'cases.path' if spec.path else VARIABLE} is {display_name!r}: it must be the file "
            f"{CAPTIONS}, or a folder with it and the folder {PHOTOS} of the photos"
        )
    home = root.parent if root.is_file() else root
    photos, conditions = home / PHOTOS, home / CONDITIONS
    has_photos = photos.is_dir()
    return CocoPlace(
        captions,
        photos if has_photos else cache_folder() / PHOTOS,
        in_cache=False,
        photos_in_cache=not has_photos,
        conditions=conditions if conditions.is_dir() else None,
        display_name=display_name,
    )


def coco_cases(
    spec: CocoCases,
    *,
    folder: Path,
    negative_prompt: str = "",
    limit: int | None = None,
    label: str = "MANIFEST",
) -> list[Case]:
    """Return photos of COCO val2017 with one caption each, the first `limit` of them.

    Photos are ordered by id; without `image_ids`, of a named folder those that are in it, else all
    5,000. Raises `UserError` for unknown ids and missing photos, and `CasesNotFetchedError` for
    what `xbench cases fetch LABEL` downloads.
    """
    place = coco_place(spec, folder=folder)
    photos = chosen_photos(spec, place, limit=limit, label=label)
    missing = [photo for photo in photos if not (place.photos / photo.file_name).is_file()]
    if missing and place.photos_in_cache:
        raise CasesNotFetchedError(
            label, n_cases=len(photos), n_photos=len(missing), has_captions=True
        )
    if missing:
        names = shortened([f"{PHOTOS}/{photo.file_name}" for photo in missing], N_NAMED)
        what = "the photo" if len(missing) == 1 else f"{len(missing)} photos"
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"{what} {names} {verb} missing under {place.display_name!r}: add them")
    cases = [
        Case(
            f"coco-{photo.image_id:012d}",
            photo.caption,
            negative_prompt,
            image_path=str(place.photos / photo.file_name),
        )
        for photo in photos
    ]
    if spec.condition_images is None and place.conditions is not None:
        return with_finished_conditions(cases, CONDITIONS, folder=place.conditions.parent)
    return with_finished_conditions(cases, spec.condition_images, folder=folder)


def chosen_photos(
    spec: CocoCases, place: CocoPlace, *, limit: int | None = None, label: str = "MANIFEST"
) -> list[Photo]:
    """Return the photos of a manifest, downloaded or not.

    Raises `CasesNotFetchedError` without captions, `UserError` for unknown ids.
    """
    n = min((k for k in (spec.n, limit) if k is not None), default=None)
    if not place.captions.is_file():
        n_cases = min(len(spec.image_ids or range(N_PHOTOS)), N_PHOTOS if n is None else n)
        raise CasesNotFetchedError(label, n_cases=n_cases, n_photos=n_cases, has_captions=False)
    known = read_captions(place.captions, sha256=spec.captions_sha256)
    if spec.image_ids is not None:
        unknown = [i for i in spec.image_ids if i not in known]
        if unknown:
            raise UserError.collect(
                [f"COCO val2017 has no image {i}: correct image_ids" for i in unknown]
            )
        return [known[i] for i in spec.image_ids[:n]]
    if place.photos_in_cache:
        return list(known.values())[:n]
    there = {path.name for path in place.photos.iterdir()}
    found = [photo for photo in known.values() if photo.file_name in there]
    if not found:
        raise UserError(
            f"{place.display_name!r}/{PHOTOS} contains no photo of COCO val2017: add some"
        )
    return found[:n]


def read_captions(path: Path, *, sha256: str | None = None) -> Mapping[int, Photo]:
    """Return image id -> photo with its caption, in order of ids; `UserError` for another file.

    Each image has five or more numbered captions: the one of the lowest number is taken, with
    white space collapsed. `sha256` is the hash that the file must have, if given.
    """
    state = path.stat()
    found = _hash(path, state.st_size, state.st_mtime_ns) if sha256 else None
    if sha256 and found != sha256:
        raise UserError(
            f"{path.name} has sha256 {found}, the manifest has {sha256}: get the right file or "
            "correct captions_sha256"
        )
    return _read_captions(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _hash(path: Path, _size: int, _time: int) -> str:
    return file_sha256(path)


@lru_cache(maxsize=4)
def _read_captions(path: Path, _size: int, _time: int) -> Mapping[int, Photo]:
    content = read_content(path, name=path.name, most_bytes=MOST_CAPTIONS_BYTES)
    return parse_captions(content, name=path.name)


def parse_captions(content: bytes, *, name: str) -> dict[int, Photo]:
    """Parse a file's content, as `read_captions`."""
    try:
        data = parse_json(content, name=name, most_bytes=MOST_CAPTIONS_BYTES)
        chosen: dict[int, tuple[int, str]] = {}
        for note in data["annotations"]:
            candidate = (int(note["id"]), " ".join(note["caption"].split()))
            image_id = int(note["image_id"])
            chosen[image_id] = min(chosen.get(image_id, candidate), candidate)
        photos = [_photo(image, chosen) for image in data["images"] if image["id"] in chosen]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name} is not COCO's captions file: {error!r}") from error
    except UserError as error:
        raise UserError(f"{name} is not COCO's captions file: {error}") from error
    if not photos:
        raise UserError(f"{name} is not COCO's captions file: no image in it has a caption")
    return {photo.image_id: photo for photo in sorted(photos, key=lambda photo: photo.image_id)}


def _photo(image: Mapping[str, object], chosen: Mapping[int, tuple[int, str]]) -> Photo:
    image_id, file_name = int(str(image["id"])), str(image["file_name"])
    if Path(file_name).name != file_name or file_name.startswith("."):
        raise ValueError(f"{file_name!r} is not a plain file name")
    width, height = image.get("width"), image.get("height")
    size_px = None
    if isinstance(width, int) and isinstance(height, int):
        size_px = (width, height)
    return Photo(image_id, file_name, chosen[image_id][1], size_px)
