"""A run's images as input of the metrics: each with its plugin, its condition, its references.

Floor images do not belong to a plugin; here each appears once for every plugin that has the same
case and seed, and equal steps, guidance and sampler, so that every plugin has its own floor row. A
stack is a plugin here; one with plugins of the upgraded model has floor images of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.plan.conditions import source_picture
from bench.plan.judges import blank_image
from bench.store import Row, RunStore, read_image, records
from bench.store.recent import RecentItems
from bench.store.run_store import condition_name
from metrics.base import SamplePicture, ScoredImage
from metrics.features import FeatureCache
from plugins_manifest.cases import Case
from plugins_manifest.files import file_sha256
from plugins_manifest.images.folder import pictures_in
from plugins_manifest.prompt_syntax import plain_words
from plugins_manifest.schema import PluginSet, plugin_sets

CACHE_BYTES = 512 << 20
MergeHow = Literal["left", "inner"]
_PairKey = tuple[str, str, int]  # plugin, case id, seed


@dataclass(frozen=True)
class ImageToScore:
    """An image to score, or the reason why it is missing; `is_open`: its batch has not ended."""

    image: ScoredImage
    missing: str | None = None
    is_open: bool = False


class Pictures:
    """Read image files; cache the most recent ones, up to a number of bytes. Thread-safe."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._recent = RecentItems[Path, np.ndarray](limit_bytes, size=lambda image: image.nbytes)

    def read(self, path: Path) -> np.ndarray:
        """Return uint8 RGB [H, W, 3], read-only: all metrics share it."""
        return self._recent.get(path, lambda: _read_only(read_image(path)))


def _read_only(image: np.ndarray) -> np.ndarray:
    image.setflags(write=False)
    return image


class RunImages:
    """All images of a run, ordered by (case, seed), with a lookup of their references."""

    def __init__(self, subjects: Sequence[ImageToScore]) -> None:
        self.subjects = sorted(subjects, key=_sort_key)
        self.features = FeatureCache()
        self._places = {_sort_key(subject): p for p, subject in enumerate(self.subjects)}
        self._base: dict[_PairKey, list[int]] = {}  # places, of images that are missing too
        self._floor: dict[_PairKey, list[int]] = {}
        self._made: dict[tuple[str, str], list[int]] = {}
        for place, image in enumerate(subject.image for subject in self.subjects):
            if image.method == "base":
                self._base.setdefault(_pair_key(image), []).append(place)
            elif image.method == "floor":
                self._floor.setdefault(_pair_key(image), []).append(place)
            self._made.setdefault((image.plugin, image.method), []).append(place)

    def images(self) -> Iterator[ScoredImage]:
        """Yield the images that were rendered."""
        return (s.image for s in self.subjects if s.missing is None)

    def enter(self, subjects: Iterable[ImageToScore]) -> list[int]:
        """Replace images of batches that had not ended by what they are now; return the places."""
        places = []
        for subject in subjects:
            places.append(place := self._places[_sort_key(subject)])
            self.subjects[place] = subject
        return sorted(places)

    def base_of(self, image: ScoredImage) -> ScoredImage | None:
        """Return the base model's image of the same plugin, case, seed and plugin scale.

        Without an equal scale (floor has none) the one whose scale is nearest to 1.
        """
        return _at_scale(self._rendered(self._base.get(_pair_key(image))), image.plugin_scale)

    def floor_of(self, image: ScoredImage) -> ScoredImage | None:
        """Return the image of the upgraded model without the plugin, same case and seed."""
        return (self._rendered(self._floor.get(_pair_key(image))) or [None])[-1]

    def has_whole_pair(self, image: ScoredImage) -> bool:
        """Return whether `base_of` and `floor_of` are final: no batch with one of them is open."""
        pair = (*self._base.get(_pair_key(image), ()), *self._floor.get(_pair_key(image), ()))
        return not any(self.subjects[place].is_open for place in pair)

    def made_by(self, method: str, image: ScoredImage) -> list[ScoredImage]:
        """Return a method's images with the same plugin, at the scale nearest to the image's.

        Of the scales that are equally near, the smallest.
        """
        found = self._rendered(self._made.get((image.plugin, method)))
        scales = sorted({1.0 if i.plugin_scale is None else i.plugin_scale for i in found})
        own = 1.0 if image.plugin_scale is None else image.plugin_scale
        scale = min(scales, key=lambda s: abs(s - own), default=None)
        return [i for i in found if (1.0 if i.plugin_scale is None else i.plugin_scale) == scale]

    def style_bank(self, image: ScoredImage) -> list[ScoredImage]:
        """Return base + plugin images of other prompts, which have other noise too."""
        bank = []
        for (plugin, _, _), places in self._base.items():
            if plugin == image.plugin:
                chosen = _at_scale(self._rendered(places), image.plugin_scale)
                bank += [chosen] if chosen and chosen.prompt != image.prompt else []
        return bank

    def _rendered(self, places: Sequence[int] | None) -> list[ScoredImage]:
        """Return those images at the places that were rendered."""
        subjects = (self.subjects[place] for place in places or ())
        return [subject.image for subject in subjects if subject.missing is None]


