"""Training pictures of the pocket world, drawn and encoded when they are first needed.

A picture depends on its index alone and is encoded alone, so it is the same whoever makes it and
when. What was made is kept in files of a few hundred pictures.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.train.models import Models
from plugins_manifest.progress import Progress
from pocket.cached import read_arrays, write_arrays
from pocket.data import UPGRADED_SET, SetRecipe, caption_at, draw_at
from pocket.scenes import downscale
from pocket.train_vae import encode
from xadapter.data import TrainBatch, UpgradedText

_PICTURES_PER_FILE = 256
_INDEX = "index"
Picture = dict[str, Tensor]


@contextmanager
def opened_pocket(
    models: Models, folder: Path, *, n_images: int, weights: str, has_upgraded_text: bool
) -> Iterator[PocketPairs]:
    """Open the pictures kept in `folder` for models with the hash `weights`; keep new ones."""
    text = "-texts" if has_upgraded_text else ""
    # captions name the styles, so that the base model's features separate them at any noise
    recipe = replace(UPGRADED_SET, n_images=n_images, size_px=models.size_px, style_words=1.0)
    place = folder / f"pairs-{recipe.size_px}px-{weights[:16]}{text}"
    pairs = PocketPairs(models, place, recipe, has_upgraded_text=has_upgraded_text)
    try:
        yield pairs
    finally:
        pairs.keep()


class PocketPairs:
    """A `LatentDataset` of scenes; see `opened_pocket`."""

    def __init__(
        self, models: Models, folder: Path, recipe: SetRecipe, *, has_upgraded_text: bool
    ) -> None:
        self._models, self._folder, self._recipe = models, folder, recipe
        self._has_upgraded_text = has_upgraded_text
        family = models.family
        self._vaes = {"base": _exact(family.base.vae), "upgraded": _exact(family.upgraded.vae)}
        self._pictures: dict[int, Picture] = {}
        self._new: list[int] = []
        for path in sorted(folder.glob("*.safetensors")):
            if (arrays := read_arrays(path)) is not None:
                self._remember(arrays)

    def __len__(self) -> int:
        return self._recipe.n_images

    def batch(self, indices: Tensor) -> TrainBatch:
        """Return the pictures at `indices` [b]; draw and encode those that are new."""
        wanted = indices.tolist()
        missing = [i for i in dict.fromkeys(wanted) if i not in self._pictures]
        if missing:
            with Progress("drawing and encoding", unit="picture", total=len(missing)) as bar:
                for index in missing:
                    self._pictures[index] = self._made(index)
                    bar.update()
            self._new += missing
            if len(self._new) >= _PICTURES_PER_FILE:
                self.keep()
        rows = [self._pictures[i] for i in wanted]
        found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        text = None
        if self._has_upgraded_text:
            text = UpgradedText(found["hidden"], found.get("pooled"), found.get("time_ids"))
        return TrainBatch(found["base"], found["upgraded"], found["text"], text)

    def keep(self) -> None:
        """Write the new pictures into a file."""
        if not self._new:
            return
        indices = np.array(self._new)
        rows = [self._pictures[i] for i in self._new]
        arrays = {name: torch.stack([row[name] for row in rows]).numpy() for name in rows[0]}
        name = hashlib.sha256(indices.tobytes()).hexdigest()[:16]
        write_arrays(self._folder / f"{name}.safetensors", {**arrays, _INDEX: indices})
        self._new.clear()

    def _remember(self, arrays: Any) -> None:
        columns = {n: torch.from_numpy(a) for n, a in arrays.items() if n != _INDEX}
        for row, index in enumerate(arrays[_INDEX].tolist()):
            self._pictures[index] = {name: column[row] for name, column in columns.items()}

    @torch.no_grad()
    def _made(self, index: int) -> Picture:
        image, caption = draw_at(self._recipe, index), caption_at(self._recipe, index)
        small = downscale(image, self._recipe.size_px // 2)
        made = {
            "base": encode(self._vaes["base"], small[None])[0],
            "upgraded": encode(self._vaes["upgraded"], image[None])[0],
            "text": self._models.base_text([caption])[0],
        }
        if self._has_upgraded_text:
            text = self._models.upgraded_text([caption])
            made["hidden"] = text.hidden[0]
            if text.pooled is not None and text.time_ids is not None:
                made |= {"pooled": text.pooled[0], "time_ids": text.time_ids[0]}
        return made


def _exact(vae: Any) -> Any:
    """Return a VAE in float32 on the CPU."""
    if vae.dtype == torch.float32 and vae.device.type == "cpu":
        return vae
    return copy.deepcopy(vae).to("cpu").float()
