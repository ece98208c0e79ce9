"""What is being done and how far it is: a bar on terminals, a line of text for a log.

Whoever does something long names it here. `status` returns a line about what goes on, in any
thread; the command line prints it now and then where no terminal shows the bars.
"""

from __future__ import annotations

import time
from threading import Lock
from types import TracebackType
from typing import Any, Self

from plugins_manifest.text import duration

_RUNNING: list[Progress] = []
_LOCK = Lock()


class Progress:
    """Something long that is being done; use it as a context.

    `what` begins with a verb ("rendering pocket"); `unit` counts the `total`, None if unknown. The
    time left is estimated from the units so far, unless they are not `alike`. Without `has_bar`
    nothing is drawn. `silent` keeps lines out of logs too: for servers.
    """

    def __init__(
        self,
        what: str,
        *,
        unit: str = "",
        total: int | None = None,
        done: int = 0,
        has_bar: bool = False,
        silent: bool = False,
        alike: bool = True,
        **bar: Any,
    ) -> None:
        self.what, self.unit, self.total, self.done = what, unit, total, done
        self.silent, self._detail = silent, ""
        self._alike, self._n_free, self._started = alike, done, time.monotonic()
        self._bar: Any = None
        if has_bar:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit=unit, desc=what, disable=None, **bar)

    def update(self, n: int = 1) -> None:
        """Count further units."""
        self.to(self.done + n)

    def skip(self, n: int = 1) -> None:
        """Count units that took no time, such as those of a cache: the time left is of others."""
        self._n_free += n
        self.update(n)

    def to(self, done: int, total: int | None = None) -> None:
        """Set the number of units that are done, and the total if it has become known."""
        n, self.done = done - self.done, done
        self.total = self.total if total is None else total
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(n)

    def detail(self, text: str) -> None:
        """Name the part that is being done now."""
        self._detail = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    @property
    def seconds_left(self) -> float | None:
        """Return the time that the rest takes at the pace so far; None where that is not known."""
        n_made = self.done - self._n_free
        if self.total is None or not self._alike or n_made < 1 or self.done >= self.total:
            return None
        return (time.monotonic() - self._started) / n_made * (self.total - self.done)

    def __str__(self) -> str:
        """Return a line such as "rendering pocket: 24 of 120 images, about 3 min 20 s left"."""
        counted = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"
        plural = "" if self.total == 1 or self.unit.isupper() else "s"
        left = "" if self.seconds_left is None else f"{duration(max(1.0, self.seconds_left))} left"
        parts = [f"{counted} {self.unit}{plural}" if self.unit else "", self._detail, left]
        text = ", ".join(part for part in parts if part)
        return f"{self.what}: {text}" if text else self.what

    def __enter__(self) -> Self:
        """Begin."""
        self._started = time.monotonic()
        with _LOCK:
            _RUNNING.append(self)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End, also after an error."""
        with _LOCK:
            _RUNNING.remove(self)
        if self._bar is not None:
            self._bar.close()


def current() -> Progress | None:
    """Return what began last and has not ended; None if nothing goes on."""
    with _LOCK:
        return _RUNNING[-1] if _RUNNING else None


def status() -> str:
    """Return what goes on in one line: what began last, after what counts, if that is another.

    The line is empty if nothing goes on, or nothing that belongs in a log.
    """
    with _LOCK:
        running = list(_RUNNING)
    if not running or running[-1].silent:
        return ""
    *outer, last = running
    counted = [one for one in outer if one.total is not None and not one.silent]
    return "; ".join(map(str, [*([] if last.total is not None else counted[-1:]), last]))
