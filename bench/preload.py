"""Modules that are needed soon, imported while something else computes."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from threading import Thread


def preload(*names: str) -> Thread:
    """Import modules on a thread of their own; what cannot be imported fails where it is used."""

    def load() -> None:
        for name in names:
            with suppress(ImportError):
                import_module(name)

    thread = Thread(target=load, name="preload", daemon=True)
    thread.start()
    return thread
