"""Format numbers and intervals: for reports, the command line and the leaderboard."""

from __future__ import annotations


def number(
    value: float | None,
    *,
    digits: int = 3,
    small_digits: int | None = None,
    signed: bool = False,
    missing: str = "-",
) -> str:
    """Return a number with fixed decimals, at most one from 100 on.

    Below 0.01 it has `small_digits` significant digits; by default 2 if `digits` is at least 3.
    """
    if value is None:
        return missing
    sign = "+" if signed else ""
    if small_digits is None:
        small_digits = 2 if digits >= 3 else 0
    text = f"{value:{sign}.{digits if abs(value) < 100 else min(digits, 1)}f}"
    if small_digits and value and abs(value) < 0.01:
        text = f"{value:{sign}.{small_digits}g}"
    return text if text.strip("+-0.") else text.lstrip("+-")


def with_ends(
    value: float | None,
    ends: tuple[float | None, float | None],
    *,
    digits: int = 3,
    small_digits: int | None = None,
    signed: bool = False,
    missing: str = "-",
) -> str:
    """Return a number with the ends of its interval, if it has one: '0.86 [0.80, 0.94]'."""

    def text(x: float | None) -> str:
        return number(x, digits=digits, small_digits=small_digits, signed=signed, missing=missing)

    return text(value) if None in ends else f"{text(value)} [{', '.join(map(text, ends))}]"
