"""Numbers as people read them."""

from __future__ import annotations

from typing import Any, TypeGuard

import pandas as pd

DASH = "\u2013"
Number = Any  # float, int, None, NaN or pandas' NA


def known(value: Number) -> TypeGuard[float]:
    """Whether there is a number at all."""
    return value is not None and not pd.isna(value)


def number(value: Number, *, signed: bool = False) -> str:
    """A number with two decimals, one digit where it is small, or a dash for none."""
    if not known(value):
        return DASH
    form = ".1g" if value and abs(value) < 0.01 else ".2f"
    return f"{value:{'+' if signed else ''}{form}}"


def interval(value: Number, low: Number, high: Number, *, signed: bool = False) -> str:
    """A number with its interval, where it has one: 0.90 [0.84, 0.95]."""
    told = number(value, signed=signed)
    if not (known(value) and known(low) and known(high)):
        return told
    return f"{told} [{number(low, signed=signed)}, {number(high, signed=signed)}]"


def ends(low: Number, high: Number) -> str:
    """An interval alone: 0.84 to 0.95."""
    return f"{number(low)} to {number(high)}" if known(low) and known(high) else DASH
