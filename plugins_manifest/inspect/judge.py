"""Why a run would refuse a plugin's file, in one line: for plans, locks and preflights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.formats import ModuleTable
from plugins_manifest.formats.usable import refusal
from plugins_manifest.inspect.inspect import Inspection, inspect_file
from plugins_manifest.outputs import escaped_line

_MAX_TEXT = 300
_OF_MODEL = frozenset({"bad-shape", "missing-key", "unmatched-module", "wrong-base"})


def why_unusable(
    path: Path,
    *,
    kinds: Collection[str],
    table: ModuleTable | None,
    allow_partial: bool = False,
    condition: str | None = None,
) -> str | None:
    """Return why a file, or a folder's file, cannot be attached as one of `kinds`; None if it can.

    `table` is of the model that it is attached to; None for one that is not known, whose layers
    are then not compared. Nothing is executed, and no model is loaded.
    """
    try:
        found = inspect_file(path, table=table, condition=condition)
    except UserError as error:
        return "; ".join(error.problems)
    if found.parsed is None or (why := refusal(found.parsed, kinds)) is None:
        why = _of_verdict(found, allow_partial=allow_partial, is_known=table is not None)
    if why is None:
        return None
    return f"{escaped_line(found.name)}: {escaped_line(why, longest=_MAX_TEXT)}"


def _of_verdict(found: Inspection, *, allow_partial: bool, is_known: bool) -> str | None:
    if found.verdict == "ok":
        return None
    problems = [p for p in found.problems if is_known or p.reason not in _OF_MODEL]
    if not problems or (allow_partial and _has_usable_part(found)):
        return None
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0].message}{more}"


def _has_usable_part(found: Inspection) -> bool:
    """Return whether allow_partial may help: the load audit has the last word."""
    return found.verdict != "no-change" and found.parsed is not None and bool(found.parsed.changes)
