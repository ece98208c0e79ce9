"""Quality without style: a set's distance to the segment from floor to oracle, and its place on it.

Against the upgraded model's own images alone (`run_distance`) a plugin that works looks like a loss
of quality. Everything between those images (method `floor`) and the native plugin's (`oracle`)
counts as free of loss here; `metrics.sets.segment` has the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, Families, Quality, References, Score, ScoredImage, expect
from metrics.encoders import CLIP_336, INCEPTION, RowSource
from metrics.one_encoder import OneEncoder
from metrics.pocket_scorer import POCKET_FAMILIES, PocketEncoder
from metrics.sets.formulas import KERNELS, KernelName
from metrics.sets.run_distance import CMMD_SCALE, KID_SCALE, POCKET_SCALE
from metrics.sets.segment import Place, Rows, place_on_segment

_NO_FLOOR = "the run has no images of the upgraded model without plugin (method floor)"
_NO_ORACLE = (
    "the run has no images of the plugin made natively for the upgraded model (method oracle)"
)
_NO_LENGTH = "floor and oracle cannot be told apart: there are no places between them"


@dataclass(frozen=True)
class SegmentDistance(OneEncoder):
    """Squared distance of a set to the segment from floor to oracle, or the place on it.

    `part` "rest" is the distance, in the kernel's units; "place" is w, 0 at floor and 1 at oracle:
    how much of the native plugin's effect the images show, not how good they are. `floor_distance`
    names the metric that serves where a run has no oracle images.
    """

    name: str
    kernel: KernelName
    encoder: RowSource
    part: Literal["rest", "place"]
    floor_distance: str
    axis: Quality | None = None
    family: Families = None
    compares_with: tuple[str, ...] = ("floor", "oracle")
    level: Literal["group"] = "group"

    @property
    def better(self) -> Better:
        """Return the direction; of a place, that of the native plugin."""
        return "lower" if self.part == "rest" else "higher"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        if self.part == "rest":
            return "Quality without style: distance to all between floor and native plugin"
        return "Place between the upgraded model (0) and the native plugin (1); not a quality"

    def recipe(self) -> str:
        """Return part, kernel, pairs, references and network."""
        what = "distance to the segment" if self.part == "rest" else "place on the segment"
        form = KERNELS[self.kernel].words
        return (
            f"{what} from floor to oracle, {form}, pairs of different prompts; "
            f"{self.encoder.recipe()}; references: the run's images of methods floor and oracle"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every image has a quality."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return distance or place; floor and oracle themselves are 0 apart, at places 0 and 1."""
        if not images:
            return Score(None, "there are no images")
        floor = references.made_by("floor", images[0])
        oracle = references.made_by("oracle", images[0])
        if not floor:
            return Score(None, _NO_FLOOR)
        if not oracle:
            return Score(None, f"{_NO_ORACLE}: {self.floor_distance} serves instead")
        sets = [sorted(one, key=lambda image: image.trial_id) for one in (images, floor, oracle)]
        if min(len({image.prompt for image in one}) for one in sets) < 2:
            return Score(None, "pairs of different prompts need 2 prompts in each set")
        a, f, o = (
            self._rows(self.encoder.rows(one, references), [image.prompt for image in one])
            for one in sets
        )
        return self._score(place_on_segment(a, f, o, kernel=KERNELS[self.kernel].kernel))

    def selftest(self) -> None:
        """Check that darker pictures are farther away than a mixture of floor and oracle."""
        noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
        names = [f"prompt {i}" for i in range(len(noise))]
        encoded = (self.encoder.encode(list(p)) for p in (noise, noise // 2, noise // 16))
        floor, oracle, darker = (self._rows(rows, names) for rows in encoded)
        both = np.concatenate([floor.features, oracle.features])
        mixed = Rows(both, [*names, *names])
        kernel = KERNELS[self.kernel].kernel
        near = place_on_segment(mixed, floor, oracle, kernel=kernel)
        far = place_on_segment(darker, floor, oracle, kernel=kernel)
        expect(abs(near.w - 0.5) < 1e-6, f"a mixture of both halves is at {near.w:.3g}, not 0.5")
        expect(abs(near.rest) < 1e-9, f"a mixture of both halves is {near.rest:.3g} apart, not 0")
        expect(far.rest > 1e-9, f"darker pictures are {far.rest:.3g} apart, not above 0")

    def _rows(self, rows: np.ndarray, prompts: Sequence[str]) -> Rows:
        return Rows(KERNELS[self.kernel].ready(rows), prompts)

    def _score(self, place: Place) -> Score:
        is_point = place.length <= 0
        if self.part == "place":
            left = None if is_point else place.w_without
            return Score(None if is_point else place.w, _NO_LENGTH if is_point else None, left)
        scale = KERNELS[self.kernel].scale
        without = {name: scale * value for name, value in place.rest_without.items()}
        caution = "floor and oracle cannot be told apart: this is the distance to floor"
        return Score(scale * place.rest, caution if is_point else None, without)


POCKET_REST = SegmentDistance(
    "pocket-rest",
    "polynomial",
    PocketEncoder(),
    "rest",
    "pocket-kid-floor",
    Quality("segment", 10, POCKET_SCALE, "pocket-place"),
    POCKET_FAMILIES,
)
POCKET_PLACE = SegmentDistance(
    "pocket-place",
    "polynomial",
    PocketEncoder(),
    "place",
    "pocket-kid-floor",
    family=POCKET_FAMILIES,
)
KID_REST = SegmentDistance(
    "kid-rest",
    "polynomial",
    INCEPTION,
    "rest",
    "kid-floor",
    Quality("segment", 20, KID_SCALE, "kid-place"),
)
KID_PLACE = SegmentDistance("kid-place", "polynomial", INCEPTION, "place", "kid-floor")
CMMD_REST = SegmentDistance(
    "cmmd-rest",
    "gaussian",
    CLIP_336,
    "rest",
    "cmmd-floor",
    Quality("segment", 30, CMMD_SCALE, "cmmd-place"),
)
CMMD_PLACE = SegmentDistance("cmmd-place", "gaussian", CLIP_336, "place", "cmmd-floor")
