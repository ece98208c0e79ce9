"""Faults and hostile inputs, one kind a module; the tests try a few, `scripts/break-it` all.

A module named `kind_*.py` has a `KIND`; nothing else registers it.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.faults.base import Kind


def kinds() -> list[Kind]:
    """Return every kind, by group and name."""
    names = [info.name for info in pkgutil.iter_modules(__path__) if info.name.startswith("kind_")]
    found = [importlib.import_module(f"{__name__}.{name}").KIND for name in names]
    return sorted(found, key=lambda kind: (kind.group, kind.name))
