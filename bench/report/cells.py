"""Align columns of text; numbers are those of `bench.analysis.numbers`."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.numbers import number, with_ends
from plugins_manifest.outputs import terminal_line

__all__ = ["aligned", "number", "with_ends"]


def aligned(
    lines: Sequence[Sequence[str]], *, n_left: int | None = None, indent: str = ""
) -> list[str]:
    """Align columns two spaces apart: `n_left` (all by default) to the left, the others right."""
    lines = [[terminal_line(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    n_left = len(widths) if n_left is None else n_left
    padded = [
        [
            cell.ljust(width) if i < n_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return [(indent + "  ".join(cells)).rstrip() for cells in padded]
