"""What locking and fetching did, or would do, for people and for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from plugins_manifest.errors import UserError

if TYPE_CHECKING:
    from bench.fetching import Shelf
    from plugins_manifest.lock import LockedPlugin
    from plugins_manifest.locking import Outcome
    from plugins_manifest.supply import Supply


def show_outcome(outcome: Outcome, *, as_json: bool, written: str) -> None:
    """Print what happened; raises `UserError` for what failed, exits 1 for what was skipped."""
    skipped = [done for done in outcome.done if done.state == "skipped:gated"]
    if as_json:
        rows = [{"id": d.id, "state": d.state, "reason": d.reason} for d in outcome.done]
        facts = {"lock": written, "plugins": rows, "problems": outcome.problems}
        click.echo(json.dumps(facts, indent=2))
    else:
        for done in outcome.done:
            words = done.reason or _facts(done.entry)
            click.echo(f"{done.id:<20} {done.state:<16} {words}")
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
        click.echo(f"{len(known)} to fetch, {_size(sum(known))}")
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
