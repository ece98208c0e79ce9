"""Claims about `xbench publish` into a folder of this machine."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from bench.cli.main import main
from bench.errors import UserError
from bench.publish.format import MAX_OBJECT_BYTES, is_content, is_object
from bench.publish.pictures import Thumbnails
from bench.publish.publish import publish_run
from bench.store.files import sha256_of
from bench.store.run_store import RunStore
from bench.store.schema import PUBLISHED
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.study_run import made_whole, write_study_run


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return write_results(tmp_path / "runs" / "first", n_cases=2, n_seeds=1)


def score_again(store: RunStore, *, without: str = "") -> None:
    """Write all scores again, but those of one trial, as scoring does after a change."""
    for path in store.table_paths("scores"):
        frame = store.scores_of(path.stem)
        store.write_scores(path.stem, frame[frame["trial_id"] != without])


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def table(folder: Path, name: str, key: str = "first"):
    index = json.loads((folder / "index" / f"{key}.json").read_text())
    return pq.read_table([folder / part for part in index["tables"][name]])


def test_a_store_holds_one_index_file_and_objects_named_by_their_content(
    store: RunStore, tmp_path: Path
) -> None:
    done = publish_run(store.folder, str(tmp_path / "board"))
    files = files_of(tmp_path / "board")
    index = json.loads(files.pop("index/first.json"))
    assert index["format"] == 1 and set(index["tables"]) == set(PUBLISHED)
    assert all(is_object(name, "parquet", "webp", "json") for name in files)
    assert all(is_content(name, content) for name, content in files.items())
    assert done.n_objects == len(files) + 1 == done.n_new and done.n_trials == 24


def test_a_second_publication_writes_nothing(store: RunStore, tmp_path: Path) -> None:
    arguments = ["publish", str(store.folder), "--to", str(tmp_path / "board")]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0 and "xbench leaderboard" in first.stdout
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "board").rglob("*")}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0 and "uploaded: nothing" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "board").rglob("*")} == before
    text = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(text.stdout)["n_new"] == 0


def test_lost_and_changed_pictures_are_made_anew(store: RunStore, tmp_path: Path) -> None:
    board = tmp_path / "board"
    publish_run(store.folder, str(board))
    before = files_of(board)
    (lost, *_) = [name for name in before if name.endswith(".webp")]
    (board / lost).unlink()
    assert publish_run(store.folder, str(board)).n_new == 1 and files_of(board) == before
    rows = store.results().to_dict("records")
    fresh = Image.new("RGB", (24, 24), (9, 99, 199))
    fresh.save(store.folder / rows[0]["image"])
    rows[0]["image_sha256"] = sha256_of((store.folder / rows[0]["image"]).read_bytes())
    store.write_results("all", rows)
    with pytest.raises(UserError, match="an image that it scores has changed since"):
        publish_run(store.folder, str(board))
    score_again(store)
    assert publish_run(store.folder, str(board)).n_new == 3  # picture, results, index
    (row,) = [
        r for r in table(board, "results").to_pylist() if r["trial_id"] == rows[0]["trial_id"]
    ]
    assert Image.open(board / row["thumbnail"]).tobytes() == fresh.tobytes()


@pytest.mark.parametrize("old", [b"", b"[]", b'{"facts": 5, "tables": {"results": ["../x", 3]}}'])
def test_a_damaged_index_is_replaced(store: RunStore, tmp_path: Path, old: bytes) -> None:
    publish_run(store.folder, str(tmp_path / "board"))
    index = tmp_path / "board" / "index" / "first.json"
    good = index.read_bytes()
    index.write_bytes(old)
    assert publish_run(store.folder, str(tmp_path / "board")).n_new == 1
    assert index.read_bytes() == good


def test_two_runs_share_a_store_and_a_key_belongs_to_one(store: RunStore, tmp_path: Path) -> None:
    other = write_results(tmp_path / "runs" / "second", n_cases=2, n_seeds=1, adapter="b" * 64)
    board = str(tmp_path / "board")
    publish_run(store.folder, board)
    before = files_of(tmp_path / "board")
    second = publish_run(other.folder, board)
    assert before.items() <= files_of(tmp_path / "board").items()
    assert second.n_new < second.n_objects  # pictures of the same pixels are there once
    with pytest.raises(UserError, match="another run under the key 'first'"):
        publish_run(other.folder, board, key="first")


def test_thumbnails_are_small_lossless_where_they_can_be_and_never_enlarged(
    tmp_path: Path,
) -> None:
    run = write_study_run(tmp_path / "run", n_cases=1)
    rows = run.results()
    big = run.folder / rows["image"][0]
    Image.linear_gradient("L").resize((640, 320)).save(big)
    store = made_whole(run)
    publish_run(store.folder, str(tmp_path / "board"))
    published = table(tmp_path / "board", "results", "run").to_pylist()
    for row, original in zip(published, store.results()["image"], strict=True):
        small = Image.open(io.BytesIO((tmp_path / "board" / row["thumbnail"]).read_bytes()))
        picture = Image.open(store.folder / original).convert("RGB")
        assert row["image"] is None and small.format == "WEBP" and not small.info.get("exif")
        if picture.size == (640, 320):
            assert small.size == (256, 128)
        else:
            assert small.size == picture.size and small.tobytes() == picture.tobytes()
    conditions = set(table(tmp_path / "board", "trials", "run")["condition_path"].to_pylist())
    assert all(is_object(name, "webp") for name in conditions - {None}) and len(conditions) == 2


def test_small_thumbnails_may_have_a_quality_and_are_made_anew_in_another(
    store: RunStore, tmp_path: Path
) -> None:
    where = str(tmp_path / "board")
    publish_run(store.folder, where)
    small = publish_run(store.folder, where, thumbnails=Thumbnails(small_quality=80))
    assert small.n_new > 1
    again = publish_run(store.folder, where, thumbnails=Thumbnails(small_quality=80))
    assert again.n_new == 0
    named = [n for n in table(tmp_path / "board", "results")["thumbnail"].to_pylist() if n]
    assert all(b"VP8 " in (tmp_path / "board" / n).read_bytes()[:16] for n in named)


def test_originals_come_when_asked_for_and_hold_pixels_alone(tmp_path: Path) -> None:
    run = made_whole(write_study_run(tmp_path / "run", n_cases=1))
    publish_run(run.folder, str(tmp_path / "board"), images=True)
    for row in table(tmp_path / "board", "results", "run").to_pylist():
        found = Image.open(tmp_path / "board" / row["image"])
        found.load()
        name = run.results().set_index("trial_id")["image"][row["trial_id"]]
        original = Image.open(run.folder / name)
        assert original.text and not found.info
        assert found.tobytes() == original.tobytes()


def test_everything_wrong_with_a_run_is_told_at_once_and_nothing_written(
    store: RunStore, tmp_path: Path
) -> None:
    store.write_run_facts({**store.run_facts(), "status": "interrupted"})
    images = store.results()["image"]
    (store.folder / images[0]).write_bytes(b"damaged")
    (store.folder / images[1]).unlink()
    rows = store.results().to_dict("records")
    rows[2]["image"] = "../../secret.png"
    (tmp_path / "secret.png").write_bytes(b"x")
    store.write_results("all", rows)
    lost = store.trials().to_dict("records")
    store.write_trials([*lost, {**lost[0], "trial_id": "never-made"}])
    summary = store.tables_dir / "summary.parquet"
    summary.write_bytes(summary.read_bytes()[:50])
    result = CliRunner().invoke(
        main, ["publish", str(store.folder), "--to", str(tmp_path / "board")]
    )
    assert result.exit_code == 2 and not (tmp_path / "board").exists()
    for text in (
        "status is 'interrupted'",
        f"{images[0]}: its sha256 is not",
        f"{images[1]}: is missing",
        "is outside of the run directory",
        "1 trials have no result",
        "summary.parquet: its sha256 is not",
        "xbench repair",
    ):
        assert text in result.output


def test_a_key_and_an_address_that_cannot_be_are_refused(store: RunStore, tmp_path: Path) -> None:
    for key in ("../first", "a/b", ".hidden", "a\n"):
        with pytest.raises(UserError, match="cannot be a key"):
            publish_run(store.folder, str(tmp_path / "board"), key=key)
    for address in ("ftp://host/x", "hf://models/a/b", "hf://datasets/a", "s3://"):
        with pytest.raises(UserError):
            publish_run(store.folder, address)


def test_a_publication_that_fails_before_its_index_shows_the_old_state_and_can_be_completed(
    store: RunStore, tmp_path: Path
) -> None:
    board = tmp_path / "board"
    publish_run(store.folder, str(board), key="old")
    old = (board / "index" / "old.json").read_bytes()
    other = write_results(tmp_path / "runs" / "second", n_cases=3, n_seeds=1, adapter="b" * 64)
    (board / "index" / "second.json").mkdir()  # in the way of the new index
    with pytest.raises((UserError, IsADirectoryError)):
        publish_run(other.folder, str(board))
    assert (board / "index" / "old.json").read_bytes() == old
    (board / "index" / "second.json").rmdir()
    done = publish_run(other.folder, str(board))
    assert done.n_new == 1  # the objects were there


def test_failed_trials_are_published_without_an_image_and_with_the_error_s_kind_alone(
    store: RunStore, tmp_path: Path
) -> None:
    rows = store.results().to_dict("records")
    rows[0] |= {"status": "failed", "image": None, "image_sha256": None}
    rows[0]["error"] = "RuntimeError: no file /data/private/x.safetensors"
    store.write_results("all", rows)
    score_again(store, without=rows[0]["trial_id"])
    store.write_run_facts({**store.run_facts(), "status": "failed trials"})
    assert publish_run(store.folder, str(tmp_path / "board")).n_failed == 1
    failed = [row for row in table(tmp_path / "board", "results").to_pylist() if row["error"]]
    assert [(row["error"], row["thumbnail"]) for row in failed] == [("RuntimeError", None)]


def nsfw_run(store: RunStore) -> RunStore:
    """Return the run with a LoRA that is marked and has a prompt and a stack of its own."""
    manifest = yaml.safe_load((store.folder / "manifest.yaml").read_text())
    manifest["plugins"][1]["nsfw"] = True
    members = [{"id": "canny-net"}, {"id": "ink-lora"}]
    store.write_manifest({**manifest, "stacks": [{"id": "both", "plugins": members}]})
    trials, results = store.trials().to_dict("records"), store.results().to_dict("records")
    lora = next(row for row in trials if row["plugin"] == "ink-lora")
    done = next(row for row in results if row["trial_id"] == lora["trial_id"])
    own = {"case_id": "ink-lora-0000", "base_prompt": "a naughty word"}
    extra = [
        {**lora, "trial_id": "extra-lora", **own},
        {**lora, "trial_id": "extra-floor", "plugin": "", "kind": "", **own},
        {**lora, "trial_id": "extra-stack", "plugin": "both", "kind": "stack"},
    ]
    store.write_trials([*trials, *extra])
    png = (store.folder / done["image"]).read_bytes()
    images = {row["trial_id"]: store.write_image_file(row["trial_id"], png)[0] for row in extra}
    results = [{**done, "trial_id": trial, "image": image} for trial, image in images.items()]
    store.write_results("extra", results)
    facts = store.run_facts()
    command = "xbench run --manifest drawn --plugins canny-net,ink-lora,both"
    chosen = {"plugins": ["canny-net", "ink-lora", "both"]}
    store.write_run_facts({**facts, "command": command, "selection": chosen})
    return store


def test_nsfw_plugins_are_left_out_everywhere_unless_asked_for(
    store: RunStore, tmp_path: Path
) -> None:
    nsfw_run(store)
    done = publish_run(store.folder, str(tmp_path / "board"))
    assert (done.n_nsfw_left_out, done.n_plugins, done.n_trials) == (2, 1, 12)
    for name in PUBLISHED:
        rows = table(tmp_path / "board", name).to_pylist()
        assert "ink" not in str(rows) and "naughty" not in str(rows) and "both" not in str(rows)
    for name, content in files_of(tmp_path / "board").items():
        assert not name.endswith(".json") or not any(w in content for w in (b"ink-lora", b"both"))
    kept = publish_run(store.folder, str(tmp_path / "all"), nsfw=True)
    assert (kept.n_nsfw_left_out, kept.n_plugins, kept.n_trials) == (0, 3, 27)


def test_what_no_reader_would_take_is_refused_before_anything_is_written(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {ending: 64 if ending == "parquet" else 1 << 20 for ending in MAX_OBJECT_BYTES}
    monkeypatch.setattr("bench.publish.pictures.MAX_OBJECT_BYTES", limits)
    place = tmp_path / "place"
    with pytest.raises(UserError, match="above the limit of readers"):
        publish_run(store.folder, str(place))
    assert not place.exists() or not any(place.rglob("*.json"))
