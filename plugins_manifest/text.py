"""Short forms of long texts and lists in messages."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(names: Sequence[str], n_shown: int = 4) -> str:
    """Return the first names joined by commas, and how many more there are."""
    text = ", ".join(names[:n_shown])
    rest = len(names) - n_shown
    return f"{text} and {rest} more" if rest > 0 else text


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
