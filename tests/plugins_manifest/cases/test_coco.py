"""COCO val2017 from folders: one caption a photo, chosen by a rule that gives the same always."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from plugins_manifest.cases.coco import CasesNotFetchedError, coco_cases, read_captions
from plugins_manifest.errors import UserError
from plugins_manifest.schema.manifest import CocoCases

ROOT = Path(__file__).parents[3]
COCO = Path(os.environ.get("XBENCH_COCO", ROOT / ".." / "shared" / "data" / "coco"))
HERE = Path(".")
with_coco = pytest.mark.skipif(not COCO.is_dir(), reason="COCO is not there: set XBENCH_COCO")


@pytest.fixture(autouse=True)
def no_coco_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XBENCH_COCO", raising=False)
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))


def spec(**given: object) -> CocoCases:
    return CocoCases.model_validate({"source": "coco-val2017", **given})


def coco_folder(root: Path) -> Path:
    (root / "val2017").mkdir(parents=True)
    for i in (7, 3):
        (root / "val2017" / f"{i:012d}.jpg").write_bytes(b"photo")
    notes = [(9, 7, "later"), (5, 7, " a\n cat "), (6, 3, "a dog"), (1, 4, "not on the disk")]
    data = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (7, 3, 4)],
        "annotations": [{"id": n, "image_id": i, "caption": text} for n, i, text in notes],
    }
    (root / "captions_val2017.json").write_text(json.dumps(data))
    return root


def test_photos_come_by_id_with_the_first_caption(tmp_path: Path) -> None:
    coco_folder(tmp_path / "coco")
    cases = coco_cases(spec(path="coco"), folder=tmp_path)
    assert [(c.case_id, c.prompt) for c in cases] == [
        ("coco-000000000003", "a dog"),
        ("coco-000000000007", "a cat"),
    ]
    one = spec(path="coco", image_ids=(7,))
    assert [c.prompt for c in coco_cases(one, folder=tmp_path)] == ["a cat"]
    assert len(coco_cases(spec(path="coco"), folder=tmp_path, limit=1)) == 1


def test_a_file_of_captions_names_the_photos_beside_it(tmp_path: Path) -> None:
    coco_folder(tmp_path / "coco")
    by_file = coco_cases(spec(path="coco/captions_val2017.json"), folder=tmp_path)
    assert by_file == coco_cases(spec(path="coco"), folder=tmp_path)


def test_captions_where_the_unpacked_zip_has_them_are_found(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    (root / "annotations").mkdir()
    (root / "captions_val2017.json").rename(root / "annotations" / "captions_val2017.json")
    assert len(coco_cases(spec(path="coco"), folder=tmp_path)) == 2


def test_unknown_ids_missing_photos_and_missing_folders_are_named(tmp_path: Path) -> None:
    coco_folder(tmp_path / "coco")
    for image_ids, message in (((99,), "no image 99"), ((4,), "000000000004.jpg is missing")):
        with pytest.raises(UserError, match=message):
            coco_cases(spec(path="coco", image_ids=image_ids), folder=tmp_path)
    with pytest.raises(UserError) as caught:
        coco_cases(spec(path="coco", image_ids=(98, 99)), folder=tmp_path)
    assert len(caught.value.problems) == 2
    with pytest.raises(UserError, match=r"captions_val2017\.json"):
        coco_cases(spec(path="nowhere"), folder=tmp_path)


def test_without_a_folder_the_download_is_named_with_its_size() -> None:
    with pytest.raises(CasesNotFetchedError) as caught:
        coco_cases(spec(n=20), folder=HERE, label="paper")
    reported = str(caught.value)
    assert (
        "xbench cases fetch paper" in reported
        and "20 of 20 photos" in reported
        and "4 MB" in reported
    )
    assert caught.value.n_cases == 20
    with pytest.raises(CasesNotFetchedError, match="5,000 of 5,000"):
        coco_cases(spec(), folder=HERE)


def test_photos_may_be_fetched_where_the_captions_are_ones_own(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    for photo in (root / "val2017").iterdir():
        photo.unlink()
    (root / "val2017").rmdir()
    with pytest.raises(CasesNotFetchedError, match="3 of 3 photos") as caught:
        coco_cases(spec(path="coco"), folder=tmp_path)
    assert caught.value.has_captions


def test_another_captions_file_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    root = coco_folder(tmp_path / "coco")
    own = hashlib.sha256((root / "captions_val2017.json").read_bytes()).hexdigest()
    assert coco_cases(spec(path="coco", captions_sha256=own), folder=tmp_path)
    with pytest.raises(UserError, match=own):
        coco_cases(spec(path="coco", captions_sha256="0" * 64), folder=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"images": [], "annotations": []}',
        '{"images": [{"id": 1, "file_name": "../a.jpg"}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}',
    ],
)
def test_other_files_are_no_captions_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "captions_val2017.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"is not COCO's captions file"):
        read_captions(path)


@with_coco
def test_all_5000_real_photos_have_the_first_of_their_captions() -> None:
    data = json.loads((COCO / "captions_val2017.json").read_bytes())
    notes = sorted(data["annotations"], key=lambda note: -note["id"])
    first = {note["image_id"]: " ".join(note["caption"].split()) for note in notes}
    photos = read_captions(COCO / "captions_val2017.json")
    assert len(photos) == 5000 == len(first)
    assert list(photos) == sorted(first)
    assert {i: photo.caption for i, photo in photos.items()} == first
    assert all(photo.file_name == f"{i:012d}.jpg" for i, photo in photos.items())
    assert all(photo.size_px and min(photo.size_px) > 100 for photo in photos.values())


@with_coco
def test_real_photos_on_the_disk_are_the_cases_of_a_folder() -> None:
    cases = coco_cases(spec(path=str(COCO)), folder=HERE)
    assert len(cases) == len({c.case_id for c in cases}) == 50
    assert all(c.prompt.strip() == c.prompt and len(c.prompt) > 10 for c in cases)
    assert [c.case_id for c in cases] == sorted(c.case_id for c in cases)
    assert cases == coco_cases(spec(path=str(COCO)), folder=HERE)
