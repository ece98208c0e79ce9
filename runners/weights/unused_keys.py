"""Audit rows for tensors in the file that change no model parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plugins_manifest.formats import Header, ParsedPlugin, Problem
from plugins_manifest.formats.formulas import split_key
from runners.audit import AuditRow

_MODULE_REASONS = ("bad-shape", "missing-part", "mixed-formulas", "bad-dtype", "double-target")


def rows_of_the_rest(parsed: ParsedPlugin, header: Header) -> list[AuditRow]:
    """Return a row for every module and every other key of the file that changes no parameter.

    Together with the rows of the changes, every key of the file is counted exactly once.
    """
    modules: dict[str, list[str]] = {}
    unknown = []
    for key in parsed.unknown_keys:
        part = split_key(key, header.tensors.keys())
        if part is None:
            unknown.append(key)
        else:
            modules.setdefault(part.module, []).append(key)
    rows = [_module_row(name, keys, parsed) for name, keys in modules.items()]
    rows += [_unused(key, 1, "unknown-key") for key in unknown]
    rows += [
        _unused(key, 1, "unsupported-kind", role)
        for key, role in parsed.other_keys.items()
        if not role.startswith("embedding:")
    ]
    return rows + _repeated(parsed)


def _module_row(name: str, keys: Sequence[str], parsed: ParsedPlugin) -> AuditRow:
    if name in parsed.unmatched:
        nearest = parsed.unmatched[name]
        hint = f"nearest: {', '.join(nearest)}" if nearest else ""
        return _unused(name, len(keys), "unmatched-module", hint)
    problem = _problem_of(name, keys, parsed.problems)
    if problem is None:
        return _unused(name, len(keys), "not-applied")
    return _unused(name, len(keys), problem.reason, problem.message)


def _problem_of(name: str, keys: Sequence[str], problems: Iterable[Problem]) -> Problem | None:
    """Return the first problem of the module or of one of its keys."""
    subjects = {name, *keys}
    found = (p for p in problems if p.reason in _MODULE_REASONS and p.subject in subjects)
    return next(found, None)


def _repeated(parsed: ParsedPlugin) -> list[AuditRow]:
    """Return rows of keys that more than one change would use."""
    used = [key for change in parsed.changes for key in change.parts.values()]
    repeated = sorted({key for key in used if used.count(key) > 1}) if _has_repeats(used) else []
    return [_unused(key, 0, "double-target") for key in repeated]


def _has_repeats(keys: Sequence[str]) -> bool:
    return len(set(keys)) < len(keys)


def _unused(module: str, n_keys: int, reason: str, detail: str = "") -> AuditRow:
    return AuditRow(module=module, n_keys=n_keys, missing=True, reason=reason, detail=detail)
