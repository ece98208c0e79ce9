"""Claims about runs in progress on the pages, run by Streamlit itself."""

from pathlib import Path

import pytest

from bench.store.files import png_bytes
from leaderboard.study.runs import RESULTS_VARIABLE
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.views_driver import addresses, open_view, texts


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    store = write_results(tmp_path / "one <b>", n_cases=2, prompt="<i>hostile</i> [a](b)")
    store.write_run_facts({**store.run_facts(), "status": "running"})
    return tmp_path


def test_a_run_in_progress_shows_count_share_and_first_pictures(results):
    page = open_view("overview", results)
    assert page.get("progress")[0].proto.value == 100
    shown = addresses(page)
    assert shown and all(url.startswith("data:image/webp;base64,") for url in shown)
    assert "one \\<b\\>" in texts(page) and "scores follow" in texts(page)
    assert "<i>" not in texts(page)


def test_a_stopped_run_shows_the_command_that_continues_it(results):
    from bench.store import RunStore

    store = RunStore(results / "one <b>")
    store.write_run_facts({**store.run_facts(), "status": "interrupted"})
    page = open_view("overview", results)
    assert "stopped" in texts(page) and not addresses(page)
    assert page.code[0].value == "xbench run --manifest drawn"


def test_a_picture_that_cannot_be_read_is_left_out(results):
    for path in (results / "one <b>" / "images").glob("*/*.png"):
        path.write_bytes(png_bytes.__doc__.encode())
    page = open_view("overview", results)
    assert not addresses(page) and "Unfinished" in texts(page)
