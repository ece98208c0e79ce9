"""The image cache: whole entries or none, found under the same render context only."""

import os
import time
from pathlib import Path

from bench.store.image_cache import (
    ImageCache,
    cache_folder,
    cache_info,
    clean_cache,
    render_context,
)

FACTS = {"seconds": 1.5, "peak_memory_mib": 2.0, "effective_t0": None}


def test_entry_comes_back_with_what_it_took(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put("abcd", b"png", FACTS)
    found = cache.get("abcd")
    assert found is not None
    assert (found.png, found.seconds, found.effective_t0) == (b"png", 1.5, None)
    assert cache_folder() == own_cache


def test_damaged_or_half_written_entries_count_as_missing(own_cache: Path) -> None:
    cache = ImageCache("here")
    for suffix, content in ((".png", b"other"), (".json", b"{")):
        cache.put("abcd", b"png", FACTS)
        (own_cache / "images" / "here" / "ab" / f"abcd{suffix}").write_bytes(content)
        assert cache.get("abcd") is None
    assert cache.get("none") is None


def test_cache_that_cannot_be_written_is_left_alone(own_cache: Path) -> None:
    own_cache.parent.mkdir(parents=True, exist_ok=True)
    own_cache.write_text("a file is in the way")
    cache = ImageCache("here")
    cache.put("abcd", b"png", FACTS)
    assert cache.get("abcd") is None


def test_context_names_all_that_changes_pixels() -> None:
    one = render_context(dtype="float32", device_kind="cpu")
    assert one.startswith("r")
    assert "-float32-cpu-torch" in one
    assert one != render_context(dtype="float16", device_kind="cpu")


def test_clean_removes_images_and_nothing_else(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put("abcd", b"png", FACTS)
    cache.put("efgh", b"png", FACTS)
    (own_cache / "other").write_text("not ours")
    old = own_cache / "images" / "here" / "ab" / "abcd.json"
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    assert cache_info().n_images == 2
    assert clean_cache(unused_days=5).n_images == 1
    assert cache.get("efgh") is not None
    assert clean_cache().n_images == 1
    assert (own_cache / "other").exists()
    assert cache_info().n_images == 0


def test_an_entry_under_the_name_of_another_trial_is_not_served(own_cache: Path) -> None:
    cache = ImageCache("here")
    cache.put("abcd", b"png", FACTS)
    home = own_cache / "images" / "here" / "ab"
    for suffix in (".png", ".json"):
        (home / f"abcd{suffix}").rename(home / f"abef{suffix}")
    assert cache.get("abef") is None
