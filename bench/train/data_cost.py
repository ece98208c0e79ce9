"""What the pictures of a recipe come to before anything is encoded: counts, buckets, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.train.buckets import Bucket, buckets_for, nearest_bucket, step_px
from bench.train.data import n_images_of
from bench.train.latents import free_bytes
from bench.train.schema import HubData, ParquetData, PicturesData, Recipe
from bench.train.sources.links import find_links
from bench.train.sources.open import (
    NotHereError,
    cache_folder,
    min_side_of,
    open_source,
    open_tables,
)
from bench.train.survey import Photo, Survey, count_reasons, survey_pictures

_LATENT_PX, _LATENT_CHANNELS, _HALF_BYTES = 8, 4, 2
_LEVELS = 3  # of an upgraded UNet that is not known here


@dataclass(frozen=True)
class TextSize:
    """Tokens and widths of both sides' texts; `pooled` is 0 where there is none."""

    n_tokens: int
    base_width: int
    upgraded_width: int
    pooled: int


@dataclass(frozen=True)
class DataCost:
    """The images that epochs are counted by, and facts about pictures for `--json`."""

    n_images: int
    facts: Mapping[str, Any] | None = None


def count_data(recipe: Recipe, out: Path) -> DataCost:
    """Count a recipe's images; pictures are surveyed, nothing is downloaded or written.

    Raises `UserError` if epochs cannot be counted yet.
    """
    spec = recipe.data
    if not isinstance(spec, PicturesData):
        return DataCost(n_images_of(recipe))
    try:
        source = open_source(recipe, None)
    except NotHereError as error:
        return _not_here(recipe, error)
    survey = survey_pictures(
        source,
        spec,
        min_side=min_side_of(recipe),
        folder=out / "data",
        is_written=False,
    )
    return DataCost(len(survey.photos), _facts(survey, source.title))


def _facts(survey: Survey, title: str) -> dict[str, Any]:
    skipped = Counter(one.reason for one in survey.skipped)
    return {
        "from": title,
        "usable": len(survey.photos),
        "left_out": dict(skipped),
        "left_out_named": count_reasons(survey.skipped),
        "photos": survey.photos,
    }


def _not_here(recipe: Recipe, error: NotHereError) -> DataCost:
    """Count what a download, or the tables that are missing, will bring at most."""
    spec = recipe.data
    assert isinstance(spec, PicturesData), "checked by the caller"
    n_images = spec.n_images
    if isinstance(spec, ParquetData) and not Path(spec.path).exists():
        if n_images is None:
            raise error
    elif not isinstance(spec, HubData):
        links = find_links(open_tables(spec), min_side=min_side_of(recipe))
        n_images = sum(1 for _ in islice(links, n_images))
    if n_images is None and recipe.schedule.steps is None:
        raise UserError(f"{error}: set data.n_images or schedule.steps, to count epochs before")
    facts = None if n_images is None else {"from": str(error), "links": n_images}
    return DataCost(n_images or 0, facts)


def shown_facts(
    cost: DataCost, recipe: Recipe, *, steps: int, text: TextSize | None, n_levels: int | None
) -> dict[str, Any] | None:
    """Return the facts with buckets and the size of the encoded pictures that the steps take."""
    if cost.facts is None:
        return None
    facts = dict(cost.facts)
    if "links" in facts:  # sizes are known after the download: as if all were square
        counts = Counter({(recipe.size, recipe.size): facts["links"]})
    else:
        photos: Sequence[Photo] = facts.pop("photos")
        buckets = buckets_for(recipe.size, step_px(n_levels or _LEVELS, _LATENT_PX))
        counts = Counter(buckets[nearest_bucket(p.width, p.height, buckets)] for p in photos)
        facts["buckets"] = {f"{w} x {h}": n for (w, h), n in counts.most_common()}
    facts["encoded_gib"] = None
    if text is not None and getattr(recipe.data, "cache", False):
        has_text = recipe.objective.upgraded_text == "prompt"
        n_bytes = sum(_n_bytes(b, text, has_text=has_text) * n for b, n in counts.items())
        share = min(1.0, steps * recipe.optimizer.batch / max(1, counts.total()))
        facts["encoded_gib"] = n_bytes * share / 2**30
    return facts


def _n_bytes(bucket: Bucket, text: TextSize, *, has_text: bool) -> int:
    """Return the bytes of an encoded picture with its text."""
    area = (bucket[0] // _LATENT_PX) * (bucket[1] // _LATENT_PX)
    numbers = _LATENT_CHANNELS * (area + area // 4) + text.n_tokens * text.base_width
    if has_text:
        numbers += text.n_tokens * text.upgraded_width + text.pooled
    return numbers * _HALF_BYTES


def data_lines(facts: Mapping[str, Any], recipe: Recipe, out: Path) -> Iterator[str]:
    """Yield what the pictures come to, for people."""
    if "links" in facts:
        yield f"data    {facts['links']:,} links or pictures at most: {facts['from']}"
        yield "        files of downloaded pictures take room of their own"
    else:
        buckets = ", ".join(f"{n:,} of {size}" for size, n in facts["buckets"].items())
        yield f"data    {facts['usable']:,} pictures in {facts['from']}: {buckets} px"
        for line in facts["left_out_named"]:
            yield f"        left out: {line}"
    if facts["encoded_gib"] is not None:
        free = free_bytes(cache_folder(recipe, out)) / 2**30
        size = facts["encoded_gib"]
        shown = f"{size * 1024:,.3g} MiB" if size < 1 else f"{size:,.1f} GiB"
        yield f"encoded {shown}, once; {free:,.1f} GiB are free there"
