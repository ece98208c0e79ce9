import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.fid import get_files_features
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image

from metrics.base import MetricUnavailableError
from metrics.encoders import INCEPTION
from metrics.pocket_scorer import PocketEncoder
from metrics.sets.formulas import CMMD_SCALE
from metrics.sets.reference_distance import CMMD, FD_DINOV2, FID_INFINITY, POCKET_FID, POCKET_KID
from metrics.sets.reference_set import ShippedFeatures, statistics_folder
from tests.metrics.pictures import (
    GivenReferences,
    NoReferences,
    image_of,
    random_scorer,
    random_sha256,
)
from tests.metrics.random_weights import on_random_weights, with_random_weights
from tests.metrics.sets.test_formulas import correlated


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def images(n: int = 6, *, method: str = "xadapter", prompts: int = 3) -> list:
    offset = 100 if method == "floor" else 0
    return [
        image_of(i, picture=picture(i + offset), method=method, prompt=f"prompt {i % prompts}")
        for i in range(n)
    ]


FLOORS = images(method="floor")


@pytest.fixture(scope="module")
def inception():
    return with_random_weights(INCEPTION)


def test_features_are_clean_fids_own(inception, tmp_path: Path):
    paths = []
    for seed in range(2):
        paths.append(str(tmp_path / f"{seed}.png"))
        Image.fromarray(picture(seed)).save(paths[-1])
    # a graph that runs twice is neither checked nor optimized
    with warnings.catch_warnings(), torch.jit.optimized_execution(False):
        warnings.simplefilter("ignore")  # on TorchScript, which only this test writes
        traced = torch.jit.trace_module(
            _Layers(inception.loaded().layers),
            {"forward": torch.zeros(1, 3, 299, 299)},
            check_trace=False,
        )
        traced.save(str(tmp_path / "inception-2015-12-05.pt"))
        network = InceptionV3W(str(tmp_path), download=False)
        expected = get_files_features(
            paths, network, num_workers=0, device=torch.device("cpu"), mode="clean", verbose=False
        )
    found = inception.encode([picture(seed) for seed in range(2)])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


class _Layers(torch.nn.Module):
    def __init__(self, layers: torch.nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x_bchw: torch.Tensor) -> torch.Tensor:
        return self.layers(x_bchw)


@pytest.fixture(params=[FD_DINOV2, CMMD])
def metric(request):
    return on_random_weights(request.param)


def test_order_does_not_matter_and_the_reference_is_zero_away(metric):
    references = GivenReferences(floors=FLOORS)
    forward = metric.score(images(), references)
    backward = metric.score(images()[::-1], references)
    assert forward.value == pytest.approx(backward.value, rel=1e-9)
    assert forward.value is not None
    same = [replace(f, method="sdedit", trial_id=f"same-{f.trial_id}") for f in FLOORS]
    equal = metric.score(same, references).value
    assert equal is not None and equal < forward.value
    assert "shares prompts and seeds" in (forward.reason or "")


def test_the_reference_is_not_compared_with_itself(metric):
    found = metric.score(FLOORS, GivenReferences(floors=FLOORS))
    assert found.value is None and "self-reference" in (found.reason or "")


def test_without_floor_images_there_is_no_distance(metric):
    found = metric.score(images(), GivenReferences())
    assert found.value is None and "no 2 images of the upgraded model" in (found.reason or "")
    assert metric.score(images(1), GivenReferences(floors=FLOORS)).value is None


def test_held_out_pictures_are_encoded_once_and_kept_with_their_hash(
    metric, monkeypatch, tmp_path: Path
):
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    for i in range(4):
        Image.fromarray(picture(200 + i)).save(held_out / f"{i}.png")
    monkeypatch.setenv("XBENCH_REFERENCE_IMAGES", str(held_out))
    monkeypatch.setenv("XBENCH_METRIC_STATISTICS", str(tmp_path / "statistics"))
    recipe = metric.recipe()
    assert "4 held-out pictures, sha256 " in recipe
    first = metric.score(images(), GivenReferences())
    (kept,) = statistics_folder().glob("*.safetensors")
    stamp = kept.stat().st_mtime_ns
    assert metric.score(images(), GivenReferences()).value == first.value
    assert kept.stat().st_mtime_ns == stamp
    assert metric.score(FLOORS, GivenReferences()).value is not None  # floor is no reference now
    Image.fromarray(picture(300)).save(held_out / "0.png")
    assert metric.recipe() != recipe


