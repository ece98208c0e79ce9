"""Call metrics, which may come from other packages: whatever goes wrong is a missing score.

A score is kept only if it is a finite number in the form that `metrics.base` describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import TypeVar

from metrics.base import MetricUnavailableError, Score, ScoredImage
from plugins_manifest.installed import describe_error
from runners.deadline import Deadline, DeadlineError

T = TypeVar("T")
FAILED = "failed"  # in place of the hash of the inputs: never up to date


class MetricFailedError(Exception):
    """A metric that raised an error or hung; the text is the reason of the missing scores."""


def called(call: Callable[[], T], *, what: str, timeout_s: float | None = None) -> T:
    """Return what a metric returns; raise `MetricFailedError` for whatever goes wrong.

    `MetricUnavailableError` passes.
    """
    deadline = Deadline(timeout_s, what=what)
    try:
        with deadline.running():
            return call()
    except MetricUnavailableError:
        raise
    except DeadlineError as error:
        raise MetricFailedError(deadline.reason) from error
    except (Exception, SystemExit) as error:
        raise MetricFailedError(f"the metric failed: {describe_error(error)}") from error


def checked_scores(scores: object, images: Sequence[ScoredImage]) -> list[Score]:
    """Return one score per image; missing ones, with the reason, if that is not what came."""
    if not isinstance(scores, Sequence) or len(scores) != len(images):
        found = f"{len(scores)} scores" if isinstance(scores, Sequence) else type(scores).__name__
        reason = f"the metric returned {found} for {len(images)} images"
        return [Score(None, reason)] * len(images)
    return [checked_score(score, [image]) for score, image in zip(scores, images, strict=True)]


def checked_score(
    score: object, images: Sequence[ScoredImage], *, of_run: Collection[str] = ()
) -> Score:
    """Return a score of images as a finite float, or a missing one with the reason.

    Values without a prompt that other images of the run have, and these lack, are left out.
    """
    if not isinstance(score, Score):
        return Score(None, f"the metric returned {type(score).__name__}, not a Score")
    reason = score.reason if isinstance(score.reason, str) else None
    if score.value is None:
        return Score(None, reason or "the metric gave no reason")
    if (value := _number(score.value)) is None:
        return Score(None, f"the metric returned {score.value!r:.80}, not a finite number")
    left_out = score.leave_one_out
    if left_out is None:
        return Score(value, reason)
    prompts = {image.prompt for image in images}
    without = _numbers(left_out, prompts | {*of_run})
    if without is None:
        why = "the metric's values without each prompt are not finite numbers of the prompts"
        return Score(None, why)
    return Score(value, reason, {name: v for name, v in without.items() if name in prompts})


def _numbers(values: object, prompts: set[str]) -> dict[str, float] | None:
    if not isinstance(values, Mapping):
        return None
    found = {prompt: _number(value) for prompt, value in values.items() if prompt in prompts}
    if len(found) != len(values):
        return None
    numbers = {prompt: number for prompt, number in found.items() if number is not None}
    return numbers if len(numbers) == len(found) else None


def _number(value: object) -> float | None:
    """Return a number as a float; None for other types, booleans, NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None
