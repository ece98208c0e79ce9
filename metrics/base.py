"""What a metric is: a number for an image or for a set of images, with its recipe and traits.

Metrics import torch only when they score, so that recipes can be compared at once. A metric is an
entry point of group `xbench.metrics`: an instance, or a callable that returns one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from metrics.features import FeatureCache

Better = Literal["higher", "lower"]
Level = Literal["image", "group"]
Role = Literal["function", "quality", "text"]
QualityReference = Literal["segment", "floor"]
Families = str | tuple[str, ...] | None
LAST_RANK = 1000  # of metrics that state no rank: after those of this package


class MetricUnavailableError(ValueError):
    """A metric lacks weights or data; the message says which and how to get them."""


class SelfTestError(AssertionError):
    """A metric gave a wrong value for a known input."""


def expect(holds: bool, message: str) -> None:
    """Raise SelfTestError with the message unless a self-test's claim holds."""
    if not holds:
        raise SelfTestError(message)


@dataclass(frozen=True)
class Score:
    """A number, or None with the reason; the reason of a number is a caution.

    `leave_one_out` (set metrics that can): prompt -> the value without that prompt's images.
    """

    value: float | None
    reason: str | None = None
    leave_one_out: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise ValueError("a missing score needs a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score is a finite number or None, not {self.value!r}")


@dataclass(frozen=True)
class SamplePicture:
    """A picture of what a plugin teaches; `load_picture` reads uint8 RGB [H, W, 3]."""

    image_sha256: str
    load_picture: Callable[[], np.ndarray] = field(compare=False)


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """One image under one plugin, with everything that metrics may use.

    A floor image (upgraded model, no plugin) appears once for each plugin it is a floor of.
    `load_picture` and `load_condition` read uint8 RGB [H, W, 3]; `prompt` is the content prompt,
    without the plugin's trigger; `detector` (its form for `family`) made the condition; `scene` is
    (seed, index) of a pocket scene. Knobs that a method does not have are None. `load_source` reads
    the picture that conditions come from, at the base side's size; None where a case has none.

    Of a stack (`kind` "stack"), `kinds` are its plugins' kinds, `conditions` reads the condition
    image of each detector (of the first plugin that has it), `detector` and `load_condition` are
    the first of them, and `trigger` is that of its only plugin with one, else None. `samples` are
    the sample pictures of its base side's plugins.
    """

    trial_id: str
    image_sha256: str
    plugin: str
    kind: str
    method: str
    t0: float | None
    plugin_scale: float | None
    adapter_scale: float | None
    case_id: str
    seed: int
    prompt: str
    load_picture: Callable[[], np.ndarray]
    load_condition: Callable[[], np.ndarray] | None = None
    detector: str | None = None
    family: str = ""
    trigger: str | None = None
    scene: tuple[int, int] | None = None
    kinds: tuple[str, ...] = ()
    conditions: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    load_source: Callable[[], np.ndarray] | None = None
    adapter: str | None = None
    samples: tuple[SamplePicture, ...] = ()

    def is_of(self, kinds: Sequence[str]) -> bool:
        """Return whether the plugin, or one of the stack, is of one of these kinds."""
        return any(kind in kinds for kind in (self.kind, *self.kinds))

    def as_source(self) -> ScoredImage | None:
        """Return the source picture in the image's place, as a perfect image would show it."""
        return None if self.load_source is None else replace(self, load_picture=self.load_source)

    def condition_of(self, detector: str) -> Callable[[], np.ndarray] | None:
        """Return the reader of this detector's condition image; None if there is none."""
        own = self.load_condition if self.detector == detector else None
        return self.conditions.get(detector, own)


class References(Protocol):
    """The other images of a run that an image is compared with, and embeddings made so far.

    While a run renders, images that may still come are refused by an error; let it pass, and the
    metric is called again at the end.
    """

    features: FeatureCache

    def base_of(self, image: ScoredImage) -> ScoredImage | None:
        """Return the base model's image of the same plugin, case and seed."""
        ...

    def floor_of(self, image: ScoredImage) -> ScoredImage | None:
        """Return the image of the upgraded model without the plugin, same case and seed."""
        ...

    def style_bank(self, image: ScoredImage) -> Sequence[ScoredImage]:
        """Return images of base + plugin from other prompts; their noise is independent too."""
        ...

    def made_by(self, method: str, image: ScoredImage) -> Sequence[ScoredImage]:
        """Return all images of a method under the same plugin."""
        ...


