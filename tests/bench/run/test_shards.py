"""Claims about shards: processes that each render a part of a run, and the run made of them."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.render.audit import read_audits
from bench.store.run_store import RunStore
from bench.store.status import SHARD_DONE
from tests.bench.chaos import MEASURED, RUN
from tests.warm import WarmProcess

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("pocket_weights", "one_thread")]
OPTIONS = ["--manifest", "pocket-smoke", "--methods", "base,floor,sdedit", "--no-cache"]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute as the processes do, to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(out: Path, *more: str) -> WarmProcess:
    """Start `xbench run` in a process of its own, with one thread."""
    words = ("run", *OPTIONS, "--out", str(out), *more)
    log = out.parent / f"{out.name}{'-'.join(more).replace('/', '-')}.log"
    env = {**os.environ, "XBENCH_CACHE": str(out.parent / "cache"), "OMP_NUM_THREADS": "1"}
    return WarmProcess(RUN, *words, env=env, output=log, errors=log)


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, words)))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of one process and one of three; the second was killed once."""
    folder = tmp_path_factory.mktemp("rendered")
    shared = folder / "shared"
    first, second, third = (start(shared, "--shard", f"{i}/3") for i in (1, 2, 3))
    one = start(folder / "one")
    killed = RunStore(shared / "shards" / "2-of-3")
    while second.poll() is None and not killed.image_ids():
        time.sleep(0.005)
    second.kill()
    assert second.wait() == -signal.SIGKILL
    assert killed.finished_trials() == set()  # its batch was broken off
    again = start(shared, "--shard", "2/3")
    for process in (first, third, again, one):
        assert process.wait() == 0, [path.read_text() for path in folder.glob("*.log")]
    return folder


def require_equal(run: Path, other: Path) -> None:
    """Compare two runs: byte by byte, tables with measured columns without those."""
    files = [
        {p.relative_to(f): p for p in f.rglob("*") if p.is_file() and p.name[0] != "."}
        for f in (run, other)
    ]
    found, expected = (
        {name: path for name, path in listed.items() if name.parts[0] != "shards"}
        for listed in files
    )
    assert found.keys() == expected.keys()
    for name, path in found.items():
        if name.parts[0] == "results" or name.name in ("summary.parquet", "compatibility.parquet"):
            one, two = (
                frame.drop(columns=[column for column in MEASURED if column in frame])
                for frame in map(pd.read_parquet, (path, expected[name]))
            )
            pd.testing.assert_frame_equal(one, two, check_exact=True)
        elif name.suffix in (".parquet", ".png", ".yaml") or "conditions" in name.parts:
            assert path.read_bytes() == expected[name].read_bytes(), name


def test_processes_that_share_a_folder_equal_one_process(rendered: Path) -> None:
    require_equal(rendered / "shared", rendered / "one")
    assert len(read_audits(RunStore(rendered / "shared"))) == 2
    assert invoke("repair", rendered / "shared", "--check").exit_code == 0


def test_the_run_records_its_shards(rendered: Path) -> None:
    facts = RunStore.open(rendered / "shared").run_facts()
    assert facts["status"] == "complete"
    assert [one["shard"] for one in facts["shards"]] == ["1/3", "2/3", "3/3"]
    assert sum(one["counts"]["trials"] for one in facts["shards"]) > 0
    assert {one["render_context"] for one in facts["shards"]} == {facts["render_context"]}


def test_a_shard_names_itself_in_its_plan_and_its_end(rendered: Path) -> None:
    dry = invoke("run", *OPTIONS, "--shard", "1/3", "--dry-run")
    assert dry.output.startswith("pocket-smoke, shard 1/3: ")
    logs = [path.read_text() for path in rendered.glob("*.log")]
    assert sum("not complete in this folder: shards " in log for log in logs) >= 1
    assert sum("of 10 images" in log for log in logs) == 2  # one process, and the last shard


@pytest.fixture
def apart(rendered: Path, tmp_path: Path) -> list[Path]:
    """Return a folder for each shard, as if written on different machines."""
    folders = [tmp_path / name for name in "abc"]
    for i, folder in enumerate(folders, 1):
        name = f"{i}-of-3"
        shutil.copytree(rendered / "shared" / "shards" / name, folder / "shards" / name)
    return folders