def _pair_key(image: ScoredImage) -> _PairKey:
    return image.plugin, image.case_id, image.seed


def content_prompts(store: RunStore) -> dict[str, str]:
    """Return case id -> the words that its images show: metrics read them, and they are clusters.

    With `prompt_syntax: weights` a prompt's brackets, weights and BREAK are no words.
    """
    plain = store.manifest().settings.prompt_syntax == "plain"
    cases = store.cases().values()
    return {c.case_id: c.prompt if plain else plain_words(c.prompt) for c in cases}


def read_images(store: RunStore) -> RunImages:
    """Return every trial of a run as an image to score."""
    return RunImages(PlannedImages(store).of_results(store.results()))


class PlannedImages:
    """The trials of a run, from which the images to score are made once they have results."""

    def __init__(self, store: RunStore) -> None:
        manifest, pictures = store.manifest(), Pictures()
        self._known = {plugin_set.id: plugin_set for plugin_set in plugin_sets(manifest)}
        self._build = partial(
            _subject,
            folder=store.folder,
            family=manifest.family,
            sets_by_id=self._known,
            cases=store.cases(),
            pictures=pictures,
            source_size=manifest.settings.base_size,
            prompts=content_prompts(store),
            samples={k: _samples(s, manifest.folder, pictures) for k, s in self._known.items()},
        )
        self._trials = store.trials()
        self._homes: dict[tuple[Any, ...], dict[str, Row]] = {}
        for row in records(self._trials):
            if not row["plugin"]:
                continue
            if not self._known[row["plugin"]].is_remix:
                self._homes.setdefault(_reference_key(row), {})[row["plugin"]] = row
            if row["method"] != "floor":  # a remix has its own
                on_base = _reference_key(row, on_base=True)
                self._homes.setdefault(on_base, {})[row["plugin"]] = row

    def of_results(self, results: pd.DataFrame, *, how: MergeHow = "left") -> list[ImageToScore]:
        """Return the images of all trials, or with `how` "inner" those of trials in the results.

        What has no plugin is there for each plugin that it is a reference of.
        """
        rows = records(self._trials.merge(results, on="trial_id", how=how))
        return [subject for row in rows for subject in self._subjects(row)]

    def _subjects(self, row: Row) -> list[ImageToScore]:
        if row["plugin"]:
            return [self._build(row)]
        key = _reference_key(row, on_base=row["method"] == "base-floor")
        homes = self._homes.get(key, {})
        return [
            self._build({**row, "plugin": plugin, "kind": home["kind"]})
            for plugin, home in homes.items()
        ]


