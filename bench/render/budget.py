"""The time and the number of images that one command may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Budget:
    """Limits that end rendering early; one object for all stages of a gate.

    `seconds` have passed since `started`, a time of `clock`. `n_rendered` counts images that were
    rendered, not those of the cache. None is no limit. `stopped` is set where another process has
    reached the limit.
    """

    max_seconds: float | None = None
    max_images: int | None = None
    started: float = 0.0
    clock: Callable[[], float] = time.monotonic
    n_rendered: int = 0
    stopped: str | None = None

    @property
    def reached(self) -> str | None:
        """The limit that is reached, as an option; None before the first image.

        So that a command that is repeated always gets further, also where loading the models takes
        longer than the time that is given.
        """
        if self.stopped is not None or self.n_rendered == 0:
            return self.stopped
        if self.max_images is not None and self.n_rendered >= self.max_images:
            return f"--max-images {self.max_images}"
        seconds = self.clock() - self.started
        if self.max_seconds is not None and seconds >= self.max_seconds:
            return f"--max-time {duration_text(self.max_seconds)}"
        return None


def duration_text(seconds: float) -> str:
    """Return a duration as `--max-time` takes it, such as 1h30m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
