"""What to do after a run: commands that work when they are pasted."""

from __future__ import annotations

import math
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis import answers
from bench.cli.output import wrapped
from bench.report import aligned
from bench.store import Row, RunStore, records
from plugins_manifest.outputs import one_line
from plugins_manifest.schema.manifest import PocketCases
from plugins_manifest.text import first_line, shell_command, shortened

if TYPE_CHECKING:
    from bench.run import RunRequest

_N_FAILURES = 3
_MOST_PROMPTS = 10_000  # beyond that, more prompts are not the way
_OPENERS = {"darwin": "open", "win32": "start"}


def next_lines(store: RunStore, request: RunRequest) -> Iterator[str]:
    """Yield the next commands, each with what it is for."""
    folder = store.folder
    steps = [
        ("see every image", _opened(store.report_path("html"))),
        ("browse it", shell_command(["xbench", "leaderboard", folder])),
        ("share it", shell_command(["xbench", "site", folder, "--to", f"{folder.name}-site"])),
    ]
    if not store.run_facts().get("adapters"):  # a gate compares one adapter with one
        steps.append(("after a change", shell_command(["xbench", "run", "--baseline", folder])))
    yield "\nnext:"
    yield from aligned(steps, indent="  ")
    if (more := _more_prompts(store, request)) is not None:
        why, commands = more
        yield wrapped(f"  {why}:", hanging=4)
        yield from (f"    {line}" for line in commands)


def failure_lines(store: RunStore, *, is_merged: bool = False) -> list[str]:
    """Return why images failed, the most frequent reasons, and what to do."""
    rows = [row for row in records(store.results()) if row["status"] == "failed"]
    reasons = Counter(one_line(first_line(row["error"] or "")) for row in rows)
    if not reasons:
        return []
    lines = [wrapped(f"  {n} x {text}", hanging=4) for text, n in reasons.most_common(_N_FAILURES)]
    rest = len(reasons) - len(lines)
    more = [f"  and {rest} more reasons, in the report"] if rest else []
    command = "the commands of their shards try" if is_merged else "the same command tries"
    return [*lines, *more, f"  {command} them again"]


def _opened(path: Path) -> str:
    """Return the command that opens a file here; where there is none, its path."""
    opener = _OPENERS.get(sys.platform, "xdg-open")
    return shell_command([opener, path] if shutil.which(opener) else [path])


def _more_prompts(store: RunStore, request: RunRequest) -> tuple[str, list[str]] | None:
    """Return what more prompts decide, and the commands for them; None if nothing needs them."""
    needed = _needed(records(store.compatibility()))
    if needed is None or request.selection.only is not None:
        return None
    n, why = needed
    manifest, limit = store.manifest(), request.selection.limit
    cases, given = manifest.cases, _given(request.manifest)
    known = cases.n if isinstance(cases, PocketCases) else None
    if limit is not None and (known is None or known >= n):
        return why, [_command(request, given, ["--limit", str(n), "--out", store.folder])]
    if known is not None and all(":" in spec.source for spec in manifest.plugins):
        name = f"{manifest.name}-{n}"
        copy = shell_command(["sed", f"s/^  n: {known}$/  n: {n}/", store.manifest_path])
        run = _command(request, f"{name}.yaml", ["--out", Path("runs") / name])
        return why, [f"{copy} > {shell_command([f'{name}.yaml'])}", run]
    return why, [f"add cases to {shell_command([given])} and run it with another --out"]


def _needed(rows: Sequence[Row]) -> tuple[int, str] | None:
    """Return the prompts in all that decide what is open, else those that tell the quality."""
    found = answers(rows)
    open_plugins = [answer.plugin for answer in found if answer.word == "open"]
    shown = [a.row for a in found if a.row is not None]
    for_verdict = [a.row for a in found if a.word == "open" and a.row is not None]
    undecided = {row["plugin"] for row in for_verdict}
    for_verdict += [  # where no setting can be named, any that is decided gives an answer
        row for row in rows if row["plugin"] in {*open_plugins} - undecided
    ]
    for name, purpose, chosen in (
        ("verdict", "decide", for_verdict),
        ("quality", "tell the quality of", shown),
    ):
        n_of: dict[str, int] = {}
        for row in chosen:
            more = row[f"{name}_more_prompts"] or 0
            if 0 < more <= _MOST_PROMPTS:
                n = math.ceil((row["n_prompts"] or 0) + more)
                n_of[row["plugin"]] = min(n, n_of.get(row["plugin"], n))
        if n_of:
            n = max(n_of.values())
            return n, f"{n:,} prompts {purpose} {shortened(sorted(n_of), 3)}"
    return None


def _given(manifest: str) -> str | Path:
    """Return a manifest as the command line takes it: a name, or a path to be shortened."""
    return Path(manifest) if Path(manifest).is_file() else manifest


def _command(request: RunRequest, manifest: str | Path, more: Sequence[str | Path]) -> str:
    """Return the command of a run with the same selection of another number of prompts."""
    chosen = request.selection
    words: list[str | Path] = ["xbench", "run", "--manifest", manifest]
    for option in ("methods", "t0", "seeds", "plugins"):
        if (values := getattr(chosen, option)) is not None:
            words += [
                f"--{option}",
                ",".join(f"{v:g}" if option == "t0" else str(v) for v in values),
            ]
    words += [] if chosen.adapter is None else ["--adapter", chosen.adapter]
    for one in chosen.adapters or ():
        words += ["--adapter", f"{one.id}={one.path}"]
    words += [] if chosen.mode is None else ["--mode", chosen.mode]
    return shell_command([*words, *more])
