"""Claims about workers: a run that several processes render equals that of one."""

import json
import multiprocessing
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.render.audit import read_audits
from bench.store.run_store import RunStore
from tests.bench.chaos import killed_workers, start_run, tables, workers_of
from tests.bench.run.test_shards import require_equal, xbench

OPTIONS = ["--manifest", "pocket-smoke", "--methods", "base,floor", "--no-cache"]
IMAGES = 6


def be_xbench(words: list[str], log: Path, cache: Path) -> None:
    """Be the process of a command whose workers have one thread too."""
    os.environ["OMP_NUM_THREADS"] = "1"
    xbench(words, log, cache)


def start(out: Path, *more: str) -> BaseProcess:
    """Start `xbench run` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["runners.group", "bench.run.merge", "bench.scoring.score"])
    words = ["run", *OPTIONS, "--out", str(out), *more]
    log = out.parent / f"{out.name}.log"
    process = context.Process(target=be_xbench, args=(words, log, out.parent / "cache"))
    process.start()
    return process


def images(out: Path) -> int:
    return len(RunStore(out).image_ids())


def wait_for_image(out: Path, process: BaseProcess) -> None:
    while process.is_alive() and not images(out):
        time.sleep(0.005)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pocket_weights: None) -> Path:
    """Return a folder with a run of one process, and of two, one of which was killed."""
    folder = tmp_path_factory.mktemp("workers")
    one, two = start(folder / "one"), start(folder / "two", "--devices", "cpu,cpu")
    wait_for_image(folder / "two", two)
    assert two.pid is not None
    workers_of(psutil.Process(two.pid))[0].kill()
    ray = start(folder / "ray", "--engine", "ray", "--workers", "2")
    for process in (one, two, ray):
        process.join()
        assert process.exitcode == 0, [path.read_text() for path in folder.glob("*.log")]
    return folder


@pytest.mark.parametrize("name", ["two", "ray"])
def test_workers_give_the_tables_of_one_process(folder: Path, name: str) -> None:
    require_equal(folder / name, folder / "one")
    store = RunStore(folder / name)
    assert images(folder / name) == IMAGES and len(read_audits(store)) == 2
    facts = store.run_facts()
    assert (facts["status"], facts["counts"]["failed"]) == ("complete", 0)
    engine = {"two": "local, 2 processes on cpu, cpu", "ray": "ray, 2 workers"}[name]
    assert facts["engine"] == engine
    assert [node["threads"] for node in facts["nodes"]] == [1]
    assert facts["render_context"] == RunStore(folder / "one").run_facts()["render_context"]


def test_a_worker_that_is_killed_is_named_in_the_log(folder: Path) -> None:
    assert "a worker ended by SIGKILL in " in (folder / "two.log").read_text()


def test_the_plan_names_engine_and_workers() -> None:
    words = ["run", *OPTIONS, "--dry-run"]
    text = CliRunner().invoke(main, [*words, "--devices", "cpu,cpu"]).output
    assert "engine     local, 2 processes on cpu, cpu\n" in text
    text = CliRunner().invoke(main, [*words, "--engine", "ray", "--json"]).stdout
    assert json.loads(text)["engine"] == "ray, auto workers"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--devices 0,cpu", "is not a list of GPUs such as 0,1,2,3, or of CPU processes"),
        ("--devices cpu --workers 2", "--devices excludes"),
        ("--workers 0", "is not auto or a number from 1 to 9999"),
        ("--devices 77", "no GPU 77: this machine has"),
    ],
)
def test_workers_that_cannot_be_are_refused(tmp_path: Path, words: str, message: str) -> None:
    result = CliRunner().invoke(main, ["run", *OPTIONS, "--out", str(tmp_path), *words.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("pocket_weights")
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_run_whose_workers_and_driver_are_killed_loses_nothing(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert start_run(tmp_path / "whole", cache=tmp_path / "cache-1").wait() == 0
    kills = killed_workers(
        tmp_path / "killed",
        n_workers=6,
        n_drivers=2,
        cache=tmp_path / "cache-2",
        rng=random.Random(0),
        options=["--engine", engine, "--workers", "2"],
    )
    assert len(kills) == 8
    assert tables(tmp_path / "whole") == tables(tmp_path / "killed")
