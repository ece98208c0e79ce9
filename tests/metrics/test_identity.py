"""Identity: cosines to the plugin's own samples, on one scale for all methods."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.base import SamplePicture
from metrics.features import unit
from metrics.identity import CLIP_I, POCKET_IDENTITY
from metrics.pocket_scorer import PocketEncoder
from tests.metrics.pictures import NoReferences, drawn, image_of, random_scorer, random_sha256

METRIC = replace(POCKET_IDENTITY, encoder=PocketEncoder(random_scorer, random_sha256))


def sample(index: int) -> SamplePicture:
    return SamplePicture(f"sample {index}", lambda: drawn(index, "outline"))


def test_it_is_the_mean_cosine_to_the_samples() -> None:
    samples = (sample(1), sample(2))
    image = replace(image_of(0), samples=samples)
    (found,) = METRIC.score([image], NoReferences())
    own, *bank = unit(random_scorer().features([i.load_picture() for i in (image, *samples)]))
    assert found.value == pytest.approx(np.mean([own @ row for row in bank]), rel=1e-5)


def test_a_sample_itself_is_alike() -> None:
    image = image_of(3, style="outline")
    (found,) = METRIC.score([replace(image, samples=(sample(3),))], NoReferences())
    assert found.value == pytest.approx(1)


def test_without_samples_it_does_not_apply() -> None:
    image = image_of(0)
    assert not CLIP_I.applies_to(image)
    (found,) = METRIC.score([image], NoReferences())
    assert found.value is None and "samples" in (found.reason or "")
