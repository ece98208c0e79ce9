"""Condition images: the same for the same case, at the base size, from photos and scenes."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from bench.cli.main import main
from bench.errors import UserError
from bench.plan.conditions import (
    ConditionSet,
    UnmadeConditions,
    cover,
    find_detector,
    pixels_sha256,
)
from bench.plan.photo_folder import convert_folder, parse_size
from bench.registry import installed, known_names, load_entry, metrics_of
from bench.store.files import read_image
from bench.store.image_cache import ImageCache
from metrics.condition.detectors import Detector
from plugins_manifest.cases.cases import Case
from tests.metrics.random_weights import with_random_weights

ROOT = Path(__file__).parents[3]
COCO = Path(os.environ.get("XBENCH_COCO", ROOT / ".." / "shared" / "data" / "coco"))
SCENE = Case("s", "a circle", scene=(5, 0))


def test_pocket_scene_gives_edges_at_the_base_size() -> None:
    image = ConditionSet("pocket", (64, 64)).image(SCENE, "canny")
    assert image.shape == (64, 64, 3)
    assert set(np.unique(image)) == {0, 255}


def test_condition_is_kept_and_read_back(tmp_path: Path) -> None:
    made = ConditionSet("pocket", (64, 64), folder=tmp_path)
    sha256 = made.sha256(SCENE, "mask")
    made.save_index()
    again = ConditionSet("pocket", (64, 64), folder=tmp_path)
    assert pixels_sha256(again.image(SCENE, "mask")) == sha256 == again.sha256(SCENE, "mask")
    assert (tmp_path / "conditions" / "mask" / "s.png").is_file()


def test_damaged_index_is_only_a_lost_shortcut(tmp_path: Path) -> None:
    made = ConditionSet("pocket", (64, 64), folder=tmp_path)
    sha256 = made.sha256(SCENE, "canny")
    (tmp_path / "conditions" / "index.json").write_text("{")
    assert ConditionSet("pocket", (64, 64), folder=tmp_path).sha256(SCENE, "canny") == sha256


def test_cover_fills_the_size_from_the_middle() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (cover(wide, (10, 10)) > 200).all()


def test_unknown_detector_names_the_valid_ones() -> None:
    with pytest.raises(UserError, match="unknown detector 'cany': use canny"):
        find_detector("cany", family="pocket")


def test_folder_without_photos_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError):
            list(convert_folder(folder, tmp_path / "out", detector="canny", size_px=(64, 64)))


@pytest.mark.parametrize("text", ["512", "0x512", "ax512", "512x512x3"])
def test_sizes_are_width_x_height(text: str) -> None:
    assert parse_size("640x512") == (640, 512)
    with pytest.raises(UserError, match="WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.skipif(not COCO.is_dir(), reason="COCO data is missing: set XBENCH_COCO")
def test_every_coco_photo_gives_edges(tmp_path: Path) -> None:
    found = convert_folder(COCO / "val2017", tmp_path, detector="canny", size_px=(256, 192))
    made = [one.image for one in found if one.image is not None]
    assert len(made) == 50
    shares = [(read_image(path) > 0).mean() for path in made]
    assert read_image(made[0]).shape == (192, 256, 3)
    assert 0.02 < np.mean(shares) < 0.4
    assert min(shares) > 0


# --- detectors, photos, the cache

DETECTORS = {name: load_entry("detectors", name) for name in installed("detectors")}
NETWORKS = {name: d.network for name, d in DETECTORS.items() if d.network}
_FULL_SIZE = {"openpose"}  # one size only, seconds to build


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detector-weights")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    return path


def convert(photo: Path, detector: str, *more: str) -> Result:
    out = str(photo.parents[1] / "made")
    words = ["conditions", str(photo.parent), "--detector", detector, "--out", out, *more]
    return CliRunner().invoke(main, words)


def test_manifests_know_every_detector_and_each_has_metrics() -> None:
    assert set(DETECTORS) <= set(known_names()["detector"])
    assert {detector.name for detector in DETECTORS.values()} == set(DETECTORS)
    assert all(metrics_of(name) for name in DETECTORS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in _FULL_SIZE else ())
        for name in DETECTORS
    ],
)
def test_every_detector_makes_conditions_of_photos(
    name: str, photo: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(weights_folder))
    if name in NETWORKS:
        with_random_weights(NETWORKS[name])
    done = convert(photo, name, "--size", "128x128")
    assert done.exit_code == 0, done.output
    made = read_image(photo.parents[1] / "made" / "a.png")
    assert made.shape == (128, 128, 3)
    if name == "tile":
        assert np.array_equal(made, cover(read_image(photo), (128, 128)))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_detector_without_weights_names_them_and_the_command(
    name: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "none"))
    result = convert(photo, name)
    weights = NETWORKS[name].weights
    assert result.exit_code == 2 and f"xbench metrics fetch {weights.name}" in result.stderr
    assert weights.title in result.stderr and weights.license in result.stderr
    assert not (tmp_path / "made").exists()


def test_weights_of_another_network_are_one_message(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "weights"))
    path = tmp_path / "weights" / "lineart" / "sk_model.pth"
    path.parent.mkdir(parents=True)
    torch.save({"foreign": torch.zeros(1)}, path)
    result = convert(photo, "lineart", "--size", "64x64")
    assert result.exit_code == 2 and "does not fit its network" in result.stderr


def test_a_photo_is_looked_at_once_for_all_runs_and_again_when_anything_differs(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_calls = 0

    def find(picture: np.ndarray) -> np.ndarray:
        nonlocal n_calls
        n_calls += 1
        return 255 - picture

    own = Detector("canny", "negative", find)
    monkeypatch.setattr("bench.plan.conditions.load_entry", lambda group, name: own)
    case = Case("c", "a cat", image_path=str(photo))

    def detect(size_px: tuple[int, int] = (64, 64)) -> np.ndarray:
        cache = ImageCache("conditions", folder=tmp_path / "cache")
        return ConditionSet("sd15-sdxl", size_px, cache=cache).image(case, "canny")

    first = detect()
    assert np.array_equal(detect(), first) and n_calls == 1
    detect((32, 32))
    assert n_calls == 2
    own = Detector("canny", "other words", find)
    detect()
    assert n_calls == 3
    Image.fromarray(255 - read_image(photo)).save(photo)
    assert not np.array_equal(detect(), first) and n_calls == 4


def test_a_plan_that_is_only_looked_at_reads_no_photo() -> None:
    case = Case("c", "a cat", image_path="nowhere.jpg")
    unmade = UnmadeConditions("sd15-sdxl", (64, 64))
    assert len({unmade.sha256(case, name) for name in ("canny", "depth")}) == 2
    assert unmade.reference(case, None).dtype == np.uint8