def test_sidecar_files_are_no_pictures_and_a_broken_one_is_named(
    metric, monkeypatch, tmp_path: Path
):
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    for i in range(3):
        Image.fromarray(picture(200 + i)).save(held_out / f"{i}.TIF")
    (held_out / "._0.png").write_bytes(b"\0\5\x16\7")
    (held_out / "folder.png").mkdir()
    os.mkfifo(held_out / "fifo.png")
    monkeypatch.setenv("XBENCH_REFERENCE_IMAGES", str(held_out))
    monkeypatch.setenv("XBENCH_METRIC_STATISTICS", str(tmp_path / "statistics"))
    assert "3 held-out pictures" in metric.recipe()
    (held_out / "3.png").write_bytes(b"junk")
    with pytest.raises(MetricUnavailableError, match=r"3\.png is not a readable image"):
        metric.score(images(), GivenReferences())


def test_an_empty_folder_of_references_is_told(metric, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XBENCH_REFERENCE_IMAGES", str(tmp_path))
    with pytest.raises(MetricUnavailableError, match="holds 0 pictures"):
        metric.recipe()


def test_kernel_distances_bring_values_without_each_prompt():
    metric = on_random_weights(CMMD)
    references = GivenReferences(floors=FLOORS)
    left = metric.score(images(), references).leave_one_out
    assert left is not None and set(left) == {"prompt 0", "prompt 1", "prompt 2"}
    rest = [image for image in images() if image.prompt != "prompt 1"]
    rows = metric.encoder.rows(rest, references)
    floor_rows = metric.encoder.rows(FLOORS, references)
    assert left["prompt 1"] == pytest.approx(metric.between(rows, floor_rows))
    assert abs(left["prompt 1"]) < CMMD_SCALE


def test_few_images_make_frechet_unstable_and_never_kernels():
    references = GivenReferences(floors=FLOORS)
    frechet = on_random_weights(FD_DINOV2).score(images(), references)
    kernel = on_random_weights(CMMD).score(images(), references)
    assert "unstable: n = 6 < 2048" in (frechet.reason or "")
    assert "unstable" not in (kernel.reason or "")


@pytest.fixture(params=[POCKET_FID, POCKET_KID])
def pocket(request):
    return on_given_features(request.param)


def on_given_features(metric):
    features = correlated(9, 200, 64)
    return replace(
        metric,
        encoder=PocketEncoder(random_scorer, lambda: "a" * 64),
        reference=ShippedFeatures(lambda: features, lambda: "b" * 64),
    )


def test_a_pocket_score_does_not_depend_on_the_order_of_images(pocket):
    drawn = [image_of(i, prompt=f"prompt {i % 4}") for i in range(8)]
    forward = pocket.score(drawn, NoReferences())
    backward = pocket.score(drawn[::-1], NoReferences())
    assert forward.value == pytest.approx(backward.value, rel=1e-9)


def test_one_image_has_no_distribution(pocket):
    found = pocket.score([image_of(0)], NoReferences())
    assert found.value is None and found.reason is not None


def test_pocket_frechet_of_few_images_is_marked_unstable():
    found = on_given_features(POCKET_FID).score([image_of(i) for i in range(3)], NoReferences())
    assert found.value is not None
    assert found.reason == "unstable: n = 3 < 2048"


def test_pocket_kernel_scores_have_values_without_each_prompt():
    drawn = [image_of(i, prompt=f"prompt {i % 3}") for i in range(9)]
    found = on_given_features(POCKET_KID).score(drawn, NoReferences())
    assert found.leave_one_out is not None
    assert sorted(found.leave_one_out) == ["prompt 0", "prompt 1", "prompt 2"]


def infinity(n_references: int):
    """Return FID-infinity on 64 dimensions, to given features of held-out images."""
    features = correlated(9, n_references, 64)
    return replace(
        FID_INFINITY,
        encoder=PocketEncoder(random_scorer, random_sha256),
        reference=ShippedFeatures(lambda: features, lambda: "b" * 64),
    )


@pytest.mark.parametrize(("n", "n_references"), [(191, 400), (192, 191), (12, 12)])
def test_fid_infinity_is_refused_below_three_images_a_dimension(n: int, n_references: int):
    drawn = [image_of(i % 4, seed=i, prompt=f"prompt {i}") for i in range(n)]
    found = infinity(n_references).score(drawn, NoReferences())
    assert found.value is None
    assert found.reason == (
        f"the extrapolation is biased below 192 images on a side (3 x 64 dimensions): {n} images, "
        f"{n_references} of the reference"
    )


def test_fid_infinity_of_enough_images_has_a_value():
    drawn = [image_of(i % 4, seed=i, prompt=f"prompt {i}") for i in range(192)]
    assert infinity(192).score(drawn, NoReferences()).value is not None


def test_fid_infinity_to_the_runs_own_images_is_refused_before_any_is_encoded():
    found = FID_INFINITY.score(images(300), GivenReferences(floors=FLOORS))
    assert found.value is None
    assert "the run's own images" in (found.reason or "")
    assert "XBENCH_REFERENCE_IMAGES" in (found.reason or "")
