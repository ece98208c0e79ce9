"""What a manifest holds, what locking and fetching did or would do: for people and scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bench.errors import shown_path
from plugins_manifest.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.fetching import Shelf
    from plugins_manifest.lock import LockedPlugin
    from plugins_manifest.locking import Outcome
    from plugins_manifest.schema import PluginSpec, StackSpec
    from plugins_manifest.supply import Supply


def show_shelf(shelf: Shelf, *, as_json: bool) -> None:
    """List a manifest's plugins (and, for people, its stacks), with what is pinned of them."""
    lock = shelf.lock()
    found = [lock.find(spec.id, spec.source) if lock else None for spec in shelf.manifest.plugins]
    pins = [entry.sha256 if entry else None for entry in found]
    if as_json:
        rows = [
            spec.model_dump(mode="json") | {"locked_sha256": pin}
            for spec, pin in zip(shelf.manifest.plugins, pins, strict=True)
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    lines = [
        (spec.id, spec.kind, spec.source, _notes(spec, pin))
        for spec, pin in zip(shelf.manifest.plugins, pins, strict=True)
    ]
    lines += [(stack.id, "stack", _members(stack), []) for stack in shelf.manifest.stacks]
    widths = [max(len(str(line[i])) for line in lines) for i in (0, 1)]
    for name, kind, what, notes in lines:
        told = f"  ({', '.join(notes)})" if notes else ""
        click.echo(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {what}{told}")


def _notes(spec: PluginSpec, pin: str | None) -> list[str]:
    said = {
        f"weight {spec.weight:g}": spec.weight != 1,
        f"on the {spec.side} side": spec.side != "base",
        "in stacks only": not spec.alone,
        "nsfw: rendered only when named": spec.nsfw,
        f"locked {str(pin)[:12]}": pin is not None,
    }
    return [words for words, holds in said.items() if holds]


def _members(stack: StackSpec) -> str:
    strengths = (f" x {m.strength:g}" if m.strength is not None else "" for m in stack.plugins)
    return " + ".join(m.id + text for m, text in zip(stack.plugins, strengths, strict=True))


def show_outcome(outcome: Outcome, lock_file: Path, *, as_json: bool) -> None:
    """Print what happened; raises `UserError` for what failed, exits 1 for what was skipped."""
    written = shown_path(lock_file) if lock_file.exists() else None
    skipped = [done for done in outcome.done if done.state == "skipped:gated"]
    if as_json:
        rows = [{"id": d.id, "state": d.state, "reason": d.reason} for d in outcome.done]
        facts = {"lock": written, "plugins": rows, "problems": outcome.problems}
        click.echo(json.dumps(facts, indent=2))
    else:
        for done in outcome.done:
            words = done.reason or _facts(done.entry)
            click.echo(f"{done.id:<20} {done.state:<16} {words}")
        if written:
            click.echo(f"lock file: {written}")
    if outcome.problems:
        raise UserError.collect(outcome.problems)
    if skipped:
        sys.exit(1)


def _facts(entry: LockedPlugin | None) -> str:
    if entry is None:
        return ""
    words = [_size(entry.size_bytes), entry.sha256[:12] if entry.sha256 else "not downloaded"]
    weights = entry.weights
    if weights is not None:
        words.append(f"{weights.format} for {weights.base_model}")
        words += [f"rank {'/'.join(map(str, weights.rank))}"] if weights.rank else []
        words += [f"{len(weights.problems)} problems"] if weights.problems else []
    return ", ".join(words)


def show_order(shelf: Shelf, supply: Supply, *, as_json: bool) -> None:
    """What a fetch would do; nothing is written."""
    from plugins_manifest.locking import lock_manifest

    outcome = lock_manifest(
        supply, shelf.manifest, old=shelf.lock(), locate=shelf.locate, download="none"
    )
    rows = [_order_row(entry, supply) for entry in outcome.lock.plugins]
    if as_json:
        click.echo(json.dumps({"plugins": rows, "problems": outcome.problems}, indent=2))
    else:
        for row in rows:
            todo = "fetch" if row["to_fetch"] else "here"
            click.echo(f"{row['id']:<20} {todo:<6} {_size(row['bytes']):>10}  {row['from']}")
            click.echo(f"{'':<20} license: {row['license']}{' (nsfw)' if row['nsfw'] else ''}")
        for done in outcome.done:
            if done.reason:
                click.echo(f"{done.id:<20} {done.reason}")
        known = [row["bytes"] or 0 for row in rows if row["to_fetch"]]
        failed = len(outcome.problems)
        more = f"; of {failed} more nothing is known (below)" if failed else ""
        click.echo(f"{len(known)} to fetch, {_size(sum(known))}{more}")
    if outcome.problems:
        raise UserError.collect(outcome.problems)


def _order_row(entry: LockedPlugin, supply: Supply) -> dict[str, Any]:
    from plugins_manifest.licenses import License
    from plugins_manifest.redact import one_line

    origin = entry.origin
    urls = [file.url for file in entry.files if file.url]
    at = f"hf://{origin.repository}@{origin.revision}" if origin.repository else None
    return {
        "id": entry.id,
        "kind": entry.kind,
        "to_fetch": supply.missing(entry),
        "from": one_line(at or (urls[0] if urls else entry.source)),
        "page": origin.page,
        "bytes": entry.size_bytes,
        "sha256": entry.sha256 or (entry.files[0].sha256 if len(entry.files) == 1 else None),
        "license": one_line(License(**entry.license.model_dump()).describe()),
        "nsfw": bool(entry.nsfw),
    }


def _size(n_bytes: int | None) -> str:
    return "size unknown" if n_bytes is None else f"{n_bytes / 2**20:.1f} MiB"
