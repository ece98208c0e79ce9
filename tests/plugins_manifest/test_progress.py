"""Claims about lines of progress: what is being done, how far it is, and the time left."""

import time

import pytest

from plugins_manifest.progress import Progress, status


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_that_of_the_pace_since_the_start(clock: list[float]) -> None:
    with Progress("rendering pocket", unit="image", total=120, done=60) as bar:
        assert bar.seconds_left is None  # nothing was made yet
        clock[0] += 100
        bar.update(10)
        assert bar.seconds_left == pytest.approx(500)
        assert str(bar) == "rendering pocket: 70 of 120 images, about 8 min 20 s left"
        bar.to(120)
        assert str(bar) == "rendering pocket: 120 of 120 images"


def test_what_came_from_a_cache_does_not_shorten_the_time_left(clock: list[float]) -> None:
    with Progress("rendering pocket", unit="image", total=120) as bar:
        bar.skip(100)
        assert bar.seconds_left is None
        clock[0] += 50
        bar.update(10)
        assert bar.seconds_left == pytest.approx(50)


def test_parts_that_differ_give_no_time_left(clock: list[float]) -> None:
    with Progress("writing tables", unit="part", total=3, alike=False) as bar:
        clock[0] += 50
        bar.update()
        assert str(bar) == "writing tables: 1 of 3 parts"


def test_a_stage_inside_of_what_counts_stands_after_the_count() -> None:
    assert status() == ""
    with Progress("rendering pocket", unit="image", total=120):
        assert status() == "rendering pocket: 0 of 120 images"
        with Progress("loading the models"):
            assert status() == "rendering pocket: 0 of 120 images; loading the models"
    with Progress("serving", silent=True):
        assert status() == ""
