"""Claims about `xbench publish` to S3 and to the Hub, each a real server of this machine."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from PIL import Image

from bench.errors import UserError
from bench.publish.base import UnreachableError
from bench.publish.locations import open_location
from bench.publish.publish import publish_run
from bench.store.run_store import RunStore
from leaderboard.data.sources import current_runs, open_tables, results_problems
from tests.bench.dataset_hub import REPOSITORY, TOKEN, DatasetHub
from tests.bench.s3_server import BUCKET, running_s3, s3_client
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.study_run import made_whole

# of the Hub's library itself, in its uploads
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
DATASET = f"hf://datasets/{REPOSITORY}"


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with running_s3() as settings:
        yield settings


@pytest.fixture
def s3(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    # the Hub's other protocol for large files needs more than a server of one page
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.may_commit.set()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return write_results(tmp_path_factory.mktemp("runs") / "first", n_cases=2, n_seeds=1)


def objects_of(settings: dict[str, str], prefix: str) -> dict[str, bytes]:
    client = s3_client(settings)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    names = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {
        name.removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        for name in names
    }


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_every_place_gets_the_same_bytes(
    s3: dict[str, str], hub: DatasetHub, store: RunStore, tmp_path: Path
) -> None:
    publish_run(store.folder, str(tmp_path / "board"))
    publish_run(store.folder, f"s3://{BUCKET}/same")
    publish_run(store.folder, f"{DATASET}/sub/folder")
    local = files_of(tmp_path / "board")
    assert objects_of(s3, "same/") == local
    assert {name.removeprefix("sub/folder/"): c for name, c in hub.files.items()} == local


def test_a_second_publication_to_s3_uploads_nothing(s3: dict[str, str], store: RunStore) -> None:
    assert publish_run(store.folder, f"s3://{BUCKET}/twice").n_new > 10
    assert publish_run(store.folder, f"s3://{BUCKET}/twice").n_new == 0


def test_the_leaderboard_reads_s3(
    s3: dict[str, str], store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"s3://{BUCKET}/read"
    monkeypatch.setenv("XBENCH_RESULTS", address)
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    assert current_runs() == {} and results_problems() == ()
    publish_run(store.folder, f"{address}-full")
    monkeypatch.setenv("XBENCH_RESULTS", f"{address}-full")
    (run,) = current_runs().values()
    tables = open_tables(run)
    assert tables.problems == [] and tables.count("trials") == 24
    cached = [path for path in (tmp_path / "cache").rglob("*.parquet")]
    assert len(cached) == 6
    (name,) = tables.query("SELECT thumbnail FROM results LIMIT 1")["thumbnail"]
    content = run.files.read(name)
    assert content is not None and Image.open(io.BytesIO(content)).size == (32, 32)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("XBENCH_RESULTS", f"{address}-elsewhere")
    assert current_runs() == {} and "cannot be reached" in results_problems()[0]


def test_objects_lost_on_s3_come_back(s3: dict[str, str], store: RunStore) -> None:
    address = f"s3://{BUCKET}/lost"
    publish_run(store.folder, address)
    before = objects_of(s3, "lost/")
    lost = sorted(name for name in before if name.endswith(".webp"))[:3]
    for name in [*lost, "index/first.json"]:  # as after a kill: some objects, no index
        s3_client(s3).delete_object(Bucket=BUCKET, Key=f"lost/{name}")
    assert publish_run(store.folder, address).n_new == 4
    assert objects_of(s3, "lost/") == before


def test_what_s3_refuses_is_told_with_what_to_do(
    s3: dict[str, str], store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no such bucket"):
        publish_run(store.folder, "s3://nowhere/x")
    assert open_location("s3://nowhere/x").read("index/a.json", limit_bytes=10) is None
    place = open_location(f"s3://{BUCKET}/sizes")
    s3_client(s3).put_object(Bucket=BUCKET, Key="sizes/a", Body=b"12345")
    assert place.read("a", limit_bytes=5) == b"12345" and place.listing("") != {}
    with pytest.raises(UserError, match="has more than"):
        place.read("a", limit_bytes=4)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        publish_run(store.folder, f"s3://{BUCKET}/x")


def test_a_publication_to_the_hub_is_one_commit_and_a_second_none(
    hub: DatasetHub, store: RunStore
) -> None:
    publish_run(store.folder, DATASET)
    assert hub.commits == ["xbench publish: first"]
    assert "index/first.json" in hub.files and len(hub.files) > 10
    hub.requests.clear()
    assert publish_run(store.folder, DATASET).n_new == 0
    assert len(hub.commits) == 1 and not any(r.startswith(("POST", "PUT")) for r in hub.requests)


def test_what_the_hub_refuses_is_told_with_what_to_do(
    hub: DatasetHub, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="unset HF_HUB_OFFLINE"):
            publish_run(store.folder, DATASET)
    with pytest.raises(UserError, match="create the dataset"):
        publish_run(store.folder, "hf://datasets/org/nothing")
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(UserError, match=r"status 403.*HF_TOKEN"):
        publish_run(store.folder, DATASET)
    assert hub.files == {}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="HF_ENDPOINT"):
        publish_run(store.folder, DATASET)


@pytest.mark.slow
def test_a_publication_killed_before_its_commit_changes_nothing(
    hub: DatasetHub, store: RunStore
) -> None:
    hub.files = {"index/old.json": b"{}"}
    hub.may_commit.clear()
    command = [
        sys.executable,
        "-m",
        "bench.cli.main",
        "publish",
        str(store.folder),
        "--to",
        DATASET,
    ]
    settings = {**os.environ, "HF_HUB_DISABLE_XET": "1"}
    process = subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL)
    assert hub.commit_asked.wait(60)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert set(hub.files) == {"index/old.json"} and hub.storage
    hub.may_commit.set()


def test_a_publication_killed_amid_uploads_shows_the_old_state_and_can_be_completed(
    s3: dict[str, str], tmp_path: Path
) -> None:
    store = write_results(tmp_path / "many", n_cases=6, n_seeds=1)
    for number, name in enumerate(store.results()["image"]):
        _draw(store.folder / name, number)
    made_whole(store)
    address = f"s3://{BUCKET}/killed"
    command = [
        sys.executable,
        "-m",
        "bench.cli.main",
        "publish",
        str(store.folder),
        "--to",
        address,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None and b"uploading" in process.stderr.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    found = objects_of(s3, "killed/")
    assert not any(name.startswith("index/") for name in found)
    done = publish_run(store.folder, address)
    assert done.n_new == done.n_objects - len(found)
    assert len(objects_of(s3, "killed/")) == done.n_objects


def _draw(path: Path, number: int) -> None:
    import numpy as np

    noise = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
