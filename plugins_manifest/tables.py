"""Tables as CSV; every error with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator


def csv_rows(text: str, *, name: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the header with its line, and the cells of every row that is not empty with theirs.

    Adds to `problems` rows with more cells than the header, and the row at which the text stops
    being CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begun = 1
    try:
        header = [key.strip() for key in next(reader, [])]
        yield begun, header
        begun = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(header):
                problems.append(
                    f"{name}:{begun}: {len(cells)} cells, the header has {len(header)}: put text "
                    "with commas in quotes"
                )
            elif any(cells):
                yield begun, cells
            begun = reader.line_num + 1
    except csv.Error as error:
        problems.append(
            f"{name}:{begun}: not valid CSV ({error}): put text with quotes in quotes and double "
            "them"
        )
