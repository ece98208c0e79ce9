"""Text alignment: the raw cosine of image and prompt (Hessel et al., arXiv 2104.08718, eq. 1).

Stored without the factor 2.5 and without clipping at 0; both follow from it. No prefix. A prompt
over the context length is cut and keeps its end token.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from PIL import Image

from metrics.base import Better, MetricUnavailableError, References, Score, ScoredImage, expect
from metrics.features import unit
from metrics.pocket_scorer import (
    NEEDS,
    HashSource,
    ScorerSource,
    encoder_name,
    shipped_scorer,
    shipped_sha256,
)

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from torch import Tensor

WEIGHTS_VARIABLE = "XBENCH_CLIP_WEIGHTS"
_TEXT = "raw cosine to the content prompt, no prefix, long prompts cut with their end token kept"


@dataclass(frozen=True)
class PocketClip:
    """Cosine of picture and content prompt in the pocket scorer's space."""

    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    name: str = "pocket-clip"
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = NEEDS

    def recipe(self) -> str:
        """Scorer and text."""
        return f"{_TEXT}; {encoder_name(self.scorer_sha256())} at 128 px"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a prompt."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One cosine for each image, -1..1."""
        scorer, encoder = self.scorer(), encoder_name(self.scorer_sha256())
        cache = references.features
        pictures = cache.of_images(images, encoder=encoder, encode=scorer.features)
        prompts = cache.of_texts(
            [image.prompt for image in images], encoder=encoder, encode=scorer.encode_texts
        )
        return cosines(pictures, prompts)

    def selftest(self) -> None:
        """A drawn scene is nearer to its own caption than to another scene's."""
        from pocket.scenes import caption, render, scene_at

        scorer, scenes = self.scorer(), [scene_at(9, i) for i in range(8)]
        pictures = scorer.encode_images([render(s, "shaded", 128) for s in scenes])
        table = pictures @ scorer.encode_texts([caption(s) for s in scenes]).T
        own = float(np.diag(table).mean())
        expect(own > table.mean(), "captions do not match their pictures better than others")


@dataclass(frozen=True)
class ClipScore:
    """Cosine of picture and content prompt by an open_clip model (CLIP score)."""

    model: str = "ViT-L-14-quickgelu"
    weights: Path | None = None
    name: str = "clip-score"
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights, by open_clip's name."""
        return (f"open_clip weights for {self.model} (e.g. openai)",)

    def recipe(self) -> str:
        """Model, weights and text."""
        return f"{_TEXT}; open_clip {self.model}, weights {_file_sha256(self._path())}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a prompt."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One cosine for each image, -1..1."""
        encoder = _load_open_clip(self.model, self._path())
        name, cache = f"open_clip {self.model} {_file_sha256(self._path())}", references.features
        pictures = cache.of_images(images, encoder=name, encode=encoder.encode_images)
        prompts = cache.of_texts(
            [image.prompt for image in images], encoder=name, encode=encoder.encode_texts
        )
        return cosines(pictures, prompts)

    def selftest(self) -> None:
        """The model loads, and an image's embedding does not depend on its batch."""
        encoder = _load_open_clip(self.model, self._path())
        images = [np.full((80, 64, 3), level, np.uint8) for level in (10, 200)]
        together, alone = encoder.encode_images(images), encoder.encode_images(images[1:])
        equal = np.allclose(together[1], alone[0], atol=1e-3)
        expect(equal, "embeddings depend on the batch")

    def _path(self) -> Path:
        path = self.weights or Path(os.environ.get(WEIGHTS_VARIABLE, ""))
        if path.is_file():
            return path
        given = f"there is no file {str(path)!r}" if str(path) != "." else "none were given"
        raise MetricUnavailableError(
            f"clip-score wants open_clip weights for {self.model} (e.g. openai), but {given}: "
            f"set {WEIGHTS_VARIABLE} to a checkpoint file"
        )


def cosines(pictures: np.ndarray, prompts: np.ndarray) -> list[Score]:
    """Row-wise cosine of two N x D arrays."""
    return [Score(float(c)) for c in (unit(pictures) * unit(prompts)).sum(axis=-1)]


@dataclass(frozen=True)
class _OpenClip:
    model: CLIP
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]

    def encode_images(self, images: list[np.ndarray]) -> np.ndarray:
        import torch

        batch = torch.stack([self.preprocess(Image.fromarray(image)) for image in images])
        with torch.inference_mode():
            return self.model.encode_image(batch).float().numpy()

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.model.encode_text(self.tokenizer(texts)).float().numpy()


@cache
def _load_open_clip(model: str, path: Path) -> _OpenClip:
    import open_clip

    network, _, preprocess = open_clip.create_model_and_transforms(model, pretrained=str(path))
    network = cast("CLIP", network.eval().requires_grad_(False))
    tokenizer = open_clip.get_tokenizer(model)
    return _OpenClip(network, cast("Callable[[Image.Image], Tensor]", preprocess), tokenizer)


@cache
def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]