def ceiling_by(
    score: Callable[[ScoredImage], Score], image: ScoredImage, *, detector: str
) -> Score:
    """Return the score of the source picture itself, that of a perfect image."""
    source = image.as_source()
    if source is None or source.condition_of(detector) is None:
        return Score(None, "the case has no source picture, or no condition image")
    return score(source)


class Quality(NamedTuple):
    """How a set metric measures quality, as a distance with values without each prompt.

    `reference` "floor" is the squared distance to the mean of the upgraded model's own images,
    "segment" that to the segment from there to the mean of the native plugin's (method oracle),
    which does not count the plugin's style. Of several with one reference the lowest `rank` is
    taken. `scale` is k, the distance at which the sorting number 1 - q / k reaches 0. `place`
    names the metric with the place w along the segment.
    """

    reference: QualityReference
    rank: int
    scale: float
    place: str | None = None


@dataclass(frozen=True)
class Traits:
    """What the analysis of a run uses a metric for; every trait is an optional attribute of it.

    Of the metrics with one `role` that have values, that of the lowest `rank` represents the role:
    "function" measures what a plugin is made for, "quality" and "text" fill the columns of
    tables. `condition` names the condition for which the word `condition` in a manifest's metrics
    includes the metric. `axis` marks kernel distances that measure quality (a Frechet distance is
    too biased for that). `family` names the only families for which the metric is a default, where
    it precedes metrics of any family. `beside` names metrics that a manifest without `metrics` gets
    together with this one. `compares_with` names methods whose images it needs in the run; those
    that it `brings` come into a run with the metric. With `is_fallback` it is a default only where
    no other metric of its role applies.
    """

    role: Role | None = None
    rank: int = LAST_RANK
    condition: str | None = None
    axis: Quality | None = None
    family: Families = None
    beside: tuple[str, ...] = ()
    compares_with: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()
    is_fallback: bool = False

    def is_default_for(self, family: str) -> bool:
        """Return whether the metric may be a default of a family's manifests."""
        return not self.families or family in self.families

    @property
    def families(self) -> tuple[str, ...]:
        """The only families for which the metric is a default; empty: it is for all."""
        own = self.family
        return own if isinstance(own, tuple) else () if own is None else (own,)


def traits_of(metric: Metric) -> Traits:
    """Return a metric's traits; attributes that it lacks have their defaults."""
    own: dict[str, Any] = {f.name: getattr(metric, f.name, f.default) for f in fields(Traits)}
    return Traits(**own)


class _Described(Protocol):
    """Attributes of all metrics; those of `Traits`, `summary` and `selftest` are optional.

    `summary` is one line; `selftest()` raises SelfTestError or MetricUnavailableError unless known
    inputs give known values.
    """

    @property
    def name(self) -> str: ...
    @property
    def better(self) -> Better: ...
    @property
    def needs(self) -> tuple[str, ...]: ...

    def recipe(self) -> str:
        """Return everything that changes the number, without loading torch."""
        ...

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether the metric makes sense for this image's plugin."""
        ...


class ImageMetric(_Described, Protocol):
    """A number for each image."""

    level: Literal["image"]

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one score for each image, in order, each independent of the other images."""
        ...


class SetMetric(_Described, Protocol):
    """A number for a set of images that share plugin, method and settings."""

    level: Literal["group"]

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return one score for the set; the order of images does not matter."""
        ...


Metric = ImageMetric | SetMetric


def describe(metric: Metric) -> dict[str, Any]:
    """Return name, direction, level, needs, recipe (None with `unavailable`) and summary."""
    recipe, unavailable = None, None
    try:
        recipe = metric.recipe()
    except MetricUnavailableError as error:
        unavailable = str(error)
    return {
        "name": metric.name,
        "better": metric.better,
        "level": metric.level,
        "needs": list(metric.needs),
        "recipe": recipe,
        "unavailable": unavailable,
        "summary": getattr(metric, "summary", None) or _first_line(type(metric).__doc__),
    }


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
