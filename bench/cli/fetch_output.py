"""Print the plugins of a manifest, and what locking and fetching did or would do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo, echo_lines, is_terminal
from bench.errors import shown_path
from bench.report import aligned
from plugins_manifest.errors import UserError
from plugins_manifest.outputs import one_line
from plugins_manifest.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.plan.plugin_files import ManifestFiles
    from plugins_manifest.lock import LockedPlugin
    from plugins_manifest.schema.manifest import PluginSpec, StackSpec
    from plugins_manifest.supply import Outcome, PluginFetcher
    from plugins_manifest.supply.locking import Done


def show_manifest(files: ManifestFiles, *, as_json: bool) -> None:
    """Print a manifest's plugins with their pins, and its stacks unless as JSON.

    Terminals get a header.
    """
    from bench.plan.selection import nsfw_plugins

    lock = files.lock()
    found = [lock.find(spec.id, spec.source) if lock else None for spec in files.manifest.plugins]
    pins = [entry.sha256 if entry else None for entry in found]
    if as_json:
        rows = [
            spec.model_dump(mode="json") | {"locked_sha256": pin}
            for spec, pin in zip(files.manifest.plugins, pins, strict=True)
        ]
        echo_lines(json.dumps(rows, indent=2))
        return
    marked = nsfw_plugins(files.manifest)
    lines = [
        (spec.id, spec.kind, spec.source, _notes(spec, pin, is_nsfw=spec.id in marked))
        for spec, pin in zip(files.manifest.plugins, pins, strict=True)
    ]
    lines += [(s.id, "stack", _members(s), "") for s in files.manifest.stacks]
    if is_terminal():
        columns = (0, 1, 3, 2) if any(row[3] for row in lines) else (0, 1, 2)
        header = ("PLUGIN", "KIND", "SOURCE", "NOTES")
        show_lines([tuple(row[i] for i in columns) for row in (header, *lines)])
    else:  # scripts read these lines: no header, and the notes in brackets
        show_lines([(*row[:2], row[2] + (f"  ({row[3]})" if row[3] else "")) for row in lines])


def show_lines(lines: Sequence[tuple[str, ...]]) -> None:
    """Print aligned columns."""
    for line in aligned(lines):
        echo(line)


def _notes(spec: PluginSpec, pin: str | None, *, is_nsfw: bool) -> str:
    notes = {
        f"weight {spec.weight:g}": spec.weight != 1,
        f"on the {spec.side} side": spec.side != "base",
        "in stacks only": not spec.alone,
        "nsfw: rendered only when named": is_nsfw,
        f"locked {str(pin)[:12]}": pin is not None,
    }
    return ", ".join(words for words, holds in notes.items() if holds)


def _members(stack: StackSpec) -> str:
    strengths = (f" x {m.strength:g}" if m.strength is not None else "" for m in stack.plugins)
    return " + ".join(m.id + text for m, text in zip(stack.plugins, strengths, strict=True))


def show_outcome(outcome: Outcome, lock_file: Path, *, as_json: bool) -> None:
    """Print the outcome; raise `UserError` for failures, exit with 1 for skipped plugins."""
    written = shown_path(lock_file) if lock_file.exists() else None
    skipped = [done for done in outcome.done if done.state == "skipped:gated"]
    if as_json:
        rows = [{"id": d.id, "state": d.state, "reason": d.reason} for d in outcome.done]
        facts = {"lock": written, "plugins": rows, "problems": outcome.problems}
        echo_lines(json.dumps(facts, indent=2))
    else:
        show_lines([(d.id, d.state, _why(d) or _facts(d.entry)) for d in outcome.done])
        if written:
            echo(f"lock file: {written}")
    if outcome.problems:
        raise UserError.collect(outcome.problems)
    if skipped:
        finish(NEGATIVE)


def _why(done: Done) -> str:
    """Return why a plugin was skipped, without the words that precede it in its line."""
    words = (done.reason or "").removeprefix(f"plugin {done.id!r}: ")
    return words.removeprefix(f"{done.state}: ")


def _facts(entry: LockedPlugin | None) -> str:
    if entry is None:
        return ""
    words = [_size(entry.size_bytes), entry.sha256[:12] if entry.sha256 else "not downloaded"]
    weights = entry.weights
    if weights is not None:
        is_known = weights.format != "unknown"
        words += [f"{weights.format} for {weights.base_model}"] if is_known else []
        words += [f"rank {'/'.join(map(str, weights.rank))}"] if weights.rank else []
        words += [f"PROBLEM: {problem}" for problem in weights.problems[:1]]
    return ", ".join(words)


def show_order(files: ManifestFiles, supply: PluginFetcher, *, as_json: bool) -> None:
    """Print what a fetch would do; write nothing."""
    from plugins_manifest.supply import lock_manifest

    outcome = lock_manifest(
        supply, files.manifest, old=files.lock(), locate=files.locate, download="none"
    )
    rows = [_order_row(entry, supply) for entry in outcome.lock.plugins]
    if as_json:
        echo_lines(json.dumps({"plugins": rows, "problems": outcome.problems}, indent=2))
    else:
        lines: list[tuple[str, ...]] = []
        for row in rows:
            todo, license_ = "fetch" if row["to_fetch"] else "here", f"license: {row['license']}"
            lines.append((row["id"], todo, f"{_size(row['bytes']):>9}", row["from"]))
            lines.append(("", "", "", f"{license_}{' (nsfw)' if row['nsfw'] else ''}"))
        lines += [(done.id, "skip", "", _why(done)) for done in outcome.done if done.reason]
        show_lines(lines)
        known = [row["bytes"] or 0 for row in rows if row["to_fetch"]]
        failed = len(outcome.problems)
        size = f", {_size(sum(known))}" if known else ""
        more = f"; {failed} could not be looked up (below)" if failed else ""
        echo(f"{len(known)} to fetch{size}{more}")
    if outcome.problems:
        raise UserError.collect(outcome.problems)


def _order_row(entry: LockedPlugin, supply: PluginFetcher) -> dict[str, Any]:
    from plugins_manifest.sources import License

    origin = entry.origin
    urls = [file.url for file in entry.files if file.url]
    at = f"hf://{origin.repository}@{origin.revision}" if origin.repository else None
    return {
        "id": entry.id,
        "kind": entry.kind,
        "to_fetch": supply.is_missing(entry),
        "from": one_line(at or (urls[0] if urls else entry.source)),
        "page": origin.page,
        "bytes": entry.size_bytes,
        "sha256": entry.sha256 or (entry.files[0].sha256 if len(entry.files) == 1 else None),
        "license": one_line(License(**entry.license.model_dump()).describe()),
        "nsfw": bool(entry.nsfw),
    }


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return "size unknown"
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:.1f} {unit}"
    return f"{n_bytes / 2**10:.1f} KiB"


@contextmanager
def show_progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on the standard error stream if that is a terminal."""
    with Progress(
        f"downloading {one_line(name, longest=60)}",
        unit="B",
        total=total,
        done=done,
        has_bar=True,
        unit_scale=True,
        unit_divisor=1024,
        leave=False,
    ) as bar:
        yield bar.update


def quiet_hub() -> None:
    """Turn off the Hub library's progress bars unless standard error is a terminal."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
