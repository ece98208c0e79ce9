"""Numbers on the pages: two decimals, one digit below 0.01, a dash for a missing number."""

from __future__ import annotations

from typing import Any, TypeGuard

import pandas as pd

from bench.report import number as format_number
from bench.report import with_ends

DASH = "\u2013"
Number = Any  # float, int, None, NaN or pandas' NA


def known(value: Number) -> TypeGuard[float]:
    """Return whether there is a number at all."""
    return value is not None and not pd.isna(value)


def number(value: Number, *, signed: bool = False) -> str:
    """Return a number, or a dash for a missing one."""
    return format_number(_plain(value), digits=2, small_digits=1, signed=signed, missing=DASH)


def interval(value: Number, low: Number, high: Number, *, signed: bool = False) -> str:
    """Return a number with its interval, if it has one: 0.90 [0.84, 0.95]."""
    ends = (_plain(low), _plain(high)) if known(value) else (None, None)
    return with_ends(_plain(value), ends, digits=2, small_digits=1, signed=signed, missing=DASH)


def ends(low: Number, high: Number) -> str:
    """Return an interval alone: 0.84 to 0.95."""
    return f"{number(low)} to {number(high)}" if known(low) and known(high) else DASH


def _plain(value: Number) -> float | None:
    return value if known(value) else None
