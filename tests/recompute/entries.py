"""Entries of tables beside their recomputed values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One cell: what the run has stored, and what was recomputed, with a tolerance for numbers."""

    table: str
    where: str
    stored: Any
    found: Any
    tolerance: float = 1e-9

    @property
    def agrees(self) -> bool:
        """Whether both are equal: numbers within the tolerance, relative above 1."""
        if not _is_number(self.stored) or not _is_number(self.found):
            return self.stored == self.found
        bound = self.tolerance * max(1.0, abs(self.found))
        return math.isclose(self.stored, self.found, rel_tol=0.0, abs_tol=bound)


@dataclass
class Comparison:
    """All entries that were compared, and how many cannot be recomputed here, by reason."""

    compared: Counter[str] = field(default_factory=Counter)
    wrong: list[Entry] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, entries: Iterable[Entry]) -> None:
        """Compare entries."""
        for entry in entries:
            self.compared[entry.table] += 1
            if not entry.agrees:
                self.wrong.append(entry)

    def report(self, *, most: int = 40) -> str:
        """Return the counts by table, the entries that disagree, and what was skipped."""
        wrong = Counter(entry.table for entry in self.wrong)
        lines = [
            f"{table}: {n - wrong[table]} of {n} entries agree"
            for table, n in self.compared.items()
        ]
        lines += [
            f"  {e.table}, {e.where}: stored {_text(e.stored)}, recomputed {_text(e.found)}"
            for e in self.wrong[:most]
        ]
        if len(self.wrong) > most:
            lines.append(f"  and {len(self.wrong) - most} more")
        lines += [f"not recomputed: {n} entries ({why})" for why, n in sorted(self.skipped.items())]
        total = self.compared.total()
        lines.append(f"{total - len(self.wrong)} of {total} entries agree")
        return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:.9g}" if _is_number(value) else repr(value)
