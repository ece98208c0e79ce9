from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins_manifest.content import ChangedFileError, hash_path, load_as_planned, state_of
from plugins_manifest.errors import UserError
from plugins_manifest.files import file_sha256


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"other")
    new.replace(path)


def relink(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other")
    path.unlink()
    path.symlink_to(other)


WAYS: list[Callable[[Path], object]] = [
    overwrite,
    replace,
    relink,
    Path.unlink,
    lambda path: os.truncate(path, 2),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"right")
    return path


@pytest.mark.parametrize("change", WAYS)
def test_what_is_not_the_planned_content_is_refused_before_it_is_loaded(
    file: Path, change: Callable[[Path], object]
) -> None:
    sha256 = hash_path(file)
    change(file)
    with pytest.raises(ChangedFileError, match=rf"plugin 'p': file.*{sha256[:12]}"):
        load_as_planned(lambda: pytest.fail("it was loaded"), file, sha256, what="plugin 'p'")


@pytest.mark.parametrize("change", WAYS)
def test_a_change_while_it_is_loaded_is_refused(
    file: Path, change: Callable[[Path], object]
) -> None:
    sha256 = hash_path(file)
    with pytest.raises(ChangedFileError):
        load_as_planned(lambda: change(file), file, sha256, what="it")


def test_a_file_that_is_exchanged_for_the_time_of_loading_is_loaded_again(file: Path) -> None:
    sha256, seen = hash_path(file), []

    def load() -> bytes:
        if not seen:
            replace(file)
        content = file.read_bytes()
        seen.append(content)
        file.write_bytes(b"right")
        return content

    with pytest.raises(ChangedFileError, match="being changed while it is read"):
        load_as_planned(load, file, sha256, what="it")
    assert seen == [b"other", b"right", b"right"]


def test_a_touched_file_is_loaded(file: Path) -> None:
    sha256, loads = hash_path(file), []

    def load() -> bytes:
        if not loads:
            os.utime(file)
        loads.append(1)
        return file.read_bytes()

    assert load_as_planned(load, file, sha256, what="it") == b"right"


def test_a_hash_is_remembered_for_the_state_of_the_file_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins_manifest.content._SETTLED_NS", -(10**12))
    first, stat = hash_path(file), file.stat()
    overwrite(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as before, of the same size
    assert hash_path(file) != first
    before = hash_path(file)
    monkeypatch.setattr("plugins_manifest.content.file_sha256", None)
    assert hash_path(file) == before


def test_a_young_file_is_hashed_each_time(file: Path) -> None:
    first, state = hash_path(file), state_of(file)
    overwrite(file)
    assert hash_path(file) == file_sha256(file) != first
    assert state_of(file) != state or first != hash_path(file)


def test_files_behind_linked_folders_are_part_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "a").write_text("a")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "else")
    first = hash_path(tmp_path / "folder")
    (tmp_path / "else" / "a").write_text("b")
    assert hash_path(tmp_path / "folder") != first


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "loop").symlink_to(tmp_path / "folder")
    with pytest.raises(UserError, match="links to a folder above"):
        hash_path(tmp_path / "folder")
