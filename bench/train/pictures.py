"""Training data of captioned pictures: buckets, encoding, and what is kept of it.

A batch is a pure function of (seed, step): which bucket, and which of its pictures. One that turns
out to be damaged is replaced by the next of its bucket, so that every process and every resumed run
has the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image

from bench.errors import UserError, shown_path
from bench.train.buckets import Bucket, BucketOrder, buckets_for, nearest_bucket, step_px
from bench.train.latents import (
    CAPTIONS_AT_ONCE,
    PHOTOS_PER_SHARD,
    Encoded,
    Encoder,
    LatentCache,
    cut_to,
    key_of,
)
from bench.train.models import Models
from bench.train.schema import PicturesData, Recipe
from bench.train.sources.entry import Source, reason_of
from bench.train.sources.open import cache_folder
from bench.train.survey import (
    SKIPPED_FILE,
    Skipped,
    Survey,
    Surveyed,
    count_reasons,
    write_skipped,
)
from plugins_manifest.images import decode_image
from plugins_manifest.progress import Progress
from plugins_manifest.text import first_line
from xadapter.data import TrainBatch, UpgradedText, indices_at
from xadapter.processes import Processes
from xadapter.vae import pixels_per_latent

_N_DECODERS, _N_AHEAD = 4, 16
Note = Callable[[str], None]


class PicturePairs:
    """`TrainingData` of a survey's photos. Close it, or use `with`."""

    def __init__(
        self,
        source: Source,
        survey: Survey,
        encoder: Encoder,
        *,
        buckets: Sequence[Bucket],
        cache: LatentCache | None,
        seed: int,
    ) -> None:
        self._source, self._photos, self._encoder = source, survey.photos, encoder
        self._cache, self._seed = cache, seed
        chosen = [nearest_bucket(photo.width, photo.height, buckets) for photo in self._photos]
        used = sorted(set(chosen))
        self._buckets = [buckets[b] for b in used]
        self._bucket_of = [used.index(b) for b in chosen]
        self._members = [[i for i, b in enumerate(chosen) if b == bucket] for bucket in used]
        self._keys = [
            key_of(photo.sha256, photo.entry.caption, self._buckets[bucket])
            for photo, bucket in zip(self._photos, self._bucket_of, strict=True)
        ]
        self._broken: dict[int, Skipped] = {}
        self._good: set[int] = set()
        self._n_reported = 0
        self._orders: dict[int, BucketOrder] = {}
        self._pool = ThreadPoolExecutor(_N_DECODERS)
        self._ahead: dict[int, Future[Encoded | Image.Image]] = {}
        self._mark_known()

    def __enter__(self) -> PicturePairs:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    # --- which pictures

    def batch_at(self, step: int, rows: range, n_images: int) -> TrainBatch:
        """Return the pictures `rows` of a step of `n_images` pictures, all of one bucket."""
        batch = self._batch(self._pictures_of(step, rows, n_images))
        for index in self._known(self._chosen(step + 1, rows, n_images)):
            self._load_ahead(index)  # while this step computes
        return batch

    def sample(self, n_images: int, generator: torch.Generator) -> TrainBatch:
        """Return random pictures of the largest bucket, some more than once if it has too few."""
        members = self._members[self._alive(max(range(len(self._members)), key=self._count))]
        order = torch.randperm(len(members), generator=generator).tolist()
        return self._batch([self._usable(members[order[i % len(order)]]) for i in range(n_images)])

    def _count(self, bucket: int) -> int:
        return len(self._members[bucket])

    def _pictures_of(self, step: int, rows: range, n_images: int) -> list[int]:
        return [self._usable(index) for index in self._chosen(step, rows, n_images)]

    def _chosen(self, step: int, rows: range, n_images: int) -> list[int]:
        """Return the pictures of a step before damaged ones are replaced."""
        if n_images not in self._orders:
            counts = [len(members) for members in self._members]
            self._orders[n_images] = BucketOrder(counts, n_images, self._seed)
        bucket, turn = self._orders[n_images].at(step)
        members = self._members[self._alive(bucket)]
        first = turn * n_images
        positions = range(first + rows.start, first + rows.stop)
        # every bucket has a shuffle of its own
        seed = self._seed + 1_000_003 * bucket
        return [members[i] for i in indices_at(positions, len(members), seed=seed).tolist()]

    def _usable(self, index: int) -> int:
        """Return a picture, or the next of its bucket that can be decoded."""
        members = self._members[self._bucket_of[index]]
        place = members.index(index) if self._is_broken(index) else 0
        while self._is_broken(index):
            place += 1
            index = members[place % len(members)]
        return index

    def _alive(self, bucket: int) -> int:
        """Return a bucket, or the next one in which any picture can be decoded."""
        for n in range(len(self._members)):
            here = (bucket + n) % len(self._members)
            if any(not self._is_broken(index) for index in self._members[here]):
                return here
        found = "; ".join(count_reasons(list(self._broken.values())))
        raise UserError(f"no picture of {self._source.title} can be used: {found}")

    def _is_broken(self, index: int) -> bool:
        """Return whether a picture cannot be decoded; decode it if that is not known."""
        if index in self._broken or index in self._good:
            return index in self._broken
        if self._cache is not None and self._keys[index] in self._cache:
            return False
        self._load_ahead(index)
        try:
            self._ahead[index].result()
        except (UserError, OSError) as error:
            del self._ahead[index]
            self._mark(index, error)
            return True
        self._good.add(index)
        return False

    def _mark(self, index: int, error: Exception) -> None:
        name, why = self._photos[index].entry.name, first_line(error)
        self._broken[index] = Skipped(name, reason_of(error), why)
        if self._cache is not None:
            self._cache.mark_broken(self._keys[index], f"{reason_of(error)}\t{why}")

    def _mark_known(self) -> None:
        """Mark what an earlier training or another process could not decode."""
        known = {} if self._cache is None else self._cache.broken
        for index, key in enumerate(self._keys if known else ()):
            if key in known and index not in self._broken:
                reason, _, why = known[key].partition("\t")
                self._broken[index] = Skipped(self._photos[index].entry.name, reason, why)  # type: ignore[arg-type]

    # --- their tensors

    def _batch(self, indices: Sequence[int]) -> TrainBatch:
        rows = self._rows(indices)
        found = {name: torch.stack([row[name] for row in rows]).float() for name in rows[0]}
        text = None
        if "hidden" in found:
            text = UpgradedText(found["hidden"], found.get("pooled"))
        width, height = self._buckets[self._bucket_of[indices[0]]]
        ids = None
        if self._encoder.has_time_ids:  # as sampling gives them: a picture of that size, not cut
            ids = torch.tensor([[height, width, 0, 0, height, width]]).float()
            ids = ids.expand(len(indices), -1)
        return TrainBatch(found["base"], found["upgraded"], found["text"], text, time_ids=ids)

    def _rows(self, indices: Sequence[int]) -> list[Encoded]:
        """Return the tensors of pictures of one size; keep those that are new."""
        distinct = list(dict.fromkeys(indices))
        rows = dict(zip(distinct, self._made(distinct), strict=True))
        if self._cache is not None:
            new = {key: rows[i] for i in distinct if (key := self._keys[i]) not in self._cache}
            if new:
                self._cache.write(new)
        return [rows[index] for index in indices]

    def _made(self, indices: Sequence[int]) -> list[Encoded]:
        """Return the tensors of pictures, read or encoded."""
        for index in indices:
            self._load_ahead(index)
        found = {index: self._ahead.pop(index).result() for index in indices}
        cut = {i: picture for i, picture in found.items() if isinstance(picture, Image.Image)}
        captions = [self._photos[index].entry.caption for index in cut]
        new = self._encoder.encode(list(zip(cut.values(), captions, strict=True)))
        rows = {i: row for i, row in found.items() if not isinstance(row, Image.Image)}
        rows |= dict(zip(cut, new, strict=True))
        return [rows[index] for index in indices]

    def _load_ahead(self, index: int) -> None:
        if index not in self._ahead:
            self._ahead[index] = self._pool.submit(self._load, index)

    def _load(self, index: int) -> Encoded | Image.Image:
        """Return what is kept of a picture, or the picture, cut to its bucket."""
        if self._cache is not None and self._keys[index] in self._cache:
            return self._cache.read(self._keys[index])
        entry = self._photos[index].entry
        pixels = decode_image(self._source.content(entry), name=entry.name)
        return cut_to(pixels, self._buckets[self._bucket_of[index]])

    # --- all at once

    def fill(self, n_steps: int, n_images: int, processes: Processes, note: Note) -> None:
        """Encode every picture that the steps take, each process a part, and keep it.

        What is kept already is not encoded again. Raises `UserError` if the disk has no room.
        """
        assert self._cache is not None, "without it, pictures are encoded when they are needed"
        is_first = True
        while missing := self._missing(n_steps, n_images):
            n_bytes = sum(self._encoder.n_bytes(self._size(index)) for index in missing)
            if processes.is_main and is_first:
                place, size = shown_path(self._cache.folder), n_bytes / 2**20
                note(f"encoding {len(missing):,} pictures into {size:,.3g} MiB in {place}")
            self._cache.need_room(n_bytes)
            n_each = -(-len(missing) // processes.count)
            start = processes.rank * n_each
            self._encode(missing[start : start + n_each])
            processes.add([torch.zeros(1, device=processes.device)])  # all are done
            self._cache.refresh()
            self._mark_known()
            is_first = False

    def _size(self, index: int) -> Bucket:
        return self._buckets[self._bucket_of[index]]

    def _missing(self, n_steps: int, n_images: int) -> list[int]:
        """Return the pictures of all steps that are not kept, in the source's order."""
        assert self._cache is not None
        wanted: set[int] = set()
        for step in range(n_steps):
            if len(wanted) == len(self._photos):
                break
            wanted.update(self._known(self._chosen(step, range(n_images), n_images)))
        return sorted(i for i in wanted if self._keys[i] not in self._cache)

    def _known(self, indices: Sequence[int]) -> Iterator[int]:
        """Yield pictures, with those known to be damaged replaced, without decoding any."""
        for index in indices:
            if index not in self._broken:
                yield index
                continue
            members = self._members[self._bucket_of[index]]
            place = members.index(index)
            later = (*members[place:], *members[:place])
            yield next(other for other in later if other not in self._broken)

    def _encode(self, indices: Sequence[int]) -> None:
        """Encode pictures and write them in shards of one size."""
        done: list[dict[bytes, Encoded]] = [{} for _ in self._buckets]
        with Progress("encoding pictures", unit="picture", total=len(indices)) as bar:
            try:
                for first in range(0, len(indices), CAPTIONS_AT_ONCE):
                    part = indices[first : first + CAPTIONS_AT_ONCE]
                    for index in indices[first : first + CAPTIONS_AT_ONCE + _N_AHEAD]:
                        self._load_ahead(index)
                    good = [index for index in part if not self._is_broken(index)]
                    for index, row in zip(good, self._made(good), strict=True):
                        done[self._bucket_of[index]][self._keys[index]] = row
                    self._write(done, PHOTOS_PER_SHARD)
                    bar.update(len(part))
            except KeyboardInterrupt:
                self._write(done, 1)
                raise
            finally:
                self._ahead.clear()
        self._write(done, 1)

    def _write(self, done: Sequence[dict[bytes, Encoded]], least: int) -> None:
        """Write the pictures of each size of which there are enough."""
        assert self._cache is not None, "filled only with one"
        for rows in done:
            if len(rows) >= least:
                self._cache.write(rows)
                rows.clear()

    # --- what was left out

    def report(self, survey: Survey, folder: Path, note: Note) -> None:
        """Note how many pictures are used and which are not; list the latter in a file."""
        self._n_reported = len(self._broken)
        skipped = (*survey.skipped, *self._broken.values())
        n_used = len(self._photos) - len(self._broken)
        sizes = ", ".join(f"{w} x {h}" for w, h in self._buckets)
        note(f"{self._source.title}: {n_used:,} pictures of {sizes} px")
        if skipped:
            path = folder / SKIPPED_FILE
            write_skipped(path, skipped)
            note(f"{len(skipped):,} left out, all in {shown_path(path)}:")
            note("\n".join(f"  {line}" for line in count_reasons(skipped)))

    @property
    def has_news(self) -> bool:
        """Whether pictures turned out to be damaged since the last report."""
        return len(self._broken) > self._n_reported


@contextmanager
def opened_pictures(
    recipe: Recipe,
    models: Models,
    folder: Path,
    *,
    surveyed: Surveyed,
    processes: Processes,
    n_steps: int,
    note: Note,
) -> Iterator[PicturePairs]:
    """Open the pictures of a recipe, encode and keep those of the first `n_steps`."""
    spec = recipe.data
    assert isinstance(spec, PicturesData), "a source of pictures"
    source, survey = surveyed
    encoder = Encoder(models, has_upgraded_text=recipe.objective.upgraded_text == "prompt")
    cache = None
    if spec.cache:
        weights = encoder.weights_sha256()
        cache = LatentCache(cache_folder(recipe, folder) / f"latents-{weights[:16]}")
        if processes.is_main:
            cache.sweep()
    buckets = buckets_for(recipe.size, bucket_step(models))
    with PicturePairs(
        source, survey, encoder, buckets=buckets, cache=cache, seed=recipe.seed
    ) as pairs:
        if cache is not None:
            pairs.fill(n_steps, recipe.optimizer.batch, processes, note)
        if processes.is_main:
            pairs.report(survey, folder, note)
        yield pairs
        if processes.is_main and pairs.has_news:
            pairs.report(survey, folder, note)


def bucket_step(models: Models) -> int:
    """Return what the sides of an upgraded picture are multiples of, in px.

    The base model's latents have half the side, and both divide evenly down to the upgraded model's
    lowest level: features of both then have sides of 1 to 2 wherever the mapper reads them.
    """
    levels = len(models.upgraded_unet.config["block_out_channels"])
    return step_px(levels, pixels_per_latent(models.family.upgraded.vae))
