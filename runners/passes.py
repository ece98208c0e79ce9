"""Work that several trials of a group share: done once, its seconds split evenly over its users."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from runners.base import PassName

T = TypeVar("T")
SHARED_ERRORS = (RuntimeError, ValueError, MemoryError)


class PassKey(NamedTuple):
    """A pass at one plugin scale; None where the plugin does not matter."""

    name: PassName
    plugin_scale: float | None


def pass_key(name: PassName, plugin_scale: float | None) -> PassKey:
    """Key of a pass; the upgraded model's text does not depend on the plugin."""
    return PassKey(name, None if name == "upgraded_text" else plugin_scale)


@dataclass(frozen=True)
class _Outcome(Generic[T]):
    """What a pass gave: a value or an error, and its own seconds (nested passes excluded)."""

    value: T
    error: Exception | None
    seconds: float


class SharedWork:
    """Results of passes by key, and who pays for them.

    A pass that failed fails again for each of its users, without being run again.
    """

    def __init__(self, readers: Iterable[frozenset[PassKey]], device: str) -> None:
        self._n_users: Counter[PassKey] = Counter()
        for keys in readers:
            self._n_users.update(keys)
        self._device = device
        self._outcomes: dict[PassKey, _Outcome[Any]] = {}
        self._declared: frozenset[PassKey] = frozenset()
        self._shared_s = 0.0

    def get(self, key: PassKey, compute: Callable[[], T]) -> T:
        """Return the result of a pass, computing it for the first user.

        Raises `LookupError` where the running method did not declare the pass in `shares`.
        """
        if key not in self._declared:
            raise LookupError(f"the method reads the pass {key.name!r}: name it in its `shares`")
        if key not in self._outcomes:
            self._outcomes[key] = self._run(compute)
        outcome = self._outcomes[key]
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _run(self, compute: Callable[[], T]) -> _Outcome[T | None]:
        start_s, nested_before_s = self._now(), self._shared_s
        value, error = None, None
        try:
            value = compute()
        except SHARED_ERRORS as caught:
            error = caught
        elapsed_s = self._now() - start_s
        nested_s = self._shared_s - nested_before_s
        self._shared_s = nested_before_s + elapsed_s
        return _Outcome(value, error, elapsed_s - nested_s)

    def timed(self, declared: frozenset[PassKey], work: Callable[[], T]) -> _Outcome[T | None]:
        """Do the work of one reader of passes.

        Its seconds are its own, plus its share of every pass that it declared.
        """
        self._declared = declared
        shared_before_s, start_s = self._shared_s, self._now()
        value, error = None, None
        try:
            value = work()
        except SHARED_ERRORS as caught:
            error = caught
        own_s = self._now() - start_s - (self._shared_s - shared_before_s)
        return _Outcome(value, error, own_s + self._share_s(self._declared))

    def _share_s(self, keys: Iterable[PassKey]) -> float:
        outcomes = self._outcomes
        return sum(outcomes[key].seconds / self._n_users[key] for key in keys if key in outcomes)

    def forget(self, plugin_scale: float | None) -> None:
        """Free the results that depend on one plugin scale."""
        for key in [key for key in self._outcomes if key.plugin_scale == plugin_scale]:
            if key.plugin_scale is not None:
                del self._outcomes[key]

    def _now(self) -> float:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
