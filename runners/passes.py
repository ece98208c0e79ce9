"""Passes that several trials of a group share: run once, their time split over the users."""

from __future__ import annotations

import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from plugins_manifest.errors import PicklableError
from plugins_manifest.installed import describe_error
from plugins_manifest.memory import is_out_of_memory
from runners.base import PassName
from runners.checksum import Checksum, checksum, tensors_in
from runners.device import synchronize
from runners.families.options import compiler_problem

T = TypeVar("T")


class PassKey(NamedTuple):
    """A pass at one plugin scale; None if the plugin does not affect it.

    `of` names what the pass is for, where a scale has several of its name.
    """

    name: PassName
    plugin_scale: float | None
    of: tuple[object, ...] = ()


Shares = Mapping[PassKey, float]


def pass_key(name: PassName, plugin_scale: float | None) -> PassKey:
    """Return the key of a pass; the upgraded model's text does not depend on the plugin."""
    return PassKey(name, None if name == "upgraded_text" else plugin_scale)


@dataclass(frozen=True)
class Failure:
    """An error as text: the error itself holds its frames, and they hold their tensors."""

    reason: str
    trace: str
    is_out_of_memory: bool

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return the text of an error; of a failed pass, that of the pass."""
        if isinstance(error, FailedPassError):
            return error.failure
        trace = "".join(traceback.format_exception(error))
        reason = compiler_problem(error) or describe_error(error)
        return cls(reason, trace, is_out_of_memory(error))


class FailedPassError(PicklableError):
    """A shared pass failed, when it was run for this user or for an earlier one."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The value or the failure of a pass, and its own seconds (without nested passes)."""

    value: T
    failure: Failure | None
    seconds: float


class SharedWork:
    """Cache of shared passes, with their time split among the users.

    `readers` are the passes of each variant, with its weight among their readers. A failed pass
    raises its error for each of its users and is not run again. With `is_guarded`, results keep the
    checksum that they were made with.
    """

    def __init__(self, readers: Iterable[Shares], device: str, *, is_guarded: bool = False) -> None:
        self._weights: defaultdict[PassKey, float] = defaultdict(float)
        for shares in readers:
            for key, weight in shares.items():
                self._weights[key] += weight
        self._device = device
        self._outcomes: dict[PassKey, Outcome[Any]] = {}
        self._declared: Shares = {}
        self._shared_s = 0.0
        self._is_guarded = is_guarded
        self._sums: dict[PassKey, Checksum] = {}

    def get(self, key: PassKey, compute: Callable[[], T]) -> T:
        """Return the result of a pass, computing it for the first user.

        Raises `LookupError` if the running method does not declare the pass in `shares`.
        """
        if key not in self._declared:
            raise LookupError(f"the method reads the pass {key.name!r}: name it in its `shares`")
        if key not in self._outcomes:
            self._outcomes[key] = self._run(compute)
            if self._is_guarded:
                self._sums[key] = checksum(tensors_in(self._outcomes[key].value))
        outcome = self._outcomes[key]
        if outcome.failure is not None:
            raise FailedPassError(outcome.failure)
        return outcome.value

    def _run(self, compute: Callable[[], T]) -> Outcome[T | None]:
        start_s, nested_before_s = self._now(), self._shared_s
        value, failure = _tried(compute)
        elapsed_s = self._now() - start_s
        nested_s = self._shared_s - nested_before_s
        self._shared_s = nested_before_s + elapsed_s
        return Outcome(value, failure, elapsed_s - nested_s)

    def timed(self, declared: Shares, work: Callable[[], T]) -> Outcome[T | None]:
        """Do the work of one reader of passes; its failure is part of the outcome.

        Its seconds are its own, plus its share of every pass that it declared.
        """
        self._declared = declared
        shared_before_s, start_s = self._shared_s, self._now()
        value, failure = _tried(work)
        own_s = self._now() - start_s - (self._shared_s - shared_before_s)
        return Outcome(value, failure, own_s + self._share_s(self._declared))

    def changed(self) -> str | None:
        """Return the passes whose results were changed since they were made; None if none was."""
        names = [
            key.name
            for key, made in self._sums.items()
            if key in self._outcomes and checksum(tensors_in(self._outcomes[key].value)) != made
        ]
        return f"the shared results of {', '.join(names)}" if names else None

    def _share_s(self, shares: Shares) -> float:
        return sum(
            self._outcomes[key].seconds * weight / self._weights[key]
            for key, weight in shares.items()
            if key in self._outcomes
        )

    def forget(self, plugin_scale: float | None) -> None:
        """Free the results that depend on one plugin scale."""
        for key in [key for key in self._outcomes if key.plugin_scale == plugin_scale]:
            if key.plugin_scale is not None:
                del self._outcomes[key]

    def clear(self) -> None:
        """Free all results."""
        self._outcomes.clear()

    def _now(self) -> float:
        synchronize(self._device)
        return time.perf_counter()


def _tried(work: Callable[[], T]) -> tuple[T | None, Failure | None]:
    """Return the value or the failure of a method's work; an interruption is raised."""
    try:
        return work(), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - methods may raise anything
        return None, Failure.of(error)
