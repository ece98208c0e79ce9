"""Keep the most recently used values in memory, up to a total size; safe from many threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class RecentItems(Generic[Key, Value]):
    """Values by key; the least recently used are dropped, but never the newest."""

    def __init__(self, limit: int, *, size: Callable[[Value], int] = lambda _: 1) -> None:
        """`size` is measured in the unit of `limit`: bytes, or by default items."""
        self._limit, self._size = limit, size
        self._held: OrderedDict[Key, Value] = OrderedDict()
        self._total = 0
        self._lock = Lock()

    def find(self, key: Key) -> Value | None:
        """Return the value of a key, None if it is not kept."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key]

    def add(self, key: Key, value: Value) -> Value:
        """Keep a value, unless another thread added one first; return the one that is kept."""
        with self._lock:
            if key not in self._held:
                self._held[key] = value
                self._total += self._size(value)
            while self._total > self._limit and len(self._held) > 1:
                self._total -= self._size(self._held.popitem(last=False)[1])
            return self._held[key]

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key; `make` it if it is not kept."""
        found = self.find(key)
        return self.add(key, make()) if found is None else found
