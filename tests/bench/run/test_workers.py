"""Claims about workers: a run that several processes render equals that of one."""

import json
import random
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.store.run_store import RunStore
from tests.bench.chaos import killed_workers, pids_of, start_run, tables
from tests.bench.run.worker_runs import (
    DEATH,
    IMAGES,
    OPTIONS,
    log_of,
    loses_a_worker,
    require_end,
    require_run,
    start,
    wait_for_image,
)
from tests.extension import install

pytestmark = [
    pytest.mark.system,
    pytest.mark.usefixtures("pocket_weights"),
    pytest.mark.timeout(600),
]
ROOT = Path(__file__).parents[3]
TWO = ("--devices", "cpu,cpu")
TWO_NAMED = "local, 2 processes on cpu, cpu"


def test_a_run_that_loses_a_worker_has_the_tables_of_one_process(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = require_end(start(out, *TWO, **loses_a_worker(out)), out)
    assert "a worker ended by SIGKILL in " in text and DEATH in text
    assert len(pids_of(out).read_text().split()) > 2
    require_run(out, one, engine=TWO_NAMED)


def test_a_run_whose_driver_is_killed_goes_on_with_what_it_has(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, *TWO)
    wait_for_image(out, process)
    process.kill()
    require_end(process, out, code=-signal.SIGKILL)
    assert len(RunStore(out).finished_trials()) < IMAGES
    require_end(start(out, *TWO), out)
    require_run(out, one, engine=TWO_NAMED)


@pytest.mark.slow
def test_a_limit_ends_all_workers_and_the_same_command_goes_on(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    require_end(start(out, *TWO, "--max-images", "1"), out, code=3)
    store = RunStore(out)
    assert store.run_facts()["status"] == "budget reached"
    assert 1 <= len(store.finished_trials()) < IMAGES
    require_end(start(out, *TWO), out)
    require_run(out, one, engine=TWO_NAMED)


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))
"""


def test_a_full_disk_is_one_message_and_the_same_command_goes_on(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = require_end(start(out, *TWO, before=FULL), out, code=2)
    assert text.count("no room left to write") == 1 and ".png" in text
    log_of(out).unlink()
    require_end(start(out, *TWO), out)
    require_run(out, one, engine=TWO_NAMED)


POISON = """
import os, signal
class Poison:
    name, side, uses_t0, uses_plugin, uses_adapter = "theirs-poison", "base", False, True, False
    shares = ("base_text", "stage1", "stage1_picture")
    def render(self, session, variant):
        if any(case.conditions for case in session.cases):
            os.kill(os.getpid(), signal.SIGKILL)
        return session.pixels(session.stage1_picture())
"""


def test_a_method_that_kills_its_workers_is_rows_with_the_reason_and_the_rest_is_done(
    one: Path, tmp_path: Path
) -> None:
    install(
        tmp_path / "theirs",
        module=POISON,
        entry_points={"xbench.methods": {"theirs-poison": "Poison"}},
    )
    manifest, out = tmp_path / "poison.yaml", tmp_path / "run"
    shipped = (ROOT / "plugins_manifest" / "manifests" / "pocket-smoke.yaml").read_text()
    manifest.write_text(shipped.replace("methods:\n", "methods:\n  - name: theirs-poison\n", 1))
    words = ["--manifest", str(manifest), "--methods", "base,floor,sdedit,theirs-poison", *TWO]
    process = start(out, *words, PYTHONPATH=str(tmp_path / "theirs"))
    assert "(3 of 3)" in require_end(process, out, code=1)
    rows = RunStore(out).trials().merge(RunStore(out).results(), on="trial_id")
    failed = rows[rows["status"] == "failed"]
    assert set(failed["method"]) <= {"theirs-poison", "base", "sdedit"}
    assert set(failed["plugin"]) == {"pocket-canny"}
    assert set(failed["error"]) == {"its worker ended by SIGKILL, 3 times"}
    found = rows[rows["status"] == "ok"]
    assert set(found["method"]) >= {"floor", "theirs-poison"}
    expected = RunStore(one).results()[["trial_id", "image_sha256"]]
    both = found.merge(expected, on="trial_id", suffixes=("", "_one"))
    assert len(both) == IMAGES - sum(failed["method"] != "theirs-poison")
    assert list(both["image_sha256"]) == list(both["image_sha256_one"])


def test_the_plan_names_engine_and_workers() -> None:
    words = ["run", *OPTIONS, "--dry-run"]
    text = CliRunner().invoke(main, [*words, "--devices", "cpu,cpu"]).output
    assert f"engine     {TWO_NAMED}\n" in text
    text = CliRunner().invoke(main, [*words, "--engine", "ray", "--json"]).stdout
    assert json.loads(text)["engine"] == "ray, auto workers"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--devices 0,cpu", "is not a list of GPUs such as 0,1,2,3, or of CPU processes"),
        ("--devices cpu --workers 2", "--devices excludes"),
        ("--workers 0", "is not auto or a number from 1 to 9999"),
        ("--devices 77", "no GPU 77: this machine has"),
        ("--device cuda:1", "--device cuda:1: use --devices 1"),
    ],
)
def test_workers_that_cannot_be_are_refused(tmp_path: Path, words: str, message: str) -> None:
    result = CliRunner().invoke(main, ["run", *OPTIONS, "--out", str(tmp_path), *words.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.slow
@pytest.mark.timeout(3600)
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
