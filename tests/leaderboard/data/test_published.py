"""Claims about reading published stores; the content of a store is untrusted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import constants
from streamlit.testing.v1 import AppTest

import leaderboard
from bench.errors import UserError
from bench.publish.format import object_name
from bench.publish.locations import FolderLocation, open_location
from bench.publish.object_cache import TableCache
from bench.publish.publish import publish_run
from bench.store.recent import RecentItems
from bench.store.run_store import RunStore
from bench.store.schema import PUBLISHED
from leaderboard.data.catalog import Run, read_run
from leaderboard.data.published import PublishedStore, with_tables
from leaderboard.data.sources import RESULTS_VARIABLE, current_runs, open_tables, shown_results
from leaderboard.data.tables import RunTables
from leaderboard.study.runs import files_of_run, study_of, study_sources
from tests.bench.dataset_hub import REPOSITORY, TOKEN, DatasetHub
from tests.leaderboard.drawn_results import write_gate, write_results
from tests.leaderboard.study_run import made_whole, write_study_run

pytestmark = pytest.mark.system

APP = str(Path(leaderboard.__file__).with_name("app.py"))
# stored under another name
PICTURES = {"image", "thumbnail", "condition_path", "conditions"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    store = write_results(tmp_path_factory.mktemp("runs") / "first", n_cases=2, n_seeds=1)
    write_gate(store, {"format": 1, "verdict": "pass", "tests": []})
    return store


@pytest.fixture
def board(run: RunStore, tmp_path: Path) -> Path:
    publish_run(run.folder, str(tmp_path / "board"))
    return tmp_path / "board"


def store_of(board: Path) -> PublishedStore:
    cache = TableCache(board.parent / "cache", source=board)
    return PublishedStore(FolderLocation(board), cache, refresh_seconds=0)


def only_run(board: Path) -> Run:
    (found,) = store_of(board).runs().values()
    return with_tables(found)


def rows(tables: RunTables, name: str) -> pd.DataFrame:
    columns = [c for c in PUBLISHED[name].names if c not in PICTURES]
    return tables.query(f"SELECT {', '.join(columns)} FROM {name} ORDER BY ALL")


def test_a_published_run_has_the_tables_of_the_run_itself(run: RunStore, board: Path) -> None:
    own, published = RunTables(read_run(run.folder)), RunTables(only_run(board))
    assert published.problems == [] and published.run.store is not None
    for name in PUBLISHED:
        pd.testing.assert_frame_equal(rows(published, name), rows(own, name))
    assert published.run.gate == {"format": 1, "verdict": "pass", "tests": []}
    assert published.run.label == own.run.label and published.run.adapter == own.run.adapter
    assert published.run.manifest["plugins"] == own.run.manifest["plugins"]


def test_a_new_publication_is_seen_and_a_removed_one_goes(run: RunStore, board: Path) -> None:
    store = store_of(board)
    assert list(store.runs()) == ["first"]
    publish_run(run.folder, str(board), key="again")
    assert set(store.runs()) == {"first", "again"}
    (board / "index" / "first.json").unlink()
    assert list(store.runs()) == ["again"]


def test_pictures_are_read_by_the_names_of_objects_and_nothing_else_is(board: Path) -> None:
    published = only_run(board)
    (name,) = RunTables(published).query("SELECT thumbnail FROM results LIMIT 1")["thumbnail"]
    assert published.files.read(name) == (board / name).read_bytes()
    (board.parent / "secret.webp").write_bytes(b"secret")
    table = next(board.rglob("*.parquet")).relative_to(board).as_posix()
    digest = name.split("/")[2]
    for other in (
        *("../secret.webp", str(board / name), "index/first.json", table, "", "a\0b"),
        *(f"{name}\n", f"objects/00/{digest}", f"objects/../{name}", name.upper()),
    ):
        assert published.files.read(other) is None, other


@pytest.mark.parametrize("damage", ["other content", "missing", "link", "huge"])
def test_pictures_that_are_not_what_their_name_says_are_none(board: Path, damage: str) -> None:
    published = only_run(board)
    (name,) = RunTables(published).query("SELECT thumbnail FROM results LIMIT 1")["thumbnail"]
    path = board / name
    content = path.read_bytes()
    path.unlink()
    if damage == "other content":
        path.write_bytes(content + b"x")
    elif damage == "link":
        (board.parent / "outside").write_bytes(content)
        path.symlink_to(board.parent / "outside")
    elif damage == "huge":
        path.touch()
        os.truncate(path, 65 << 20)
    assert published.files.read(name) is None


HOSTILE: dict[str, Callable[[dict], object]] = {
    "no mapping": lambda index: [1, 2],
    "nothing": lambda index: {},
    "another format": lambda index: {**index, "format": 99},
    "a format that is not a number": lambda index: {**index, "format": {"a": []}},
    "facts of another shape": lambda index: {**index, "facts": ["x"]},
    "no facts": lambda index: {k: v for k, v in index.items() if k != "facts"},
    "tables of another shape": lambda index: {**index, "tables": "objects"},
    "tables outside": lambda index: {**index, "tables": {"trials": ["../../etc/passwd", 5, None]}},
    "an absolute table": lambda index: {**index, "tables": {"scores": "/etc/passwd"}},
    "a table that is missing": lambda index: {
        **index,
        "tables": {**index["tables"], "scores": [object_name(b"gone", "parquet")]},
    },
    "a table that is a picture": lambda index: {
        **index,
        "tables": {"results": [object_name(b"", "webp")]},
    },
    "a manifest outside": lambda index: {**index, "manifest": "../first/manifest.yaml"},
    "a manifest that is missing": lambda index: {
        **index,
        "manifest": object_name(b"gone", "json"),
    },
    "a gate of another shape": lambda index: {**index, "gate": {"verdict": "pass"}},
    "a run in progress": lambda index: {**index, "facts": {"status": "running"}},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_index_is_a_problem_and_never_a_traceback(board: Path, kind: str) -> None:
    path = board / "index" / "first.json"
    path.write_text(json.dumps(HOSTILE[kind](json.loads(path.read_text()))))
    tables = RunTables(only_run(board))
    is_quiet = kind in ("facts of another shape", "no facts", "tables of another shape")
    assert bool(tables.problems) != is_quiet, tables.problems
    assert not any("Traceback" in text or "passwd" in text for text in tables.problems)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b" " * (2 << 20)])
def test_an_index_file_that_is_not_an_index_is_reported(board: Path, content: bytes) -> None:
    (board / "index" / "first.json").write_bytes(content)
    problems = RunTables(only_run(board)).problems
    assert len(problems) == 1 and "index/first.json" in problems[0]


def test_files_in_the_index_folder_with_other_names_are_left_alone(board: Path) -> None:
    for name in ("README.md", ".json", "a b.json", "x.json.tmp"):
        (board / "index" / name).write_text("{}")
    (board / "index" / "deep").mkdir()
    (board / "index" / "deep" / "a.json").write_text("{}")
    assert list(store_of(board).runs()) == ["first"]


@pytest.mark.parametrize("damage", ["other content", "cut", "huge"])
def test_a_table_that_is_not_what_its_name_says_is_reported_and_skipped(
    board: Path, damage: str
) -> None:
    index = json.loads((board / "index" / "first.json").read_text())
    path = board / index["tables"]["summary"][0]
    if damage == "huge":
        os.truncate(path, 257 << 20)
    else:
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut" else None] + b"x")
    tables = RunTables(only_run(board))
    assert len(tables.problems) == 1 and tables.count("summary") == 0
    assert tables.count("trials") == 24


def test_every_page_opens_on_a_damaged_store_and_says_so(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = json.loads((board / "index" / "first.json").read_text())
    (board / index["tables"]["compatibility"][0]).write_bytes(b"damaged")
    (board / "index" / "other.json").write_bytes(b"{")
    monkeypatch.setenv(RESULTS_VARIABLE, str(board))
    page = AppTest.from_file(APP, default_timeout=30).run()
    warnings = " ".join(warning.value for warning in page.warning).replace("\\", "")
    assert not page.exception and "does not match its name" in warnings
    assert "index/other.json is damaged" in warnings


def test_an_address_without_a_store_is_reported_on_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(RESULTS_VARIABLE, "ftp://example.org/x")
    page = AppTest.from_file(APP, default_timeout=30).run()
    assert not page.exception and "is not the address of a store" in page.warning[0].value


def test_the_study_is_the_same_on_the_published_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_whole(write_study_run(tmp_path / "runs" / "one"))
    publish_run(run.folder, str(tmp_path / "board"))
    studies = []
    for results in ("runs", "board"):
        monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path / results))
        (source,) = study_sources().values()
        studies.append(study_of(source))
    own, published = studies
    assert own.study_id == published.study_id and own.run_id == published.run_id
    assert [own.pair_id(p) for p in own.pairs] == [published.pair_id(p) for p in published.pairs]
    files = files_of_run(own.run_id)
    assert files is not None
    for picture in published.pictures:
        assert files.read(picture.image) is not None
        assert (picture.condition_path is not None) == (picture.plugin == "canny")
    assert files_of_run("another") is None


# --- a store on another machine


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_remote_store_is_listed_rarely_and_each_table_is_fetched_once(
    hub: DatasetHub, run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"hf://datasets/{REPOSITORY}"
    publish_run(run.folder, address)
    now = [0.0]
    cache = TableCache(tmp_path / "cache")
    store = PublishedStore(open_location(address), cache, clock=lambda: now[0])
    hub.requests.clear()
    first = with_tables(store.runs()["first"])
    tables = RunTables(first)
    assert tables.problems == [] and tables.count("trials") == 24
    n_asked = len(hub.requests)
    now[0] = 29.0
    assert with_tables(store.runs()["first"]).tables == first.tables
    (name,) = tables.query("SELECT thumbnail FROM results LIMIT 1")["thumbnail"]
    assert first.files.read(name) == first.files.read(name) != None  # noqa: E711
    assert len(hub.requests) == n_asked + 2  # a pointer and its content, fetched once
    publish_run(run.folder, address, key="second")
    assert list(store.runs()) == ["first"]
    now[0] = 31.0
    assert set(store.runs()) == {"first", "second"}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    gone = PublishedStore(open_location(address), cache, clock=lambda: now[0])
    assert gone.runs() == {} and "cannot be reached" in gone.problems[0]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_store_that_goes_away_keeps_its_runs_and_says_so(run: RunStore, tmp_path: Path, hub):
    address = f"hf://datasets/{REPOSITORY}"
    publish_run(run.folder, address)
    now = [0.0]
    cache = TableCache(tmp_path / "cache")
    store = PublishedStore(open_location(address), cache, clock=lambda: now[0])
    known = with_tables(store.runs()["first"])
    (name,) = RunTables(known).query("SELECT thumbnail FROM results LIMIT 1")["thumbnail"]
    hub._http.server_close()
    hub._http.shutdown()
    from huggingface_hub.utils import close_session

    close_session()  # an open connection would still be served
    now[0] = 60.0
    assert list(store.runs()) == ["first"] and "cannot be reached" in store.problems[0]
    assert RunTables(with_tables(store.runs()["first"])).problems == []
    assert known.files.read(name) is None


# --- the local cache


def test_the_cache_replaces_a_damaged_file_and_drops_what_was_used_longest_ago(
    tmp_path: Path,
) -> None:
    contents = [bytes([i]) * 1000 for i in range(4)]
    names = [object_name(content, "parquet") for content in contents]
    cache = TableCache(tmp_path, max_bytes=2500)
    for i in range(2):
        path = cache.path(names[i], lambda i=i: contents[i])
        os.utime(path, (i, i))
    (tmp_path / names[1]).write_bytes(b"damaged")
    assert TableCache(tmp_path).path(names[1], lambda: contents[1]).read_bytes() == contents[1]
    cache.path(names[2], lambda: contents[2])
    assert not (tmp_path / names[0]).exists()  # the others were used within the last hour
    assert (tmp_path / names[1]).exists() and (tmp_path / names[2]).exists()
    assert cache.path(names[0], lambda: contents[0]).read_bytes() == contents[0]


def test_pictures_in_memory_have_a_bound() -> None:
    memory, asked = RecentItems[str, bytes](100, size=len), []

    def content(i: int) -> Callable[[], bytes]:
        return lambda: asked.append(i) or bytes(40)

    for i in (0, 1, 0, 2, 0, 1):
        memory.get(str(i), content(i))
    assert asked == [0, 1, 2, 1]
    with pytest.raises(UserError):
        memory.get("none", lambda: (_ for _ in ()).throw(UserError("no")))


def test_without_results_the_shipped_ones_are_shown(
    run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RESULTS_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    address, is_shipped = shown_results()
    assert is_shipped and next(iter(current_runs())) == "pocket"
    assert open_tables(current_runs()["pocket"]).problems == []
    (tmp_path / "runs").symlink_to(run.folder.parent)
    assert shown_results() == ("runs", False) and list(current_runs()) == ["first"]
    monkeypatch.setenv(RESULTS_VARIABLE, "elsewhere")
    assert shown_results() == ("elsewhere", False) and Path(address).is_absolute()
