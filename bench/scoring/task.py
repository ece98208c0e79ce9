"""A metric with the images of a run that it applies to, and what identifies its scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from bench.scoring.checked import MetricFailedError, called, checked_scores
from bench.scoring.images import ImageToScore, RunImages
from metrics.base import Metric, MetricUnavailableError, References, Score
from metrics.encoders import RowSource, encoders_of

T = TypeVar("T")


@dataclass(eq=False)
class Task:
    """A metric and the places of its images in `RunImages.subjects`; `unavailable` is why not."""

    metric: Metric
    places: list[int]
    recipe: str = "unavailable"
    inputs: str = ""
    unavailable: str | None = None
    timeout_s: float | None = None
    scores: dict[int, Score] = field(default_factory=dict)  # by place; image metrics only
    encoded: set[int] = field(default_factory=set)  # places whose rows of its encoders are kept
    has_failed: bool = False  # then it is scored again the next time

    @property
    def name(self) -> str:
        """Return the metric's name."""
        return self.metric.name

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that the metric takes from pictures."""
        return encoders_of(self.metric)

    def call(self, call: Callable[[], T]) -> T:
        """Call the metric; raise `MetricFailedError` or `MetricUnavailableError`."""
        try:
            return called(call, what=f"metric {self.name!r}", timeout_s=self.timeout_s)
        except (MetricFailedError, MetricUnavailableError):
            self.has_failed = True
            raise

    def has(self, place: int) -> bool:
        """Return whether nothing of this image is left to do but what needs all images."""
        return place in (self.encoded if self.encoders else self.scores)

    def score(
        self, places: list[int], run_images: RunImages, references: References | None = None
    ) -> None:
        """Score images of an image metric, whatever goes wrong; None: all are references."""
        images = [run_images.subjects[place].image for place in places]
        if self.unavailable is not None or not images:
            return
        metric = self.metric
        try:
            found = self.call(lambda: metric.score(images, references or run_images))
            self.scores.update(zip(places, checked_scores(found, images), strict=True))
        except MetricUnavailableError as error:
            self.unavailable = str(error)
        except MetricFailedError as error:
            self.scores.update(dict.fromkeys(places, Score(None, str(error))))


def open_task(metric: Metric, run_images: RunImages, timeout_s: float | None = None) -> Task:
    """Return the task of a metric over a run's images."""
    subjects = run_images.subjects
    task = Task(metric, [*range(len(subjects))], timeout_s=timeout_s)
    try:
        applies = task.call(lambda: [bool(metric.applies_to(s.image)) for s in subjects])
        task.places = [place for place, is_it in enumerate(applies) if is_it]
        task.recipe = str(task.call(metric.recipe))
    except (MetricUnavailableError, MetricFailedError) as error:
        task.unavailable = str(error)
    facts = [_identity(subjects[place]) for place in task.places]
    text = json.dumps([metric.name, task.recipe, task.unavailable, sorted(facts)])
    task.has_failed = False  # what has no recipe has other inputs as soon as it has one
    task.inputs = hashlib.sha256(text.encode()).hexdigest()[:20]
    return task


def _identity(subject: ImageToScore) -> tuple[str, ...]:
    image = subject.image
    own = () if image.adapter is None else (image.adapter,)
    own += tuple(sample.image_sha256 for sample in image.samples)
    return image.trial_id, image.plugin, image.image_sha256, subject.missing or "", *own
