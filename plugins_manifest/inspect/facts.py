"""Convert an inspection to plain data; all text of the untrusted file is escaped and capped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from plugins_manifest.formats import Header, ModuleChange
from plugins_manifest.formats.formulas import formulas
from plugins_manifest.formats.made_for import file_names, notes_of
from plugins_manifest.formats.parse import LAYOUTS
from plugins_manifest.formats.reasons import REASONS
from plugins_manifest.inspect.inspect import Inspection
from plugins_manifest.outputs import escaped_line

MAX_ENTRIES, MAX_PROBLEMS, MAX_NAMES = 40, 4, 20  # problems of one reason


def facts(inspection: Inspection) -> dict[str, Any]:
    """Return all findings as JSON types; all names and texts are safe to print anywhere."""
    found: dict[str, Any] = {
        "file": escaped_line(inspection.name),
        "bytes": inspection.n_bytes,
        "safety": inspection.safety,
        "verdict": inspection.verdict,
        "problems": _problems(inspection),
        "n_problems": len(inspection.problems),
        "n_problems_of": dict(Counter(problem.reason for problem in inspection.problems)),
    }
    header, parsed = inspection.header, inspection.parsed
    if header is None or parsed is None:
        return found
    return found | {
        "format": parsed.format,
        "format_note": LAYOUTS[parsed.format],
        "kind": parsed.kind,
        "base_model": parsed.base_model,
        "n_tensors": len(header.tensors),
        "dtypes": dict(Counter(info.dtype for info in header.tensors.values())),
        "formulas": dict(inspection.formulas),
        "ranks": _ranks(parsed.changes, header),
        "n_with_alpha": sum("alpha" in c.parts or c.alpha is not None for c in parsed.changes),
        "targets": targets(parsed.changes),
        "n_changes": len(parsed.changes),
        "keys_used": inspection.n_used,
        "keys_unused": inspection.n_unused,
        "unused": [escaped_line(key) for key in parsed.unknown_keys[:MAX_NAMES]],
        "embeddings": _embeddings(inspection),
        "notes": [escaped_line(note, longest=400) for note in _notes(inspection)],
        "metadata": safe_metadata(header.metadata),
        "n_metadata": len(header.metadata),
    }


def _notes(inspection: Inspection) -> list[str]:
    """Return what a reader should know: of the file's layout, and of what a LoRA was made for."""
    header, parsed = inspection.header, inspection.parsed
    if header is None or parsed is None:
        return []
    is_lora = parsed.kind in ("lora", "lycoris")
    names = file_names(inspection.name, inspection.folder)
    return [*parsed.notes, *(notes_of(names, header.metadata) if is_lora else ())]


def safe_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the first entries, sorted by name, escaped and cut."""
    names = sorted(metadata)[:MAX_ENTRIES]
    return {escaped_line(name, longest=80): escaped_line(metadata[name]) for name in names}


def targets(changes: tuple[ModuleChange, ...]) -> dict[str, int]:
    """Count the changed layers of each kind (`unet attn1.to_q`)."""
    counts: Counter[str] = Counter()
    for change in changes:
        side, _, module = change.target.partition(".")
        words = [word for word in module.split(".") if not word.isdigit()][:-1]
        counts[f"{side} {'.'.join(words[-2:])}"] += 1
    return dict(sorted(counts.items()))


def _problems(inspection: Inspection) -> list[dict[str, str]]:
    """Return the first problems of each reason; the others are only counted."""
    n_listed: Counter[str] = Counter()
    found = []
    for p in inspection.problems:
        n_listed[p.reason] += 1
        if n_listed[p.reason] <= MAX_PROBLEMS:
            message = escaped_line(p.message, longest=400)
            found.append({"reason": p.reason, "meaning": REASONS[p.reason], "message": message})
    return found


def _ranks(changes: tuple[ModuleChange, ...], header: Header) -> dict[str, int]:
    """Count the changes of each rank, of low-rank formulas."""
    counts: Counter[int] = Counter()
    for change in changes:
        ranked = (p for p in formulas()[change.formula].rank_parts if p in change.parts)
        if part := next(ranked, None):
            counts[header.tensors[change.parts[part]].shape[0]] += 1
    return {str(rank): count for rank, count in sorted(counts.items())}


def _embeddings(inspection: Inspection) -> dict[str, int]:
    """Return the number of vectors of each token."""
    if inspection.parsed is None or inspection.header is None:
        return {}
    tensors = inspection.header.tensors
    found = list(inspection.parsed.embeddings.items())[:MAX_NAMES]
    return {
        escaped_line(token): sum(_n_vectors(tensors[k].shape) for k in keys)
        for token, keys in found
    }


def _n_vectors(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1
