"""Claims about baselines in published stores: every URL that `xbench publish` writes."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from huggingface_hub import constants

from bench.cli.main import main
from bench.errors import UserError
from bench.gate import open_baseline
from bench.publish import publish_run
from bench.publish.format import object_name
from bench.store.files import png_bytes, write_bytes
from bench.store.run_store import RunStore
from tests.bench.dataset_hub import REPOSITORY, TOKEN, DatasetHub
from tests.bench.gate.gate_runs import POLICY, write_run
from tests.bench.s3_server import BUCKET, running_s3

pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
DATASET = f"hf://datasets/{REPOSITORY}"


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def s3_settings() -> Iterator[dict[str, str]]:
    with running_s3() as settings:
        yield settings


@pytest.fixture
def s3(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a baseline, an equal candidate and a worse one, and a policy."""
    root = tmp_path_factory.mktemp("runs")
    for name, facts in (
        ("baseline", {}),
        ("equal", {"noise_seed": 1, "mapper": "c" * 64}),
        ("worse", {"noise_seed": 2, "mapper": "d" * 64, "losses": {"edge-f1": 0.1}}),
    ):
        publishable(write_run(root / name, n_cases=30, seeds=(0,), **facts))
    (root / "policy.yaml").write_text(yaml.safe_dump({**POLICY, "min_prompts": 15}))
    return root


def publishable(store: RunStore) -> None:
    """Give every trial of a drawn run an image, and the run its tables, as `publish` demands."""
    rows = store.results().to_dict("records")
    for number, row in enumerate(rows):
        shade = number + len(store.folder.name)  # another in each run
        image = np.full((8, 8, 3), shade % 250, dtype=np.uint8)
        name, sha256 = store.write_image_file(row["trial_id"], png_bytes(image))
        row |= {"image": name, "image_sha256": sha256}
    scores = {path.stem: store.scores_of(path.stem) for path in store.table_paths("scores")}
    store.write_results("all", rows)
    for metric, frame in scores.items():  # of the images as they are now
        store.write_scores(metric, frame)
    for name in ("summary", "compatibility"):
        store.write_table(name, store.read_table(name))


@pytest.mark.parametrize("place", ["folder", "file", "hub", "s3"])
def test_a_gate_gives_the_same_tests_for_every_place_of_a_baseline(
    runs: Path,
    tmp_path: Path,
    hub: DatasetHub,
    s3: None,
    place: str,
) -> None:
    board = tmp_path / "board"
    address = {
        "folder": str(board),
        "file": f"file://{board}",
        "hub": f"{DATASET}/gates",
        "s3": f"s3://{BUCKET}/gates",
    }[place]
    pinned = publish_run(runs / "baseline", address).baseline
    assert pinned is not None and pinned.startswith(f"{address}#baseline@sha256:")
    for candidate, code in (("equal", 0), ("worse", 1)):
        words = (runs / candidate, "--policy", runs / "policy.yaml", "--json")
        expected = call("gate", runs / "baseline", *words)
        found = call("gate", pinned, *words)
        assert found.exit_code == expected.exit_code == code, found.output
        facts, wanted = json.loads(found.stdout), json.loads(expected.stdout)
        assert facts["tests"] == wanted["tests"] and len(facts["tests"]) == 3
        assert facts["baseline"]["folder"].endswith(pinned.removeprefix("file://"))


def test_a_pinned_baseline_is_downloaded_once(runs: Path, hub: DatasetHub) -> None:
    pinned = publish_run(runs / "baseline", DATASET).baseline
    assert pinned is not None
    hub.requests.clear()
    first = open_baseline(pinned)
    assert len(hub.requests) > 4
    hub.requests.clear()
    assert open_baseline(pinned) == first and hub.requests == []
    assert open_baseline(f"{DATASET}#baseline") == first and len(hub.requests) == 1


def test_an_interrupted_download_goes_on_with_what_is_missing(runs: Path, hub: DatasetHub) -> None:
    publish_run(runs / "baseline", DATASET)
    (lost,) = json.loads(hub.files["index/baseline.json"])["tables"]["scores"]
    content = hub.files.pop(lost)
    with pytest.raises(UserError, match="is not in the store"):
        open_baseline(DATASET)
    hub.files[lost] = content
    hub.requests.clear()
    open_baseline(DATASET)
    tables = [request for request in hub.requests if "storage/" in request]
    assert 1 <= len(tables) < sum(name.endswith(".parquet") for name in hub.files)