def _reference_key(row: Row, *, on_base: bool = False) -> tuple[Any, ...]:
    """Return what an image and its reference without the plugin, of either side, share."""
    own = (row["clip_skip"] or 1,) if on_base else ()
    return row["case_id"], row["seed"], row["settings"] or "", *own


def _subject(
    row: Row,
    *,
    folder: Path,
    family: str,
    sets_by_id: Mapping[str, PluginSet],
    cases: Mapping[str, Case],
    pictures: Pictures,
    source_size: tuple[int, int],
    prompts: Mapping[str, str],
    samples: Mapping[str, tuple[SamplePicture, ...]],
) -> ImageToScore:
    plugin_set = sets_by_id[row["plugin"]]
    case = cases.get(row["case_id"])
    conditions = {
        detector: partial(pictures.read, folder / path)
        for detector, path in _condition_paths(plugin_set, row["case_id"]).items()
    }
    image = replace(
        blank_image(plugin_set, family),
        trial_id=row["trial_id"],
        image_sha256=row["image_sha256"] or "",
        kind=row["kind"],
        method=row["method"],
        t0=row["t0"],
        plugin_scale=row["plugin_scale"],
        adapter_scale=row["adapter_scale"],
        adapter=row["adapter"],
        case_id=row["case_id"],
        seed=int(row["seed"]),
        prompt=prompts.get(row["case_id"], row["upgraded_prompt"]),
        load_picture=partial(pictures.read, folder / (row["image"] or "")),
        load_condition=next(iter(conditions.values()), None),
        scene=case.scene if case else None,
        conditions=conditions,
        load_source=_source(case, source_size),
        samples=samples[plugin_set.id],
    )
    return ImageToScore(image, _why_missing(row), is_open=row["status"] is None)


def _samples(plugin_set: PluginSet, folder: Path, pictures: Pictures) -> tuple[SamplePicture, ...]:
    """Return the sample pictures of the base side's plugins; the files may be gone."""
    named = (m.plugin.samples for m in plugin_set.members if m.plugin.side == "base")
    paths = (path for name in named if name is not None for path in pictures_in(folder / name))
    return tuple(SamplePicture(file_sha256(path), partial(pictures.read, path)) for path in paths)


def _condition_paths(plugin_set: PluginSet, case_id: str) -> dict[str, str]:
    """Return detector -> condition image of the first plugin (base side first) that uses it."""
    found: dict[str, str] = {}
    for member in sorted(plugin_set.members, key=lambda member: member.plugin.side):
        if (condition := member.plugin.condition) is not None:
            path = condition_name(case_id, condition, side=member.plugin.side)
            found.setdefault(condition, path)
    return found


def _source(case: Case | None, size_px: tuple[int, int]) -> Callable[[], np.ndarray] | None:
    """Return a reader of a case's picture; None without a picture or if its file is gone."""
    if case is None or not case.has_picture:
        return None
    if case.scene is None and not Path(case.image_path or "").is_file():
        return None
    return partial(source_picture, case, size_px)


def _why_missing(row: Row) -> str | None:
    if row["status"] == "ok":
        return None
    if row["status"] is None:
        return "not rendered yet"
    return f"not rendered: {row['error'] or row['status']}"


def _at_scale(found: Sequence[ScoredImage], scale: float | None) -> ScoredImage | None:
    exact = [i for i in found if i.plugin_scale == (1.0 if scale is None else scale)]
    near = sorted(found, key=lambda i: abs((i.plugin_scale or 1.0) - 1.0))
    return (exact or near or [None])[0]


def _sort_key(subject: ImageToScore) -> tuple[Any, ...]:
    image = subject.image
    settings = (image.t0, image.plugin_scale, image.adapter_scale)
    numbers = [-1.0 if value is None else value for value in settings]
    names = (image.plugin, image.method, image.adapter or "")
    return (image.case_id, image.seed, *names, *numbers, image.trial_id)
