"""What metrics have in common that compare one network's features by their cosine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from metrics.base import References, Score, ScoredImage, expect
from metrics.encoders import RowSource
from metrics.features import HashedPicture, unit


class OneEncoder:
    """Mixin of a metric whose only network is its field `encoder`."""

    encoder: RowSource

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that it takes from pictures."""
        return (self.encoder,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.encoder.needs

    def selftest(self) -> None:
        """Raise SelfTestError unless rows repeat exactly and differ between two pictures."""
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
        flat = np.full_like(noise, 128)
        rows = unit(self.encoder.encode([noise, flat, noise]))
        same, other = float(rows[0] @ rows[2]), float(rows[0] @ rows[1])
        expect(np.array_equal(rows[0], rows[2]), "the same picture gives other features")
        expect(other < same, f"cosine {same:.6f} to itself, {other:.6f} to another picture")


def bank_cosines(
    encoder: RowSource,
    images: Sequence[ScoredImage],
    references: References,
    *,
    bank_of: Callable[[ScoredImage], Sequence[HashedPicture]],
    key_of: Callable[[ScoredImage], Hashable],
    without: str,
) -> list[Score]:
    """Return each image's mean cosine, -1..1, to its bank of pictures.

    Images of one key have one bank, which is encoded once; one that is empty gives no value, for
    the reason `without`.
    """
    encoder.rows(images, references)  # in batches; below they are taken one by one
    centers: dict[Hashable, np.ndarray | None] = {}
    scores = []
    for image in images:
        key = key_of(image)
        if key not in centers:
            bank = bank_of(image)
            centers[key] = unit(encoder.rows(bank, references)).mean(axis=0) if bank else None
        center = centers[key]
        if center is None:
            scores.append(Score(None, without))
        else:
            own = unit(encoder.rows([image], references))[0]
            scores.append(Score(float(own @ center)))
    return scores
