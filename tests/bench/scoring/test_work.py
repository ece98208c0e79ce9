"""What scoring costs, as exact counts; and that several processes give the scores of one."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.render.engine.choice import Workers
from bench.scoring import images, score_by_names
from bench.scoring.score import read_scores, score_run
from bench.store import RunStore, read_image
from metrics.condition.overlap import EDGE_F1, EDGE_IOU
from metrics.device import GPU_BATCH, in_batches, on_device
from metrics.encoders import INCEPTION, Encoder
from metrics.features import FeatureCache
from metrics.pocket_oracle import POCKET_ORACLE
from metrics.sets.run_distance import KID_FLOOR
from metrics.styles import STYLE_CLIP_I, STYLE_GRAM
from tests.bench.drawn_run import draw_run
from tests.metrics.pictures import image_of

pytestmark = pytest.mark.system

NAMES = ("edge-f1", "pocket-clip", "pocket-lpips", "pocket-oracle", "pocket-style", "pocket-kid")


@dataclass(frozen=True)
class Counted(Encoder):
    """An encoder whose network records how many pictures each call has."""

    def recipe(self) -> str:
        return f"means, variant {self.variant}"

    def loaded(self) -> "Counted":
        return self

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        def means(part: Sequence[np.ndarray]) -> list[np.ndarray]:
            CALLS[self.variant].append(len(part))
            return [p.reshape(-1, 3).mean(axis=0) + 1 for p in part]

        return np.asarray(in_batches(means, pictures))


CALLS: dict[str, list[int]] = {"a": [], "b": []}
FIRST, SECOND = (Counted(INCEPTION.module, INCEPTION.weights, "", v) for v in CALLS)


def counted_metrics() -> list:
    return [
        replace(STYLE_CLIP_I, encoder=FIRST),
        replace(STYLE_GRAM, encoder=SECOND),
        replace(KID_FLOOR, encoder=FIRST),
        replace(KID_FLOOR, name="kid-again", encoder=SECOND),
        EDGE_F1,
        EDGE_IOU,
        POCKET_ORACLE,
    ]


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 1), ("mps", GPU_BATCH)])
def test_each_picture_is_decoded_once_and_each_network_has_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, at_once: int
):
    store = draw_run(tmp_path / "drawn")
    decoded: Counter[Path] = Counter()

    def counting(path: Path) -> np.ndarray:
        decoded[path] += 1
        return read_image(path)

    monkeypatch.setattr(images, "read_image", counting)
    room = 80 * 128 * 128 * 3  # of a chunk and its neighbors, not of the 132 images
    monkeypatch.setattr(images, "Pictures", partial(images.Pictures, room))
    for calls in CALLS.values():
        calls.clear()
    with on_device(device):
        score_run(store, counted_metrics())
    files = {path for path in decoded if path.parent.name != "conditions"}
    made = {store.folder / image for image in store.results()["image"]}
    assert {path.resolve() for path in made} <= {path.resolve() for path in files}
    assert {path: n for path, n in decoded.items() if path in made and n > 1} == {}
    n_different = store.results()["image_sha256"].nunique()
    assert len(made) == 132 and n_different == 69
    for calls in CALLS.values():
        assert sum(calls) == n_different and max(calls) <= at_once
        # a chunk of 64 images ends with a call that is not full
        assert len(calls) <= n_different // at_once + -(-len(made) // 64)
    assert all(row["value"] is not None or row["reason"] for row in read_scores(store))


def test_a_batch_that_does_not_fit_is_halved():
    sizes: list[int] = []

    def call(part: Sequence[int]) -> list[int]:
        sizes.append(len(part))
        if len(part) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [2 * number for number in part]

    with on_device("mps"):
        assert in_batches(call, range(20)) == [2 * number for number in range(20)]
    assert sizes == [20, 10, 5, 5, 5, 5]
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(lambda part: call([0] * 9), [0])


def test_features_beyond_the_memory_are_kept_in_a_file():
    cache, encoded = FeatureCache(memory_bytes=100), []

    def encode(pictures: list[np.ndarray]) -> np.ndarray:
        encoded.extend(pictures)
        return np.array([np.linspace(p.mean(), 1, 5) for p in pictures])

    pictures = [image_of(i) for i in range(6)]
    first = cache.of_images(pictures, encoder="e", encode=encode)
    again = cache.of_images(pictures[::-1], encoder="e", encode=encode, at_once=4)
    assert len(encoded) == 6 and np.array_equal(first, again[::-1])
    assert first.dtype == np.float64 and first.shape == (6, 5)
    assert np.array_equal(first[3], np.linspace(pictures[3].load_picture().mean(), 1, 5))


def digests(store: RunStore) -> dict[str, str]:
    paths = sorted((store.folder / "scores").rglob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_scores_of_two_processes_equal_those_of_one(tmp_path: Path):
    alone, shared = (
        draw_run(tmp_path / name, n_cases=6, natives=True) for name in ("alone", "shared")
    )
    score_by_names(alone, NAMES, show_progress=False)
    score_by_names(shared, NAMES, show_progress=False, workers=Workers(count=2))
    assert len(digests(alone)) >= len(NAMES) and digests(alone) == digests(shared)
    assert shared.run_facts()["metric_device"] == "cpu"
