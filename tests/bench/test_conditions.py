"""Condition images: the same for the same case, at the base size, from photos and scenes."""

import os
from pathlib import Path

import numpy as np
import pytest

from bench.conditions import (
    ConditionSet,
    convert_folder,
    cover,
    find_detector,
    parse_size,
    pixels_sha256,
)
from bench.errors import UserError
from bench.files import read_image
from plugins_manifest.cases import Case

ROOT = Path(__file__).parents[2]
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
            list(convert_folder(folder, tmp_path, detector="canny", size_px=(64, 64)))


@pytest.mark.parametrize("text", ["512", "0x512", "ax512", "512x512x3"])
def test_sizes_are_width_x_height(text: str) -> None:
    assert parse_size("640x512") == (640, 512)
    with pytest.raises(UserError, match="WIDTHxHEIGHT"):
        parse_size(text)


@pytest.mark.skipif(not COCO.is_dir(), reason="COCO data is not there: set XBENCH_COCO")
def test_every_coco_photo_gives_edges(tmp_path: Path) -> None:
    made = list(convert_folder(COCO / "val2017", tmp_path, detector="canny", size_px=(256, 192)))
    assert len(made) == 50
    shares = [(read_image(path) > 0).mean() for path in made]
    assert read_image(made[0]).shape == (192, 256, 3)
    assert 0.02 < np.mean(shares) < 0.4
    assert min(shares) > 0
