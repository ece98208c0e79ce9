"""The image cache: whole entries or none, found under the same render context only."""

import os
import time
from pathlib import Path

import pytest

from bench.store.image_cache import (
    ImageCache,
    cache_folder,
    cache_info,
    clean_cache,
    render_context,
)

ID, OTHER = "ab" * 10, "ef" * 32
FACTS = {"seconds": 1.5, "peak_memory_mib": 2.0, "effective_t0": None}


def test_entry_comes_back_with_what_it_took(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put(ID, b"png", FACTS)
    found = cache.get(ID)
    assert found is not None
    assert (found.png, found.seconds, found.effective_t0) == (b"png", 1.5, None)
    assert cache_folder() == own_cache


def test_damaged_or_half_written_entries_count_as_missing(own_cache: Path) -> None:
    cache = ImageCache("here")
    for suffix, content in ((".png", b"other"), (".json", b"{")):
        cache.put(ID, b"png", FACTS)
        (own_cache / "images" / "here" / "ab" / f"{ID}{suffix}").write_bytes(content)
        assert cache.get(ID) is None
    assert cache.get("none") is None


def test_cache_that_cannot_be_written_is_left_alone(own_cache: Path) -> None:
    own_cache.parent.mkdir(parents=True, exist_ok=True)
    own_cache.write_text("a file is in the way")
    cache = ImageCache("here")
    cache.put(ID, b"png", FACTS)
    assert cache.get(ID) is None


def test_context_names_all_that_changes_pixels() -> None:
    one = render_context(dtype="float32", device_kind="cpu")
    assert one.startswith("r")
    assert "-float32-cpu-torch" in one
    assert one != render_context(dtype="float16", device_kind="cpu")


def test_clean_removes_images_and_nothing_else(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put(ID, b"png", FACTS)
    cache.put(OTHER, b"png", FACTS)
    (own_cache / "other").write_text("not ours")
    old = own_cache / "images" / "here" / "ab" / f"{ID}.json"
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    assert cache_info().n_images == 2
    assert clean_cache(unused_days=5).n_images == 1
    assert cache.get(OTHER) is not None
    assert clean_cache().n_images == 1
    assert (own_cache / "other").exists()
    assert cache_info().n_images == 0


def test_clean_deletes_nothing_in_a_folder_that_is_not_marked(own_cache: Path) -> None:
    holidays = own_cache / "images" / "holidays"
    for name in ("beach.png", f"ab/{ID}.png", f"ab/{ID}.json"):
        (holidays / name).parent.mkdir(parents=True, exist_ok=True)
        (holidays / name).write_bytes(b"mine")
    assert clean_cache().n_images == cache_info().n_images == 0
    assert len([path for path in holidays.rglob("*") if path.is_file()]) == 3


def test_clean_deletes_only_names_of_the_caches_own_form(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put(ID, b"png", FACTS)
    root = own_cache / "images" / "here"
    kept = [root / "notes.txt", root / "ab" / "beach.png", root / "ab" / "about.json"]
    kept += [root / "cd" / f"{ID}.png", root / "folder" / "ab" / f"{ID}.png"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    assert clean_cache().n_images == 1
    assert cache.get(ID) is None and all(path.read_bytes() == b"mine" for path in kept)


def test_clean_follows_no_link(own_cache: Path, tmp_path: Path) -> None:
    cache = ImageCache("here", folder=tmp_path / "elsewhere")
    cache.put(ID, b"png", FACTS)
    (own_cache / "images").mkdir(parents=True)
    (own_cache / "images" / "here").symlink_to(tmp_path / "elsewhere" / "images" / "here")
    assert clean_cache().n_images == 0 and cache.get(ID) is not None


def test_a_folder_with_other_content_is_not_written_into(
    own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = own_cache / "images" / "conditions"
    root.mkdir(parents=True)
    (root / "a-photo.png").write_bytes(b"mine")
    ImageCache("conditions").put(ID, b"png", FACTS)
    assert [path.name for path in root.iterdir()] == ["a-photo.png"]
    assert "has other content (a-photo.png): set XBENCH_CACHE" in caplog.text


def test_an_unmarked_cache_of_an_earlier_version_is_marked_when_it_is_used(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put(ID, b"png", FACTS)
    (own_cache / "images" / "here" / "CACHEDIR.TAG").unlink()
    assert clean_cache().n_images == 0
    ImageCache("here").put(OTHER, b"png", FACTS)
    assert cache.get(ID) is not None and clean_cache().n_images == 2
    assert list((own_cache / "images").iterdir()) == []


def test_an_entry_under_the_name_of_another_trial_is_not_served(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put("abcd", b"png", FACTS)
    home = own_cache / "images" / "here" / "ab"
    for suffix in (".png", ".json"):
        (home / f"abcd{suffix}").rename(home / f"abef{suffix}")
    assert cache.get("abef") is None
