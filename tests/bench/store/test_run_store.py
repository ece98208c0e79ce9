"""The run directory: whole files or none, one writer, clear words for what is broken."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import UserError, disk_error
from bench.scoring.score import score_run
from bench.store import schema
from bench.store.files import png_bytes, read_image, write_bytes, write_table
from bench.store.run_store import RunStore
from bench.store.verify import PARTS, TO_REPORT, require_sound
from metrics.condition.overlap import EDGE_F1
from plugins_manifest.cases.cases import Case
from plugins_manifest.files import ABANDONED_SECONDS, TEMPORARY_PREFIX, temporary_beside
from tests.bench.drawn_run import draw_run

ROOT = Path(__file__).parents[3]
ROW = {"trial_id": "aa", "status": "ok", "seconds": 1.0}


def test_images_come_back_pixel_by_pixel(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 24, 3), dtype=np.uint8)
    store = RunStore(tmp_path)
    relative, sha256 = store.write_image_file("abcd", png_bytes(image))
    assert relative == "images/ab/abcd.png"
    assert len(sha256) == 64
    assert (read_image(tmp_path / relative) == image).all()


def test_newest_part_of_a_trial_wins(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_results("one", [{**ROW, "status": "failed"}, {**ROW, "trial_id": "bb"}])
    store.write_results("two", [ROW])
    assert dict(store.results()[["trial_id", "status"]].to_numpy()) == {"aa": "ok", "bb": "ok"}
    store.write_results("one", [{**ROW, "trial_id": "cc"}])
    assert set(store.results()["trial_id"]) == {"aa", "bb", "cc"}


def test_scores_of_an_older_version_are_read_with_nulls_for_newer_columns(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    older = pa.schema([f for f in schema.SCORES if f.name not in ("n", "leave_one_out", "inputs")])
    row = {"metric": "kid", "level": "group", "value": 0.5}
    write_table(tmp_path / "scores" / "kid.parquet", pd.DataFrame([row]), older)
    store.write_scores("fid", pd.DataFrame([{**row, "metric": "fid", "n": 3, "inputs": "abc"}]))
    found = store.scores()
    assert found.columns.tolist() == schema.SCORES.names
    assert found.set_index("metric").loc["kid", "value"] == 0.5
    assert found.set_index("metric").loc["kid", ["n", "leave_one_out", "inputs"]].isna().all()
    assert found.set_index("metric").loc["fid", "inputs"] == "abc"


def test_missing_numbers_are_null(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_results("one", [ROW])
    assert store.results()["peak_memory_mib"].isna().all()
    assert pd.read_parquet(tmp_path / "results" / "one.parquet")["error"].isna().all()


def test_cases_come_back_as_they_were(tmp_path: Path) -> None:
    cases = [Case("a", "red", scene=(1, 2)), Case("b", "blue", "ugly", image_path="x.png")]
    store = RunStore(tmp_path)
    store.write_cases(cases)
    assert list(store.cases().values()) == cases


def test_second_writer_is_refused_and_a_later_one_is_not(tmp_path: Path) -> None:
    with RunStore(tmp_path).lock():
        code = "from bench.store.run_store import RunStore\n"
        code += f"with RunStore({str(tmp_path)!r}).lock(): pass"
        other = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "another run is writing" in other.stderr
    with RunStore(tmp_path).lock():
        pass


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    code = "from pathlib import Path\nfrom plugins_manifest.files import temporary_beside\n"
    code += f"temporary_beside(Path({str(tmp_path)!r}) / 'images' / 'x.png').write_bytes(b'half')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    old = tmp_path / "images" / f"{TEMPORARY_PREFIX}1-{'a' * 8}-x.png"  # of an earlier version
    old.write_bytes(b"half")
    of_the_user = tmp_path / "images" / f"{TEMPORARY_PREFIX}notes"
    of_the_user.write_bytes(b"kept")
    for path in (old, of_the_user):
        os.utime(path, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    with RunStore(tmp_path).lock():
        assert [p.name for p in (tmp_path / "images").iterdir()] == [f"{TEMPORARY_PREFIX}notes"]


def test_files_of_a_live_writer_of_another_host_are_kept(tmp_path: Path) -> None:
    here = temporary_beside(tmp_path / "x.png")
    elsewhere = tmp_path / f"{TEMPORARY_PREFIX}{'0' * 12}-{os.getpid()}-{'a' * 12}.png"
    for path in (here, elsewhere):
        path.write_bytes(b"half")
    with RunStore(tmp_path).lock():
        assert here.exists() and elsewhere.exists()


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(UserError, match=r"not a run directory.*thesis\.tex.*another --out"):
        RunStore(tmp_path).exists()
    with pytest.raises(UserError, match="is a file"):
        RunStore(tmp_path / "thesis.tex").exists()


def test_damaged_files_are_named_with_the_fix(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_run_facts({})
    (tmp_path / "run.json").write_text('{"format": ')
    with pytest.raises(UserError, match=r"run\.json is damaged.*xbench repair"):
        store.run_facts()
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="format 99"):
        store.run_facts()
    store.write_results("one", [ROW])
    part = tmp_path / "results" / "one.parquet"
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(UserError, match=r"one\.parquet is damaged.*xbench repair"):
        store.results()


def test_full_disk_is_one_clear_message_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    code = (
        "import resource, pathlib, sys\n"
        "from bench.store.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_bytes(pathlib.Path({str(path)!r}), b'x' * 5000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "no room left to write" in done.stderr
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folder_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"choose another"):
        write_bytes(tmp_path / "file" / "inner", b"x")
    denied = disk_error(PermissionError(errno.EACCES, "Permission denied"), tmp_path / "x")
    assert "cannot be written (Permission denied): change its rights" in str(denied)
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(UserError, match="cannot be written"):
            write_bytes(tmp_path / "closed" / "inner", b"x")


def test_the_newest_row_does_not_depend_on_a_clock(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_results("one", [{**ROW, "status": "failed", "error": "first"}])
    store.write_results("two", [{**ROW, "status": "failed", "error": "second"}])
    future = time.time() + 1e6
    os.utime(store.table_path("results", "one"), (future, future))
    assert store.results()["error"].tolist() == ["second"]


def test_of_several_rows_of_a_trial_the_one_with_its_image_counts(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    image, sha256 = store.write_image_file("aa", png_bytes(np.zeros((4, 4, 3), np.uint8)))
    store.write_results("one", [{**ROW, "image": image, "image_sha256": sha256}])
    store.write_results("two", [{**ROW, "status": "failed"}])
    assert store.results()["status"].tolist() == ["ok"]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_run_that_is_renamed_or_deleted_is_written_nowhere_else(
    tmp_path: Path, is_deleted: bool
) -> None:
    folder, moved = tmp_path / "run", tmp_path / "moved"
    store = RunStore(folder)
    with store.lock():
        store.write_results("one", [ROW])
        shutil.rmtree(folder) if is_deleted else folder.rename(moved)
        for write in (
            lambda: store.write_results("two", [ROW]),
            lambda: store.write_image_file("abcd", b"png"),
            lambda: store.write_run_facts({}),
        ):
            with pytest.raises(UserError, match="was renamed or deleted while it was written"):
                write()
    assert not folder.exists()
    if not is_deleted:
        assert not (moved / "results" / "two.parquet").exists()


def test_a_table_with_a_flipped_bit_is_damaged(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_results("one", [{**ROW, "seconds": 1.5 + i, "trial_id": str(i)} for i in range(50)])
    part = tmp_path / "results" / "one.parquet"
    content = bytearray(part.read_bytes())
    page = pq.ParquetFile(part).metadata.row_group(0).column(0).data_page_offset
    content[page + 40] ^= 1
    part.write_bytes(content)
    with pytest.raises(UserError, match=r"one\.parquet is damaged"):
        store.results()


def test_rescoring_ends_the_mark_of_scores_whose_images_changed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_results("one", [{**ROW, "image": "images/aa/aa.png", "image_sha256": "1"}])
    frame = pd.DataFrame([{"metric": "kid", "trial_id": "aa", "level": "image"}])
    store.write_scores("kid", frame)
    store.write_results("one", [{**ROW, "image": "images/aa/aa.png", "image_sha256": "1"}])
    assert store.stale_scores() == []
    store.write_results("one", [{**ROW, "image": "images/aa/aa.png", "image_sha256": "2"}])
    assert store.stale_scores() == ["kid"]
    store.write_scores("kid", frame)
    assert store.stale_scores() == []


def test_a_run_goes_on_where_scores_are_out_of_date_and_a_report_does_not(tmp_path: Path) -> None:
    store = draw_run(tmp_path / "run", n_cases=2)
    score_run(store, [EDGE_F1])
    row = store.results().to_dict("records")[0]
    store.write_results("all", [{**row, "status": "failed", "image": None, "image_sha256": None}])
    require_sound(store, may_miss=PARTS)
    with pytest.raises(UserError, match=r"edge-f1\.parquet.*\n.*xbench repair"):
        require_sound(store, TO_REPORT)
    score_run(store, [EDGE_F1])
    require_sound(store, TO_REPORT)
