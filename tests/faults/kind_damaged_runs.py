"""Files of a finished run that are damaged, swapped, gone or replaced, and rows that contradict."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import pandas as pd

from bench.cli.repair import check_run, repair_run
from bench.store import TABLES, ImageCache, RunStore, records
from bench.store.verify import require_sound
from tests.faults.base import Fault, Kind, refuses
from tests.faults.damaged_files import DAMAGES, swap

OLD_RUN = Path(__file__).parents[1] / "data" / "old-run"
_COSTS = ("seconds", "peak_memory_mib", "effective_t0")
_RESTORED = ("images/", "run.json", "manifest.yaml", "checksums.json")


@cache
def sound_run() -> tuple[Path, Path]:
    """Return a run whose files are all recorded, and a cache that has its images."""
    folder = Path(tempfile.mkdtemp(prefix="xbench-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run = Path(shutil.copytree(OLD_RUN, folder / "run"))
    store = RunStore(run)
    for name in TABLES:  # with the checksums of today's version
        for path in store.table_paths(name):
            store.write_table(name, store.read_part(name, path.stem), path.stem)
    store.write_run_facts(store.run_facts())
    assert not repair_run(run).damaged
    cached = ImageCache(store.run_facts()["render_context"], folder=folder / "cache")
    for row in records(store.results()):
        facts = {name: row[name] for name in _COSTS}
        cached.put(row["trial_id"], (run / row["image"]).read_bytes(), facts)
    return run, folder / "cache"


def files() -> list[str]:
    """Return the paths of the run's files that are recorded or have a hash elsewhere."""
    run, _ = sound_run()
    found = (p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file())
    return sorted(name for name in found if name != ".lock")


def _copy(folder: Path) -> Path:
    return Path(shutil.copytree(sound_run()[0], folder / "run"))


def _seen(run: Path, *names: str) -> None:
    found = {damage.file for damage in check_run(run).damaged}
    assert found >= {*names}, found
    refuses(lambda: require_sound(RunStore(run)), "xbench repair", names[0])


def _repaired(run: Path, *names: str) -> None:
    sound, cached = sound_run()
    with patch.dict(os.environ, {"XBENCH_CACHE": str(cached)}):
        assert repair_run(run, show_progress=False).not_repaired == {}
    for name in names:
        if name != "checksums.json":  # its order is that of writing
            assert (run / name).read_bytes() == (sound / name).read_bytes(), name
    assert not check_run(run).damaged


def _damage(folder: Path, *, number: int, damage: str, seed: int) -> None:
    name = files()[number % len(files())]
    run = _copy(folder)
    DAMAGES[damage](run / name, Random(seed))
    _seen(run, name)
    if name.startswith(_RESTORED):
        _repaired(run, name)


def _swap(folder: Path, *, seed: int) -> None:
    run = _copy(folder)
    images = [name for name in files() if name.startswith("images/")]
    first, second = Random(seed).sample(images, 2)
    if (run / first).read_bytes() == (run / second).read_bytes():
        return
    swap(run / first, run / second)
    _seen(run, first, second)
    _repaired(run, first, second)


def _rows(folder: Path, *, table: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change rows of a file and record its new hash, as a program with a fault would."""
    store = RunStore(_copy(folder))
    path = store.table_paths(table)[0]
    frame = change(store.read_part(table, path.stem))
    store.write_table(table, frame, path.stem)
    _seen(store.folder, path.relative_to(store.folder).as_posix())


def _changed_since(folder: Path) -> None:
    store = RunStore(_copy(folder))
    row = records(store.results())[0]
    other = records(store.results())[1]
    png = (store.folder / other["image"]).read_bytes()
    image, sha256 = store.write_image_file(row["trial_id"], png)
    store.write_results("again", [{**row, "image": image, "image_sha256": sha256}])
    _seen(store.folder, "scores/edge-f1.parquet")


def _with(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[0, column] = value
        return frame

    return change


def _doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.head(1)])


def _shifted(frame: pd.DataFrame) -> pd.DataFrame:
    frame["trial_id"] = [*frame["trial_id"][1:], frame["trial_id"].iloc[0]]
    return frame


_ROWS: dict[str, Callable[[Path], None]] = {
    "doubled results": partial(_rows, table="results", change=_doubled),
    "an ok result without image": partial(_rows, table="results", change=_with("image", None)),
    "an ok result without hash": partial(
        _rows, table="results", change=_with("image_sha256", None)
    ),
    "an image outside": partial(_rows, table="results", change=_with("image", "../x.png")),
    "an absolute image": partial(_rows, table="results", change=_with("image", "/etc/passwd")),
    "an unknown status": partial(_rows, table="results", change=_with("status", "fine")),
    "a result without id": partial(_rows, table="results", change=_with("trial_id", None)),
    "doubled trials": partial(_rows, table="trials", change=_doubled),
    "doubled scores": partial(_rows, table="scores", change=_doubled),
    "scores under other trials": partial(_rows, table="scores", change=_shifted),
    "a score without id": partial(_rows, table="scores", change=_with("trial_id", None)),
    "scores of another metric": partial(_rows, table="scores", change=_with("metric", "x")),
    "an image that changed after scoring": _changed_since,
}


def _faults(rng: Random) -> Iterator[Fault]:
    for name, provoke in _ROWS.items():
        yield Fault(name, provoke)
    while True:
        if rng.random() < 0.1:
            seed = rng.randrange(10**6)
            yield Fault(f"two images swapped, {seed}", partial(_swap, seed=seed))
            continue
        number, damage, seed = rng.randrange(10**6), rng.choice([*DAMAGES]), rng.randrange(10**6)
        make = partial(_damage, number=number, damage=damage, seed=seed)
        yield Fault(f"file {number} is {damage}, {seed}", make)


KIND = Kind(
    "damaged runs",
    "A numbers",
    "damage in a run is seen before a number is made of it, and repaired",
    _faults,
    count=260,
    sample=4,
    limit_s=60,
)
