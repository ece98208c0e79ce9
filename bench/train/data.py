"""Sources of training data by their names in recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.errors import UserError, shown_path
from bench.train.models import Models, fingerprint
from bench.train.pictures import Note, opened_pictures
from bench.train.schema import LatentsData, PicturesData, PocketData, Recipe
from bench.train.survey import Surveyed, survey_of
from plugins_manifest.text import first_line
from xadapter.data import LatentDataset, TrainBatch, TrainingData, UpgradedText, generator_for
from xadapter.processes import Processes

_NEEDED = ("base_latents", "upgraded_latents", "base_text")
_TEXTS = ("upgraded_hidden", "upgraded_pooled", "upgraded_time_ids")
_RANDOM_STREAM = 3


@contextmanager
def opened_data(
    recipe: Recipe,
    models: Models,
    folder: Path,
    *,
    processes: Processes | None = None,
    surveyed: Surveyed | None = None,
    n_steps: int = 0,
    note: Note = lambda text: None,
) -> Iterator[LatentDataset | TrainingData]:
    """Open the data of a recipe; what is drawn or encoded is kept in `folder`.

    Pictures of the first `n_steps` are encoded at once, by all processes; `note` gets lines about
    the data for the user.
    """
    spec, has_text = recipe.data, recipe.objective.upgraded_text == "prompt"
    if isinstance(spec, PocketData):
        from bench.train.pocket_data import opened_pocket

        weights = "".join(sha256[:8] for sha256 in fingerprint(recipe).values())
        with opened_pocket(
            models,
            folder,
            n_images=spec.n_images,
            weights=weights,
            has_upgraded_text=has_text,
        ) as pairs:
            yield pairs
    elif isinstance(spec, PicturesData):
        processes = processes or Processes()
        with opened_pictures(
            recipe,
            models,
            folder,
            surveyed=surveyed or survey_of(recipe, folder),
            processes=processes,
            n_steps=n_steps,
            note=note,
        ) as pictures:
            yield pictures
    elif isinstance(spec, LatentsData):
        files = EncodedFiles(Path(spec.path), has_upgraded_text=has_text, most=spec.n_images)
        _require_fit(files, models)
        yield files
    else:
        yield RandomPairs(models, recipe.seed)


def n_images_of(recipe: Recipe) -> int:
    """Return the number of images of a recipe's data, of a source that needs no survey."""
    spec = recipe.data
    if isinstance(spec, LatentsData) and spec.n_images is None:
        return len(EncodedFiles(Path(spec.path), has_upgraded_text=False))
    return spec.n_images or 0


@dataclass(frozen=True)
class EncodedFiles:
    """A `LatentDataset` of safetensors files with encoded images, in the order of their names.

    Each has `base_latents` and `upgraded_latents` [n, c, h, w], scaled, `base_text` [n, l, d] and,
    for training with prompts, `upgraded_hidden` [n, l, d], `upgraded_pooled` [n, p] and
    `upgraded_time_ids` [n, 6]. All images have one size. Rows are read when they are needed. Only
    the first `most` images are used; `UserError` if there are fewer.
    """

    folder: Path
    has_upgraded_text: bool
    most: int | None = None

    @cached_property
    def _starts(self) -> list[tuple[int, Path]]:
        """The number of images before and including each file."""
        total, found = 0, []
        for path in sorted(self.folder.glob("*.safetensors")):
            total += _rows_in(path)
            found.append((total, path))
        if not total:
            raise UserError(
                f"data.path: there are no encoded images in {shown_path(self.folder)}: "
                "docs/train.md describes the files"
            )
        if self.most is not None and self.most > total:
            raise UserError(
                f"data.n_images: {shown_path(self.folder)} has {total:,} encoded images, the "
                f"recipe names {self.most:,}: set data.n_images={total}"
            )
        return found

    def __len__(self) -> int:
        return self.most or self._starts[-1][0]

    def batch(self, indices: Tensor) -> TrainBatch:
        """Return the images at `indices` [b]."""
        rows = [self._row(i) for i in indices.tolist()]
        found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        text = None
        if self.has_upgraded_text and "upgraded_hidden" in found:
            text = UpgradedText(*(found.get(name) for name in _TEXTS))  # type: ignore[arg-type]
        return TrainBatch(*(found[name].float() for name in _NEEDED), upgraded_text=text)

    def _row(self, index: int) -> Mapping[str, Tensor]:
        before = 0
        for total, path in self._starts:
            if index < total:
                with safe_open(path, framework="pt") as file:
                    names = [name for name in (*_NEEDED, *_TEXTS) if name in file.keys()]  # noqa: SIM118
                    return {name: file.get_slice(name)[index - before] for name in names}
            before = total
        raise IndexError(index)


def _rows_in(path: Path) -> int:
    """Return the number of images of a file; `UserError` for one of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            sizes = {file.get_slice(name).get_shape()[0] for name in _NEEDED}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{shown_path(path)} contains no encoded images ({first_line(error)}): it needs "
            f"{', '.join(_NEEDED)}"
        ) from error
    if len(sizes) != 1:
        raise UserError(f"the tensors in {shown_path(path)} differ in length: write it again")
    return sizes.pop()


def _require_fit(files: EncodedFiles, models: Models) -> None:
    """Raise `UserError` where the first image is not of the models' shapes."""
    first, shapes = files.batch(torch.tensor([0])), _latent_shapes(models)
    expected = (*shapes, models.base_unet.config.cross_attention_dim)
    latents = tuple(first.base_latents.shape[1:]), tuple(first.upgraded_latents.shape[1:])
    found = (*latents, first.base_text.shape[-1])
    if found != expected:
        raise UserError(
            f"the encoded images in {shown_path(files.folder)} have base and upgraded latents and "
            f"a text width of {found}, the recipe's models and size need {expected}: encode them "
            "again, or correct size"
        )


def _latent_shapes(models: Models) -> list[tuple[int, int, int]]:
    """Return channels, height and width of the latents of base and upgraded model."""
    sides = (models.size_px // 2, models.size_px)
    pipes: tuple[Any, Any] = (models.family.base, models.family.upgraded)
    return [
        (pipe.unet.config.in_channels, side // factor, side // factor)
        for pipe, side in zip(pipes, sides, strict=True)
        for factor in [2 ** (len(pipe.vae.config.block_out_channels) - 1)]
    ]


class RandomPairs:
    """`TrainingData` of random numbers in the shapes of two models."""

    def __init__(self, models: Models, seed: int) -> None:
        self._seed, self._latents = seed, _latent_shapes(models)
        self._text, self._upgraded_text = models.base_text([""]), models.upgraded_text([""])

    def batch_at(self, step: int, rows: range, n_images: int) -> TrainBatch:
        """Return random images."""
        generator = generator_for(self._seed, _RANDOM_STREAM, step * n_images + rows.start)
        return self.sample(len(rows), generator)

    def sample(self, n_images: int, generator: torch.Generator) -> TrainBatch:
        """Return random images."""
        base, upgraded = (
            torch.randn((n_images, *shape), generator=generator) for shape in self._latents
        )
        text = self._text.expand(n_images, -1, -1)
        return TrainBatch(base, upgraded, text, self._upgraded_text)
