"""Files of users: outputs that meet inputs, files of others in caches and run directories."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from click.testing import CliRunner
from PIL import Image

from bench.cli.main import main
from bench.plan.photo_folder import convert_folder
from bench.publish import publish_run
from bench.publish.object_cache import TableCache
from bench.store import ImageCache, RunStore
from bench.store.image_cache import clean_cache
from plugins_manifest.cases import Case
from plugins_manifest.cases.finished import with_finished_conditions
from tests.faults.base import Fault, Kind, refuses

_FACTS = {"seconds": 1.0, "peak_memory_mib": 1.0, "effective_t0": None}
_NAMES = ("a.jpg", "b.png", "c.webp", "d.tif", "straße.png", "e f.jpeg", "G.PNG")


def _state(folder: Path) -> dict[str, bytes | str]:
    """Return every file below a folder with its content; links with their targets."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def _photos(folder: Path, rng: Random, names: tuple[str, ...] = _NAMES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels = np.full((24, 24, 3), rng.randrange(256), np.uint8)
        pixels[rng.randrange(24) :] = rng.randrange(256)
        Image.fromarray(pixels).save(folder / name)
    return folder


def _convert(photos: Path, out: Path, detector: str = "tile") -> list[str]:
    """Convert a folder; return the problems."""
    made = convert_folder(photos, out, detector=detector, size_px=(16, 16))
    return [one.problem for one in made if one.problem is not None]


# --- conditions


def _meeting(folder: Path, *, relation: str, seed: int) -> None:
    photos = _photos(folder / "data" / "photos", Random(seed))
    (folder / "link").symlink_to(photos)
    (folder / "data" / "up").symlink_to(folder)
    out = {
        "equal": photos,
        "equal with dots": folder / "data" / ".." / "data" / "photos",
        "inside": photos / "made",
        "inside, two deep": photos / "made" / "again",
        "containing": folder / "data",
        "containing, above": folder,
        "a link": folder / "link",
        "inside of a link": folder / "link" / "made",
        "around by a link": folder / "data" / "up",
        "relative": Path(os.path.relpath(photos)),
    }[relation]
    before = _state(folder)
    refuses(lambda: _convert(photos, out), "which is read")
    assert _state(folder) == before


def _occupied(folder: Path, *, how: str, seed: int) -> None:
    """Convert into a folder with a file of the user under the name of a condition image."""
    rng = Random(seed)
    photos, out = _photos(folder / "photos", rng), folder / "out"
    if rng.random() < 0.5:
        _convert(photos, out)
    out.mkdir(exist_ok=True)
    name = Path(rng.choice(_NAMES)).stem + ".png"
    (out / name).unlink(missing_ok=True)
    mine = folder / "mine.png"
    mine.write_bytes(rng.randbytes(50))
    if how == "file":
        (out / name).write_bytes(mine.read_bytes())
    elif how == "hard link":
        (out / name).hardlink_to(mine)
    elif how == "link":
        (out / name).symlink_to(mine)
    elif how == "loop":
        (out / name).symlink_to(out / name)
    elif how == "FIFO":
        os.mkfifo(out / name)
    else:
        (out / name).mkdir()
    before, what = _state(folder), (out / name).lstat().st_ino
    problems = _convert(photos, out)
    assert [name in problem for problem in problems] == [True], problems
    after = _state(folder)
    assert all(after[key] == value for key, value in before.items() if "conditions.json" not in key)
    assert (out / name).lstat().st_ino == what


def _twins(folder: Path, *, names: tuple[str, ...], seed: int) -> None:
    photos = _photos(folder / "photos", Random(seed), ("z.png", *names))
    problems = _convert(photos, folder / "out")
    assert problems and all(name in problems[0] for name in names)
    assert sorted(p.name for p in (folder / "out").glob("*.png")) == ["z.png"]


def _served_twice(folder: Path, *, names: tuple[str, ...]) -> None:
    _photos(folder / "conds" / "canny", Random(1), names)
    call = partial(with_finished_conditions, [Case("a", "p")], "conds", folder=folder)
    refuses(call, *names)


# --- caches and run directories


def _foreign(rng: Random, identity: str) -> str:
    """Draw a name that is not of the cache's form, however close."""
    bucket, ending = identity[:2], rng.choice((".png", ".json"))
    return rng.choice(
        (
            f"{bucket}/holiday{ending}",
            f"{bucket}/{identity[:19]}{ending}",
            f"{bucket}/{identity}{ending}.bak",
            f"{bucket}/{identity.upper()}x{ending}",
            f"{bucket}/deeper/{identity}{ending}",
            f"notes{rng.randrange(100)}.txt",
            f"{identity[:3]}/{identity}{ending}",
            f"audits/read-me{ending}",
        )
    )