def test_a_pin_that_does_not_fit_is_one_clear_error(runs: Path, tmp_path: Path) -> None:
    board = str(tmp_path / "board")
    pinned = publish_run(runs / "baseline", board).baseline
    assert pinned is not None
    index = tmp_path / "board" / "index" / "baseline.json"
    index.write_text(index.read_text() + "\n")  # as after another publication
    result = call("gate", pinned, runs / "equal", "--policy", runs / "policy.yaml")
    assert result.exit_code == 2 and result.stderr.count("Error") == 1
    assert "is not what it is pinned to" in result.stderr and pinned[-64:] in result.stderr


def test_changed_bytes_of_an_object_are_refused(runs: Path, hub: DatasetHub) -> None:
    publish_run(runs / "baseline", DATASET)
    name = next(name for name in hub.files if name.endswith(".json") and "objects" in name)
    hub.files[name] += b" "
    with pytest.raises(UserError, match="does not match its name"):
        open_baseline(DATASET)


def test_a_damaged_copy_in_the_cache_is_made_again(runs: Path, tmp_path: Path) -> None:
    pinned = publish_run(runs / "baseline", str(tmp_path / "board")).baseline
    store = RunStore(open_baseline(str(pinned)))
    before = store.trials()
    store.table_path("trials").write_bytes(b"damaged")
    assert RunStore(open_baseline(str(pinned))).trials().equals(before)


@pytest.mark.parametrize(
    ("fragment", "message"),
    [
        ("", "has 2 runs .*name one, such as"),
        ("#baselin", "unknown run 'baselin': use baseline, worse"),
        ("#", "does not name a run"),
        ("#baseline@sha256:12", "does not name a run"),
        ("#baseline@main", "does not name a run"),
    ],
)
def test_a_wrong_name_of_a_run_is_explained(
    runs: Path, tmp_path: Path, fragment: str, message: str
) -> None:
    for name in ("baseline", "worse"):
        publish_run(runs / name, str(tmp_path / "board"))
    with pytest.raises(UserError, match=message):
        open_baseline(f"{tmp_path}/board{fragment}")


def test_a_store_of_an_earlier_version_says_so(runs: Path, tmp_path: Path) -> None:
    publish_run(runs / "baseline", str(tmp_path / "board"))
    index = tmp_path / "board" / "index" / "baseline.json"
    facts = json.loads(index.read_text())
    del facts["comparison"]
    index.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="publish the run again"):
        open_baseline(f"{tmp_path}/board#baseline")


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "", "a" * 300])
def test_a_hostile_store_writes_nothing_outside_of_its_folder(
    runs: Path, tmp_path: Path, name: str
) -> None:
    publish_run(runs / "baseline", str(tmp_path / "board"))
    index = tmp_path / "board" / "index" / "baseline.json"
    facts = json.loads(index.read_text())
    frame = RunStore(runs / "baseline").trials()
    frame.loc[0, "trial_id"] = name
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    facts["tables"]["trials"] = [object_name(buffer.getvalue(), "parquet")]
    write_bytes(tmp_path / "board" / facts["tables"]["trials"][0], buffer.getvalue())
    index.write_text(json.dumps(facts))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="is not a name"):
        open_baseline(f"{tmp_path}/board#baseline")
    cache = tmp_path / "cache"
    assert sorted(p for p in tmp_path.rglob("*") if not p.is_relative_to(cache)) == before
    assert list((cache / "baselines").iterdir()) == []


def test_prompts_of_plugins_that_are_not_published_stay_private(runs: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "marked")
    shutil.copytree(runs / "baseline", store.folder)
    data = store.manifest().as_data()
    data["plugins"][0]["nsfw"] = True
    store.write_manifest(data)
    publish_run(store.folder, str(tmp_path / "board"))
    found = RunStore(open_baseline(f"{tmp_path}/board"))
    assert set(found.trials()["plugin"]) == {"style"} == set(found.scores()["plugin"])
    texts = [path.read_bytes() for path in (tmp_path / "board").rglob("*") if path.is_file()]
    assert len(texts) > 5 and not any(str(tmp_path).encode() in text for text in texts)
