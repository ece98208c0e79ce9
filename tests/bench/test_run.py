"""A whole run with the shipped models: from the manifest to the report, and again."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.store.files import read_image
from bench.store.run_store import RunStore
from tests.warm import WarmProcess

pytestmark = pytest.mark.usefixtures("pocket_weights")
ROOT = Path(__file__).parents[2]
TIMES = ["seconds", "peak_memory_mib"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of pocket-smoke; tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBENCH_CACHE", str(folder / "cache"))
        result = run(folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def run(out: Path, *more: str):
    return CliRunner().invoke(main, ["run", "--manifest", "pocket-smoke", "--out", str(out), *more])


def summary(folder: Path) -> pd.DataFrame:
    return RunStore.open(folder).summary().drop(columns=TIMES)


def test_run_writes_every_promised_file(finished: Path) -> None:
    store = RunStore.open(finished)
    facts, results = store.run_facts(), store.results()
    assert facts["status"] == "complete"
    assert facts["counts"] == {"trials": 14, "failed": 0, "from_cache": 0}
    assert {"run_id", "created", "command", "git", "versions", "device"} <= set(facts)
    assert len(results) == len(store.trials()) == 14
    assert set(results["status"]) == {"ok"}
    assert {"summary.parquet", "report.md"} <= {p.name for p in store.tables_dir.iterdir()}
    assert not store.scores().empty
    assert str(Path.home()) not in json.dumps(facts)


def test_finished_run_is_found_finished_without_torch(finished: Path) -> None:
    code = (
        "import sys, time\nfrom bench.cli.main import main\n"
        f"try: main(['run', '--manifest', 'pocket-smoke', '--out', {str(finished)!r}])\n"
        "except SystemExit as e: assert e.code in (0, None)\n"
        "print('torch' in sys.modules, time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "nothing was left to do" in done.stdout
    has_torch, seconds = done.stdout.split()[-2:]
    assert has_torch == "False"
    assert float(seconds) < 5


def test_locked_manifest_gives_the_same_trials(finished: Path) -> None:
    from bench.run import RunRequest, plan_run

    plan = plan_run(RunRequest(str(finished / "manifest.yaml")))
    assert [t.trial_id for t in plan.trials] == list(RunStore(finished).trials()["trial_id"])


def test_other_manifest_into_the_folder_is_refused(finished: Path) -> None:
    before = (finished / "run.json").read_bytes()
    words = ["run", "--manifest", "pocket", "--out", str(finished)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "holds a run of another manifest" in result.stderr
    assert (finished / "run.json").read_bytes() == before


def test_second_run_into_the_folder_is_refused(finished: Path) -> None:
    code = (
        "import sys\nfrom bench.store.run_store import RunStore\n"
        f"with RunStore({str(finished)!r}).lock():\n print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        result = run(finished)
    finally:
        holder.communicate("")
    assert result.exit_code == 2
    assert "another run is writing" in result.stderr


def test_damaged_run_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "is damaged" in result.stderr


def test_cached_images_equal_rendered_ones(finished: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XBENCH_CACHE", str(finished.parent / "cache"))
    result = run(tmp_path / "again", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert (facts["n_cached"], facts["n_rendered"]) == (14, 0)
    assert facts["overhead"] is not None
    pd.testing.assert_frame_equal(summary(finished), summary(tmp_path / "again"))


def test_one_trial_is_explained_and_rendered_again_alike(finished: Path, tmp_path: Path) -> None:
    trial_id = RunStore(finished).trials()["trial_id"].iloc[-1]
    explained = CliRunner().invoke(main, ["explain", str(finished), trial_id[:10], "--json"])
    facts = json.loads(explained.stdout)
    assert facts["trial"]["trial_id"] == trial_id
    assert facts["result"]["status"] == "ok"
    assert f"--only {trial_id} --no-cache" in facts["render_again"]
    out = tmp_path / "again"
    words = ["run", "--manifest", str(finished / "manifest.yaml"), "--only", trial_id]
    assert CliRunner().invoke(main, [*words, "--no-cache", "--out", str(out)]).exit_code == 0
    assert list(RunStore(out).trials()["trial_id"]) == [trial_id]
    one, two = (read_image(RunStore(f).image_path(trial_id)).astype(int) for f in (finished, out))
    assert abs(one - two).max() <= 1


def test_interrupted_run_keeps_what_it_has_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", "--manifest", "pocket-smoke", "--out", str(out)]
    code = (  # a shell may have told its children to ignore Ctrl-C
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from bench.cli.main import main\nmain({words!r})"
    )
    process = WarmProcess(code, errors=tmp_path / "errors")
    # a file that is being written begins with a dot
    while not list(out.glob("results/[!.]*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    process.interrupt()
    returncode, errors = process.wait(), (tmp_path / "errors").read_text()
    assert returncode == 130, errors
    assert " of 14 images are done. Everything finished is kept: run the same command" in errors
    assert "Traceback" not in errors
    assert RunStore.open(out).run_facts()["status"] == "interrupted"
    assert len(RunStore.open(out).results()) >= 2


def test_sizes_that_the_models_cannot_make_end_the_run_with_one_message(tmp_path: Path) -> None:
    shipped = (ROOT / "plugins_manifest" / "manifests" / "pocket-smoke.yaml").read_text()
    path = tmp_path / "odd.yaml"
    path.write_text(shipped.replace("[128, 128]", "[256, 256]"))
    words = ["run", "--manifest", str(path), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "upgraded latents must have twice the sides" in result.stderr
    assert RunStore.open(tmp_path / "run").run_facts()["status"] == "stopped"


def test_no_duration_is_negative_after_the_clock_was_set_back(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.run import RunRequest, run_benchmark

    monkeypatch.setenv("XBENCH_CACHE", str(finished.parent / "cache"))
    later = time.time() + 3600
    request = RunRequest("pocket-smoke", out=tmp_path / "run", show_progress=False, started=later)
    outcome = run_benchmark(request)
    assert outcome.wall_seconds > 0 and outcome.overhead is not None
    assert 0 <= outcome.overhead <= 1