def _cache(folder: Path, *, seed: int, is_marked: bool) -> None:
    rng, before = Random(seed), os.environ.get("XBENCH_CACHE")
    os.environ["XBENCH_CACHE"] = str(folder)
    try:
        cache = ImageCache("r1-float32-cpu-torch2.9")
        root = folder / "images" / "r1-float32-cpu-torch2.9"
        identity = hashlib.sha256(rng.randbytes(8)).hexdigest()[:20]
        if is_marked:
            cache.put(identity, b"png", _FACTS)
        mine = {root / _foreign(rng, identity): b"mine" for _ in range(4)}
        mine[folder / "images" / "holidays" / identity[:2] / f"{identity}.png"] = b"mine"
        mine[folder / "coco" / "a.png"] = b"mine"
        for path, content in mine.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        removed = clean_cache(unused_days=rng.choice((None, -1.0)))
        assert removed.n_images == int(is_marked)
        assert all(path.read_bytes() == content for path, content in mine.items())
    finally:
        os.environ.pop("XBENCH_CACHE", None)
        if before is not None:
            os.environ["XBENCH_CACHE"] = before


def _run_folder(folder: Path, *, seed: int) -> None:
    rng = Random(seed)
    mine = [folder / name for name in (".tmp-notes", ".tmp-1-photo.png", "tables/.tmp-x/a.txt")]
    mine.append(
        folder / rng.choice(("images/my.png", "conditions/readme.md", ".tmp-", "..tmp-1-2"))
    )
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    before = _state(folder)
    with RunStore(folder).lock():
        pass
    after = _state(folder)
    assert {name: after.get(name) for name in before} == before


def _table_cache(folder: Path, *, seed: int) -> None:
    rng = Random(seed)
    content = rng.randbytes(100)
    sha256 = hashlib.sha256(content).hexdigest()
    mine = [folder / name for name in ("thesis.pdf", f"objects/{sha256}", "objects/ab/x.parquet")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    cache = TableCache(folder, max_bytes=0)
    cache.path(f"objects/{sha256[:2]}/{sha256}.parquet", lambda: content)
    assert all(path.read_bytes() == b"mine" for path in mine)


# --- other commands


def _publish(folder: Path, *, where: str) -> None:
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"format": 1, "status": "complete"}))
    before = _state(folder)
    refuses(lambda: publish_run(run, str(folder / where)), "which is read")
    assert _state(folder) == before


def _command(folder: Path, *, arguments: tuple[str, ...], file: str) -> None:
    """Run a command whose output is a file of the user: exit code 2, and the file is as it was."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a diary of the user")
    given = [text.replace("HERE", str(folder)) for text in arguments]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 2 and done.output.startswith("Error: "), done.output
    assert path.read_bytes() == b"a diary of the user"


def _named() -> Iterator[Fault]:
    for where in ("runs/one", "runs/one/board", "runs", "runs/../runs/one/x"):
        yield Fault(f"publish to {where}", partial(_publish, where=where))
    for option, file in (("--junit", "results.xml"), ("--markdown", "README.md")):
        command = ("gate", "HERE/a", "HERE/b", option, f"HERE/{file}")
        yield Fault(f"gate {option}", partial(_command, arguments=command, file=file))
    train = ("train", "--steps", "1", "--out", "HERE/out")
    yield Fault("train", partial(_command, arguments=train, file="out/thesis.txt"))
    yield Fault("train into a file", partial(_command, arguments=train, file="out"))
    run = ("run", "--manifest", "pocket-smoke", "--out", "HERE/out")
    yield Fault("run into a folder of others", partial(_command, arguments=run, file="out/a.txt"))
    for names in (("a.png", "a.jpg"), ("a.PNG", "a.png"), ("A.png", "a.tif"), ("Ä.png", "ä.jpg")):
        yield Fault(f"photos {names}", partial(_twins, names=names, seed=1))
    for names in (("a.png", "a.jpg"), ("a.PNG", "a.png"), ("a.tif", "a.TIFF", "a.webp")):
        yield Fault(f"condition images {names}", partial(_served_twice, names=names))


_RELATIONS = (
    *("equal", "equal with dots", "inside", "inside, two deep", "containing", "containing, above"),
    *("a link", "inside of a link", "around by a link", "relative"),
)


def _drawn(rng: Random) -> tuple[str, Callable[[Path], None]]:
    seed = rng.getrandbits(32)
    relation = rng.choice(_RELATIONS)
    how = rng.choice(("file", "hard link", "link", "loop", "FIFO", "folder"))
    is_marked = rng.random() < 0.7
    return rng.choice(
        (
            (f"output {relation}, {seed}", partial(_meeting, relation=relation, seed=seed)),
            (f"{how} in the output, {seed}", partial(_occupied, how=how, seed=seed)),
            (f"files in the cache, {seed}", partial(_cache, seed=seed, is_marked=is_marked)),
            (f"files in a run directory, {seed}", partial(_run_folder, seed=seed)),
            (f"files among cached tables, {seed}", partial(_table_cache, seed=seed)),
        )
    )


def _faults(rng: Random) -> Iterator[Fault]:
    yield from _named()
    while True:
        name, provoke = _drawn(rng)
        yield Fault(name, provoke)


KIND = Kind(
    "user files",
    "B files",
    "nothing that the tool did not write is deleted or overwritten",
    _faults,
    count=120,
    sample=25,
)
