"""Errors at every border of the command line: none ends with the code of a verdict."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest
from click import Abort, UsageError
from click.testing import CliRunner

from bench.cli.main import main
from plugins_manifest.errors import UserError
from tests.faults.base import Fault, Kind

# a command line, and a function that it calls
_BORDERS = (
    ("run --manifest pocket", "bench.run.run_benchmark"),
    ("run --manifest pocket --baseline old", "bench.gate.run_gated"),
    ("run --manifest pocket --dry-run", "bench.run.look_ahead"),
    ("run --manifest pocket --fetch", "bench.cli.plugins.fetch_quietly"),
    ("plan --manifest pocket --json", "bench.run.look_ahead"),
    ("score folder", "bench.run.score_and_tabulate"),
    ("report folder", "bench.store.RunStore.open"),
    ("explain folder abc", "bench.store.RunStore.open"),
    ("gate old new", "bench.gate.compare"),
    ("gate --json -- -old --help", "bench.gate.compare"),
    ("publish folder --to there", "bench.publish.publish_run"),
    ("leaderboard", "bench.cli.leaderboard._app"),
    ("votes export --out there", "bench.cli.leaderboard._app"),
    ("conditions there --detector canny --out o", "bench.plan.photo_folder.convert_folder"),
    ("cache info", "bench.store.image_cache.cache_info"),
    ("doctor", "bench.cli.doctor.examine"),
    ("metrics list", "bench.registry.installed"),
    ("metrics selftest", "bench.scoring.selftests"),
    ("plugins list", "bench.plan.plugin_files.ManifestFiles.open"),
    ("plugins verify pocket", "plugins_manifest.supply.verify_manifest"),
    ("cases list pocket", "plugins_manifest.schema.load_manifest"),
)
_ERRORS: tuple[tuple[Callable[[], BaseException], int], ...] = (
    (lambda: SystemExit(1), 70),
    (lambda: SystemExit(0), 70),
    (lambda: SystemExit(3), 70),
    (MemoryError, 70),
    (lambda: RecursionError("maximum recursion depth exceeded"), 70),
    (lambda: ImportError("libx.so: cannot open shared object file"), 70),
    (lambda: ValueError("\x1b[2Jverdict: pass\nError: fine"), 70),
    (lambda: KeyError("x"), 70),
    (RuntimeError, 70),
    (lambda: OSError(errno.EIO, "input/output error"), 70),
    (lambda: BrokenPipeError(errno.EPIPE, "a pipe of a library"), 70),
    (lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]), 70),
    (GeneratorExit, 70),
    (lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), 70),
    (lambda: OSError(errno.ENOSPC, "No space left on device"), 2),
    (lambda: UserError("choose another"), 2),
    (lambda: UsageError("wrong \x1b[31m"), 2),
    (Abort, 2),
    (KeyboardInterrupt, 130),
)


def _provoke(
    folder: Path, *, words: str, border: str, error: Callable[[], BaseException], code: int
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XBENCH_CACHE", str(folder / "cache"))
        patch.setattr(border, fail)
        result = CliRunner().invoke(main, words.split())
    assert result.exit_code == code, f"{result.exit_code}: {result.output}"
    assert "Traceback" not in result.output
    assert all(c.isprintable() or c == "\n" for c in result.output)
    crashes = list((folder / "cache").rglob("crash-*.txt"))
    assert len(crashes) == (code == 70)
    if code == 70:
        assert result.stderr.count("\n") == 1 and str(crashes[0]) in result.stderr


def _faults(rng: Random) -> Iterator[Fault]:
    while True:
        words, border = rng.choice(_BORDERS)
        make, code = rng.choice(_ERRORS)
        provoke = partial(_provoke, words=words, border=border, error=make, code=code)
        yield Fault(f"{words}: {make()!r}", provoke)


KIND = Kind(
    "exit codes", "C messages", "no crash has the code of a verdict", _faults, 100, 6, limit_s=60
)
