"""Durations and numbers of images as options, and the line about a command that ended early."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bench.run import RunOutcome
    from runners.base import Batch

_LONGEST_NUMBER = 4  # digits
_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")


class Duration(click.ParamType):
    """A duration such as 90s, 20m or 1h30m; its value is in seconds."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds; fail for anything else, a number without its unit included."""
        if isinstance(value, int | float):
            return float(value)
        found = _DURATION.fullmatch(value.strip())
        hours, minutes, seconds = (int(part or 0) for part in (found.groups() if found else "000"))
        total = 3600 * hours + 60 * minutes + seconds
        if not total:
            self.fail(f"{value!r} is not a duration: use 90s, 20m or 1h30m", param, ctx)
        return float(total)


class BatchSizeOption(click.ParamType):
    """A number of images, at most those of a planned batch, or "auto"."""

    name = "N|auto"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> Batch:
        """Return the number or "auto"; fail for anything else."""
        if value == "auto":
            return "auto"
        from bench.plan.plan import BATCH_SIZE

        text = str(value)
        number = int(text) if text.isdecimal() and len(text) < _LONGEST_NUMBER else 0
        if not 1 <= number <= BATCH_SIZE:
            self.fail(f"{value!r} is not auto or a number from 1 to {BATCH_SIZE}", param, ctx)
        return number


def stopped_line(outcome: RunOutcome) -> str:
    """Return how far a run got that its limit ended, and how it goes on."""
    done = outcome.n_trials - outcome.n_open
    return (
        f"stopped by {outcome.stopped}: {done} of {outcome.n_trials} images are done; run the same "
        "command again to go on"
    )
