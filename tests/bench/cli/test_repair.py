"""Claims about `xbench repair`: what is damaged is named, and comes back byte by byte."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.run import write_tables
from bench.scoring import score_by_names
from bench.store import RunStore
from tests.faults.damaged_files import swap
from tests.faults.kind_damaged_runs import OLD_RUN, sound_run

OLD_MANIFEST = OLD_RUN.with_name("old.yaml")

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("pocket_weights")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run of an earlier release, scored and tabulated by this version."""
    run = Path(shutil.copytree(sound_run()[0], tmp_path_factory.mktemp("finished") / "run"))
    store = RunStore(run)
    score_by_names(store, ["pocket-style-rate"], show_progress=False)
    write_tables(store, png=False)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XBENCH_CACHE", str(sound_run()[1]))
    return Path(shutil.copytree(finished, tmp_path / "run"))


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def content(folder: Path) -> dict[str, bytes]:
    paths = [p for p in folder.rglob("*") if p.is_file() and ".damaged" not in p.parts]
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}
    return {k: v for k, v in found.items() if k not in (".lock", "checksums.json")}


def damage_all(run: Path) -> list[str]:
    """Damage a file of every part; return their names."""
    results = RunStore(run).read_part("results", next(run.glob("results/pocket-outline-*")).stem)
    images = sorted(results["image"])
    swap(run / images[0], run / images[3])
    (run / images[1]).unlink()
    named = [path.relative_to(run).as_posix() for path in run.glob("results/pocket-canny-*")]
    named += ["manifest.yaml", "run.json", "trials.parquet", "cases.json"]
    named += ["scores/edge-f1.parquet", "tables/summary.parquet", "tables/report.html"]
    for name in named:
        (run / name).write_bytes((run / name).read_bytes()[:-9] + b"x" * 9)
    return [*named, images[0], images[1], images[3]]


def test_a_run_that_is_damaged_everywhere_is_repaired_byte_by_byte(
    finished: Path, run: Path
) -> None:
    names = damage_all(run)
    checked = json.loads(call("repair", run, "--check", "--json").stdout)
    assert {entry["file"] for entry in checked["damaged"]} >= {*names}
    result = call("repair", run)
    assert result.exit_code == 0, result.output
    assert content(run) == content(finished)
    assert call("repair", run, "--check").exit_code == 0


def test_commands_stop_at_damage_with_one_list(run: Path, finished: Path, tmp_path: Path) -> None:
    (image, *_) = sorted((run / "images").glob("*/*.png"))
    image.write_bytes(image.read_bytes()[:-1])
    for words in (
        ("score", run),
        ("report", run),
        ("run", "--manifest", OLD_MANIFEST, "--out", run),
        ("gate", finished, run),
        ("publish", run, "--to", tmp_path / "board"),
    ):
        result = call(*words)
        assert result.exit_code == 2, words
        assert image.name in result.stderr and "xbench repair" in result.stderr, words
    assert call("repair", run, "--check").exit_code == 1
    assert call("repair", run).exit_code == 0 and call("report", run).exit_code == 0


def test_what_cannot_be_repaired_is_told_with_the_reason(run: Path) -> None:
    store = RunStore(run)
    facts = store.run_facts()
    store.write_run_facts({**facts, "render_context": "r1-float16-cuda-torch9.9"})
    (image, *_) = sorted((run / "images").glob("*/*.png"))
    image.write_bytes(b"damaged")
    result = call("repair", run)
    assert result.exit_code == 1
    assert "not repaired" in result.output and "r1-float16-cuda-torch9.9" in result.output
    assert (run / ".damaged" / image.relative_to(run)).read_bytes() == b"damaged"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    result = call("repair", tmp_path)
    assert result.exit_code == 2 and "is not a run directory" in result.stderr
