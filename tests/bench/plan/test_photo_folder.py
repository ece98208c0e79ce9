"""Claims about `xbench conditions` on folders of photos as people have them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from bench.cli.main import main
from plugins_manifest.images import read_image

PIXELS = np.zeros((48, 64, 3), np.uint8)
PIXELS[:, :30], PIXELS[10:14] = 200, 90


def save(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.roll(PIXELS, 7 * i, axis=1)).save(folder / name)


def convert(photos: Path, out: Path, *more: str, detector: str = "canny") -> Result:
    command = ["conditions", str(photos), "--detector", detector, "--out", str(out)]
    return CliRunner().invoke(main, [*command, "--size", "64x64", *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def test_what_cannot_be_used_is_listed_at_the_end_and_the_rest_is_converted(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    save(photos, "a.jpg", "z.TIF", "two.png", "two.jpg", "Two.webp")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (photos / name).write_bytes(b"\0\5\x16\7")
    (photos / "m.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    (photos / "folder.png").mkdir()
    done = convert(photos, out)
    assert done.exit_code == 1
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "conditions.json", "z.png"]
    assert "2 condition images in" in done.output and "4 photos were skipped:" in done.output
    assert "m.jpg is not a readable image" in done.output
    for name in ("two.png", "two.jpg", "Two.webp"):
        assert name in done.output
    assert "._a" not in done.output


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"junk")
    done = convert(tmp_path / "photos", tmp_path / "out")
    assert done.exit_code == 2 and not (tmp_path / "out").exists()


def test_the_same_command_again_gives_the_same_files(tmp_path: Path) -> None:
    save(tmp_path / "photos", "a.jpg")
    assert convert(tmp_path / "photos", tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    assert convert(tmp_path / "photos", tmp_path / "out").exit_code == 0
    assert contents(tmp_path / "out") == before
    save(tmp_path / "photos", "x.jpg", "a.jpg")  # another photo under the name
    assert convert(tmp_path / "photos", tmp_path / "out").exit_code == 0
    assert contents(tmp_path / "out")["a.png"] != before["a.png"]


@pytest.mark.parametrize("out", ["photos", "photos/made", ".", "link"])
def test_photos_are_never_overwritten(tmp_path: Path, out: str) -> None:
    photos = tmp_path / "photos"
    save(photos, "a.png", "b.png")
    (tmp_path / "link").symlink_to(photos)
    before = contents(photos)
    done = convert(photos, tmp_path / out)
    assert done.exit_code == 2 and "which is read: choose another folder" in done.output
    assert contents(photos) == before


def test_a_file_that_this_command_did_not_write_is_kept(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    save(photos, "a.png", "b.png", "c.png")
    save(out, "a.png")
    (out / "b.png").hardlink_to(photos / "b.png")
    before = contents(out)
    done = convert(photos, out)
    assert done.exit_code == 1 and "1 condition images" in done.output
    assert done.output.count("exists and was not written by this command") == 2
    assert {name: contents(out)[name] for name in before} == before


def test_one_folder_holds_one_condition_of_one_size(tmp_path: Path) -> None:
    save(tmp_path / "photos", "a.png")
    convert(tmp_path / "photos", tmp_path / "out")
    before = contents(tmp_path / "out")
    for done in (
        convert(tmp_path / "photos", tmp_path / "out", detector="tile"),
        convert(tmp_path / "photos", tmp_path / "out", "--size", "32x32"),
    ):
        assert done.exit_code == 2 and "holds canny images of [64, 64] px" in done.output
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / "conditions.json").write_text("my notes")
    done = convert(tmp_path / "photos", tmp_path / "out")
    assert done.exit_code == 2 and "is not an index of condition images" in done.output


def test_remarks_are_made_once(tmp_path: Path) -> None:
    save(tmp_path / "photos", "a.png")
    for name in ("b.tif", "c.tif"):
        Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "photos" / name)
    Image.fromarray(np.full((64, 64, 3), 9, np.uint8)).save(tmp_path / "photos" / "d.png")
    done = convert(tmp_path / "photos", tmp_path / "out")
    assert "b.tif, c.tif: CMYK is converted without a color profile\n" in done.output
    assert "d.png: its condition image is a blank sheet of one color\n" in done.output


@pytest.mark.parametrize("size", ["64x²", "99999x99999", "9" * 5000 + "x1", "-1x4", "x", "0x0"])
def test_sizes_are_bounded(tmp_path: Path, size: str) -> None:
    save(tmp_path / "photos", "a.png")
    done = convert(tmp_path / "photos", tmp_path / "out", "--size", size)
    assert done.exit_code == 2 and "--size is" in done.output


MANIFEST = """
schema: 1
name: own
family: pocket
plugins:
  - {id: canny, kind: controlnet, source: "pocket:controlnet-canny", condition: canny}
cases: {source: file, path: cases.json, condition_images: out}
methods: [{name: base}]
metrics: [edge-f1]
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 2, guidance_scale: 3.0}
"""


def plan(folder: Path) -> Result:
    (folder / "m.yaml").write_text(MANIFEST)
    return CliRunner().invoke(main, ["plan", "--manifest", str(folder / "m.yaml")])


def test_a_manifest_reads_what_the_command_wrote(tmp_path: Path) -> None:
    save(tmp_path / "photos", "a.png")
    convert(tmp_path / "photos", tmp_path / "out")
    prompt = {"prompt": "a large red circle on a blue background"}
    (tmp_path / "cases.json").write_text(json.dumps([{"id": "a", **prompt}]))
    assert plan(tmp_path).exit_code == 0
    more = [{"id": "a", **prompt}, {"id": "b", "image": "photos/a.png", **prompt}]
    (tmp_path / "cases.json").write_text(json.dumps(more))
    assert plan(tmp_path).exit_code == 0  # named as the photo
    (tmp_path / "photos" / "a.png").rename(tmp_path / "photos" / "c.png")
    more[1]["image"] = "photos/c.png"
    (tmp_path / "cases.json").write_text(json.dumps(more))
    done = plan(tmp_path)
    assert done.exit_code == 2
    assert "there is no out/canny/b.png or out/canny/c.png" in done.output


def test_the_condition_of_a_photo_is_that_of_the_upright_one(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    save(photos, "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).rotate(90, expand=True).save(photos / "turned.png", exif=exif)
    convert(photos, tmp_path / "out")
    a, b = (read_image(tmp_path / "out" / f"{name}.png") for name in ("upright", "turned"))
    assert np.array_equal(a, b)