def test_folders_written_apart_merge_into_the_run_of_one_process(
    rendered: Path, apart: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    merged = invoke("merge", out, apart[2], apart[0], apart[1] / "shards" / "2-of-3", "--json")
    assert merged.exit_code == 0, merged.output
    facts = json.loads(merged.stdout)
    assert (facts["n_trials"], facts["n_failed"], facts["is_merged"]) == (10, 0, True)
    require_equal(out, rendered / "one")
    for folder in apart:
        for part in folder.glob("shards/*/results/*.parquet"):
            assert part.read_bytes() == (out / "results" / part.name).read_bytes()
    before = (out / "tables" / "summary.parquet").read_bytes()
    assert invoke("merge", out, *apart).exit_code == 0
    assert (out / "tables" / "summary.parquet").read_bytes() == before


def test_a_run_without_shards_takes_over_what_they_have(
    rendered: Path, apart: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for folder in (apart[0], apart[2]):
        shutil.copytree(folder / "shards", out / "shards", dirs_exist_ok=True)
    result = invoke("run", *OPTIONS, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    n_missing = len(RunStore(apart[1] / "shards" / "2-of-3").results())
    assert json.loads(result.stdout)["n_rendered"] == n_missing < 10
    require_equal(out, rendered / "one")


def test_a_limit_ends_a_shard_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ["run", *OPTIONS, "--out", tmp_path, "--shard", "1/3"]
    first = invoke(*words, "--max-images", "1", "--json")
    assert first.exit_code == 3
    facts = json.loads(first.stdout)
    assert facts["stopped"] and facts["n_open"] > 0 and facts["shard"] == "1/3"
    store = RunStore(tmp_path / "shards" / "1-of-3")
    assert store.run_facts()["status"] == "budget reached"
    second = invoke(*words)
    assert second.exit_code == 0
    assert "shard 1/3: 4 of 4 images, 0 failed" in second.output
    assert "not complete in this folder: shards 2/3, 3/3" in second.output
    assert store.run_facts()["status"] == SHARD_DONE


def refusal(*words: str | Path) -> str:
    """Return the message of a command that has to be refused."""
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_missing_shard_is_named_with_its_command(apart: list[Path], tmp_path: Path) -> None:
    text = refusal("merge", tmp_path / "out", apart[0], apart[2])
    assert "shard 2/3 is missing: run: xbench run --manifest pocket-smoke" in text
    assert text.rstrip().endswith("--shard 2/3")
    assert not (tmp_path / "out").exists()


def test_a_shard_that_is_not_complete_is_named(apart: list[Path], tmp_path: Path) -> None:
    store = RunStore(apart[1] / "shards" / "2-of-3")
    store.write_run_facts({**store.run_facts(), "status": "interrupted"})
    text = refusal("merge", tmp_path / "out", *apart)
    assert "is not complete (interrupted): run: xbench run" in text and "--shard 2/3" in text


def test_a_shard_in_two_folders_is_refused(apart: list[Path], tmp_path: Path) -> None:
    shutil.copytree(apart[0], tmp_path / "copy")
    text = refusal("merge", tmp_path / "out", *apart, tmp_path / "copy")
    assert "shard 1/3 is in both" in text and "leave one of them out" in text


def test_a_folder_without_shards_is_refused(rendered: Path, tmp_path: Path) -> None:
    assert "there are no shards in" in refusal("merge", tmp_path / "out")
    text = refusal("merge", tmp_path / "out", rendered / "one")
    assert "there are no shards in" in text and "--shard I/N --out" in text


def test_shards_of_another_number_are_refused(apart: list[Path], tmp_path: Path) -> None:
    text = refusal("run", *OPTIONS, "--out", apart[0], "--shard", "1/4")
    assert "is shard 1/3, and others are of 4: give all of them the same N" in text
    store = RunStore(apart[1] / "shards" / "2-of-3")
    store.write_run_facts({**store.run_facts(), "shard": "2/4"})
    assert "the same N in --shard I/N" in refusal("merge", tmp_path / "out", *apart)


def test_shards_of_another_manifest_are_refused(apart: list[Path], tmp_path: Path) -> None:
    text = refusal("run", "--manifest", "pocket", "--out", apart[0], "--shard", "2/3")
    assert "holds a run of another manifest" in text
    store = RunStore(apart[1] / "shards" / "2-of-3")
    store.write_run_facts({**store.run_facts(), "manifest_fingerprint": "f" * 64})
    assert "another manifest" in refusal("merge", tmp_path / "out", *apart)


def test_shards_of_another_plan_are_refused(apart: list[Path], tmp_path: Path) -> None:
    words = ("run", *OPTIONS, "--limit", "1", "--out", apart[0], "--shard", "2/3")
    text = refusal(*words)
    assert "1-of-3 has another plan" in text and "with the same options and files" in text
    store = RunStore(apart[1] / "shards" / "2-of-3")
    store.write_table("trials", store.trials().head(4))
    text = refusal("merge", tmp_path / "out", *apart)
    assert "2-of-3 has another plan, 4 trials where the others have 10" in text


def test_a_damaged_shard_is_refused_with_the_command_that_repairs_it(
    apart: list[Path], tmp_path: Path
) -> None:
    image = next(apart[1].glob("shards/*/images/*/*.png"))
    image.write_bytes(image.read_bytes()[:-1])
    text = refusal("merge", tmp_path / "out", *apart)
    assert "its sha256 is not the recorded one" in text
    assert "2-of-3 repairs what it can" in text
    assert RunStore(tmp_path / "out").run_facts()["status"] == "stopped"
    repaired = invoke("repair", apart[1] / "shards" / "2-of-3")
    assert repaired.exit_code == 0, repaired.output
    assert invoke("merge", tmp_path / "out", *apart).exit_code == 0


def test_a_shard_has_one_process(apart: list[Path], tmp_path: Path) -> None:
    store = RunStore(apart[0] / "shards" / "1-of-3")
    with store.lock():
        text = refusal("run", *OPTIONS, "--out", apart[0], "--shard", "1/3")
        assert "give each process a --shard of its own" in text
        text = refusal("merge", tmp_path / "out", *apart)
        assert "shard 1/3 is being rendered into" in text
    with RunStore(apart[0]).lock():
        text = refusal("run", *OPTIONS, "--out", apart[0], "--shard", "1/3")
        assert "without --shard or to merge its shards" in text


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    assert "is not a shard: use I/N" in refusal("run", *OPTIONS, "--shard", "4/3")
    text = refusal("run", *OPTIONS, "--shard", "1/3", "--baseline", "x")
    assert "--shard excludes --baseline" in text
    assert "is a URL" in refusal("run", *OPTIONS, "--out", "s3://bucket/run")
    assert "is a URL" in refusal("merge", tmp_path, "s3://bucket/run")
