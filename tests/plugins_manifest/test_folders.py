"""Claims about outputs: they never meet inputs and never replace what others wrote."""

import os
from pathlib import Path

import pytest

from plugins_manifest.errors import UserError
from plugins_manifest.folders import overlaps, refuse_foreign, refuse_others, refuse_overlap


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"photo")
    return folder


@pytest.mark.parametrize(
    ("out", "word"),
    [
        ("data/photos", "is"),
        ("data/photos/../photos", "is"),
        ("link", "is"),
        ("link/new/deeper", "is inside"),
        ("data/photos/made", "is inside"),
        ("data", "contains"),
        (".", "contains"),
    ],
)
def test_a_folder_that_meets_an_input_is_refused(
    tmp_path: Path, photos: Path, out: str, word: str
) -> None:
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UserError, match=rf"^--out \S+ {word} \S+, which is read"):
        refuse_overlap(tmp_path / out, [photos])


def test_names_that_differ_for_the_file_system_are_free(tmp_path: Path, photos: Path) -> None:
    for name in ("made", "data/made", "data/photos-2", "data/Photos"):
        refuse_overlap(tmp_path / name, [photos])


def test_a_folder_under_two_names_is_recognized_by_its_identity(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that ignores case: another name leads to the same device and inode."""
    other, real = tmp_path / "data" / "PHOTOS", os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **more: real(photos if Path(path) == other else path, **more)
    )
    assert list(overlaps(other, [photos]))


def test_beside_an_input_file_is_fine_and_around_it_is_not(tmp_path: Path, photos: Path) -> None:
    refuse_overlap(photos / "made", [photos / "a.jpg"])
    with pytest.raises(UserError, match="contains"):
        refuse_overlap(photos, [photos / "a.jpg"])


def test_a_missing_input_meets_nothing(tmp_path: Path) -> None:
    assert list(overlaps(tmp_path / "out", [tmp_path / "none", Path("a\0b")])) == []


def test_only_own_and_empty_files_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    is_own = lambda head: head.startswith(b"ours")  # noqa: E731
    for content in (None, b"", b"ours, older"):
        if content is not None:
            path.write_bytes(content)
        refuse_foreign(path, is_own, option="--markdown")
    path.write_bytes(b"a diary")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("report.md", "fifo", "loop", "."):
        with pytest.raises(UserError, match="was not written by this command"):
            refuse_foreign(tmp_path / name, is_own, option="--markdown")


def test_other_names_in_an_output_folder_are_refused(tmp_path: Path) -> None:
    refuse_others(tmp_path / "none", ("mapper",))
    (tmp_path / "mapper").mkdir()
    refuse_others(tmp_path, ("mapper",))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"contains 'thesis\.txt'"):
        refuse_others(tmp_path, ("mapper",))
    with pytest.raises(UserError, match="is a file"):
        refuse_others(tmp_path / "thesis.txt", ("mapper",))
