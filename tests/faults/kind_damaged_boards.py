"""Damaged run directories and stores next to a good run, which must still give its exact tables."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.store import PUBLISHED
from leaderboard.data import current_runs, open_tables, results_problems
from leaderboard.data.sources import RESULTS_VARIABLE
from leaderboard.data.tables import MAX_TEXT_BYTES
from leaderboard.figures import open_standings, settings_of, tradeoff_rows
from leaderboard.figures.curves import curve_rows, metrics_of
from leaderboard.figures.gallery import case_ids, read_page, scores_of
from leaderboard.figures.gates import first_pair, gate_of
from leaderboard.figures.pairs import FUNCTION, Choice, paired_images
from leaderboard.figures.plugin_facts import audit_of, card_of
from leaderboard.figures.provenance import commands_of, facts_of
from leaderboard.web.pictures import read_picture
from tests.faults.base import Fault, Kind
from tests.leaderboard.drawn_results import write_gate, write_results

GOOD, BAD = "good", "bad"
PLUGIN = "ink-lora"
TABLES = (
    "trials.parquet",
    "results/all.parquet",
    "scores/edge-f1.parquet",
    "scores/style-clip-i.parquet",
    "tables/summary.parquet",
    "tables/compatibility.parquet",
    "audit.parquet",
)
DOCUMENTS = ("run.json", "manifest.yaml", "gate.json")
Damage = Callable[[Path], None]


@cache
def _template() -> Path:
    """Write the run that every fault starts with a copy of."""
    folder = Path(tempfile.mkdtemp(prefix="xbench-boards-")) / "run"
    store = write_results(folder, n_cases=2, n_seeds=1)
    write_gate(store, {"verdict": "pass", "baseline": {"run_id": "x"}, "tests": []})
    return folder


def _provoke(folder: Path, *, damage: Damage) -> None:
    runs = folder / "runs"
    for name in (GOOD, BAD):
        shutil.copytree(_template(), runs / name)
    with _served(runs):
        good = _tables()
        damage(runs / BAD)
        _open_all()
        assert _tables() == good, "the good run has other tables than before"


@contextmanager
def _served(results: Path) -> Iterator[None]:
    before = os.environ.get(RESULTS_VARIABLE)
    os.environ[RESULTS_VARIABLE] = str(results)
    try:
        yield
    finally:
        if before is None:
            del os.environ[RESULTS_VARIABLE]
        else:
            os.environ[RESULTS_VARIABLE] = before


def _tables() -> dict[str, str]:
    tables = open_tables(current_runs()[GOOD])
    assert tables.problems == [], tables.problems
    return {
        name: tables.query(f"SELECT * FROM {name} ORDER BY ALL").to_json() for name in PUBLISHED
    }


def _open_all() -> None:
    """Read what the pages read, of every run."""
    results_problems()
    runs = current_runs()
    assert GOOD in runs
    for run in runs.values():
        assert run.key.encode() and run.label.encode()
        _, problems = open_standings(run)
        assert all(problem.strip() for problem in problems)
        tables = open_tables(run)
        settings = settings_of(tables, PLUGIN)
        tradeoff_rows(tables, PLUGIN)
        for scene in read_page(tables, PLUGIN, settings, page=0, per_page=24):
            assert len(scene.prompt.encode()) <= 2 * MAX_TEXT_BYTES
            for row in scene.images:
                scores_of(tables, [row["trial_id"]], ["style-clip-i"], plugin=PLUGIN)
                read_picture(run.key, "small", row["trial_id"] or "")
        assert sum(len(text) for text in case_ids(tables, PLUGIN, most=500).values()) < 1 << 20
        for metric in metrics_of(tables, PLUGIN):
            curve_rows(tables, PLUGIN, metric)
        audit_of(tables, PLUGIN), card_of(run, PLUGIN), facts_of(run), commands_of(run)
    if len(runs) > 1:
        old, new = (runs[key] for key in first_pair(runs))
        gate_of(old, new)
        paired_images(old, new, Choice("xadapter", FUNCTION))


# --- documents


def _write(run: Path, *, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)


def _documents() -> dict[str, bytes]:
    deep = 100_000
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    return {
        "empty": b"",
        "a list": b"[]",
        "null": b"null",
        "a number": b"NaN",
        "text": b'"run"',
        "cut off": b'{"format": 1, "run',
        "deep lists": b"[" * deep,
        "deep objects": b'{"a":' * deep,
        "not UTF-8": b"\xff\xfe{}",
        "zeros": bytes(4096),
        "an alias bomb": bomb.encode(),
        "a long number": b'{"format": ' + b"9" * 100_000 + b"}",
        "wrong types": json.dumps(
            {
                "format": 1,
                "run_id": [1],
                "created": {},
                "status": 7,
                "counts": [],
                "versions": "x",
                "family": None,
                "plugins": [[], 1, {"id": []}],
                "baseline": [],
                "tests": {"a": 1},
            }
        ).encode(),
        "half a surrogate": b'{"format": 1, "family": "\\ud800", "created": "\\udfff"}',
        "HTML and newlines": json.dumps(
            {"format": 1, "family": "<script>alert(1)</script>\n\u001b[31m", "status": "\u202e"}
        ).encode(),
        "a million keys' worth of text": b'{"format": 1, "command": "' + b"x" * (1 << 20) + b'"}',
        "17 MiB": b" " * (17 << 20),
    }


# --- files


def _pipe(run: Path, *, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)


def _loop(run: Path, *, name: str) -> None:
    (run / name).unlink()
    (run / name).symlink_to(run / name)


def _nowhere(run: Path, *, name: str) -> None:
    (run / name).unlink()
    (run / name).symlink_to("/nonexistent/file")


def _device(run: Path, *, name: str) -> None:
    (run / name).unlink()
    (run / name).symlink_to("/dev/zero")


def _folder(run: Path, *, name: str) -> None:
    (run / name).unlink()
    (run / name).mkdir()


def _gone(run: Path, *, name: str) -> None:
    """Remove a file between listing and reading, and after it was opened."""
    open_tables(current_runs()[BAD])
    (run / name).unlink()


def _removed_run(run: Path) -> None:
    open_tables(current_runs()[BAD])
    shutil.rmtree(run)


def _renamed(run: Path, *, name: str) -> None:
    run.rename(run.with_name(name))


def _renamed_bytes(run: Path) -> None:
    os.rename(os.fsencode(run), os.fsencode(run.parent) + b"/run-\xff\xfe")


def _many_links(run: Path) -> None:
    for n in range(50):
        (run.parent / f"link-{n}").symlink_to(run.parent)
        (run / f"loop-{n}").symlink_to(run)


# --- tables


def _truncate(run: Path, *, name: str, keep: int) -> None:
    path = run / name
    path.write_bytes(path.read_bytes()[:keep])


def _rows_lie(run: Path, *, name: str) -> None:
    """Write a file of a few kilobytes whose footer states 300 million rows."""
    n = 300_000_000
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1, np.int32)), pa.array(["x"]))
    schema = pa.schema([("trial_id", column.type)])
    with pq.ParquetWriter(run / name, schema) as writer:
        part = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(n // 100, np.int32)), pa.array(["x"])
        )
        table = pa.table([part], schema=schema)
        for _ in range(100):
            writer.write_table(table, row_group_size=n)


def _wide(run: Path, *, name: str) -> None:
    pq.write_table(pa.table({f"c{n}": [1] for n in range(5000)}), run / name)


def _values(run: Path, *, name: str, value: object, column: str | None) -> None:
    frame = pd.read_parquet(run / name)
    for found in [column] if column else list(frame.columns):
        frame[found] = [value] * len(frame)
    frame.to_parquet(run / name)


def _doubled(run: Path, *, name: str) -> None:
    frame = pd.read_parquet(run / name)
    pd.concat([frame, frame, frame]).to_parquet(run / name)


def _no_rows(run: Path, *, name: str) -> None:
    pd.read_parquet(run / name).head(0).to_parquet(run / name)


def _other_columns(run: Path, *, name: str) -> None:
    pd.DataFrame({"x": [1], 'a"b': [2], "trial_id; DROP": [3]}).to_parquet(run / name)


def _flip(run: Path, *, name: str, seed: int) -> None:
    """Change a few bytes."""
    rng, path = Random(seed), run / name
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 20)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(bytes(content))


def _splice(run: Path, *, name: str, seed: int) -> None:
    """Replace a stretch with random bytes, or with a stretch of another place."""
    rng, path = Random(seed), run / name
    content = path.read_bytes()
    a, b = sorted(rng.randrange(len(content)) for _ in range(2))
    start = rng.randrange(len(content))
    middle = rng.randbytes(b - a) if rng.random() < 0.5 else content[start : start + b - a]
    path.write_bytes(content[:a] + middle + content[b:])


def _parts(run: Path) -> None:
    for n in range(200):
        shutil.copy(run / "results" / "all.parquet", run / "results" / f"part-{n}.parquet")


def _temporary(run: Path) -> None:
    """Leave what a run that is being written has: temporary files, no tables yet."""
    (run / "results" / ".tmp-1-x.parquet").write_bytes(b"PAR1")
    (run / "trials.parquet.tmp").write_bytes(b"PAR1")
    shutil.rmtree(run / "tables")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "status": "running"}))


VALUES: dict[str, object] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "1e308": 1e308,
    "null": None,
    "a list": [1, 2],
    "bytes": b"\xff\xfe",
    "a path": "../../../../etc/passwd",
    "HTML": "<img src=x onerror=alert(1)>\n[x](javascript:1)",
    "1 MB": "p" * (1 << 20),
    "a zero byte": "a\0b",
}


def _named() -> Iterator[tuple[str, Damage]]:
    yield "a footer of 300 million rows", partial(_rows_lie, name="trials.parquet")
    yield "the run is removed while it is read", _removed_run
    yield "a run that is being written", _temporary
    yield "links in circles", _many_links
    yield "a folder's name is not UTF-8", _renamed_bytes
    yield "200 parts with the same results", _parts
    names = [
        "<b>x",
        "a\nb",
        "\x1b[31m",
        "%2e%2e",
        "a" * 255,
        "x?run=good",
        "'; --",
        "[*]",
        "\u202e",
    ]
    for name in names:
        yield f"a folder called {name[:20]!r}", partial(_renamed, name=name)
    for title, content in _documents().items():
        for name in DOCUMENTS:
            yield f"{name}: {title}", partial(_write, name=name, content=content)
    for title, damage in (
        ("a pipe", _pipe),
        ("a link to itself", _loop),
        ("a link to nothing", _nowhere),
        ("a link to a device", _device),
        ("a folder", _folder),
        ("removed while it is read", _gone),
    ):
        for name in ("run.json", "manifest.yaml", "gate.json", *TABLES[:4]):
            yield f"{name}: {title}", partial(damage, name=name)
    for name in TABLES:
        yield f"{name}: rows three times", partial(_doubled, name=name)
        yield f"{name}: other columns", partial(_other_columns, name=name)
        yield f"{name}: no rows", partial(_no_rows, name=name)
        yield f"{name}: 5,000 columns", partial(_wide, name=name)
        yield f"{name}: cut to 7 bytes", partial(_truncate, name=name, keep=7)


def _faults(rng: Random) -> Iterator[Fault]:
    for title, damage in _named():
        yield Fault(title, partial(_provoke, damage=damage))
    while True:
        name, seed = rng.choice(TABLES), rng.randrange(1 << 30)
        how = rng.choice(("flip", "splice", "value", "truncate"))
        if how == "value":
            title = rng.choice(list(VALUES))
            damage: Damage = partial(_values, name=name, value=VALUES[title], column=None)
            how = f"every value is {title}"
        elif how == "truncate":
            damage = partial(_truncate, name=name, keep=rng.randrange(4000))
        else:
            damage = partial(_flip if how == "flip" else _splice, name=name, seed=seed)
        yield Fault(f"{name}: {how} {seed}", partial(_provoke, damage=damage))


KIND = Kind(
    "damaged boards",
    "D servers",
    "a damaged run takes down no other run and no page",
    _faults,
    count=250,
    limit_s=60,
)
