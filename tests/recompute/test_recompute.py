"""An independent recomputation agrees with every number of a run, and sees one that is changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.analysis import summarise, write_compatibility
from bench.scoring import score_by_names
from tests.bench.drawn_run import draw_run
from tests.recompute.compare import compare_run

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).parents[2] / "scripts" / "recompute"
METRICS = (
    *("edge-f1", "edge-f1-1px", "edge-iou", "pocket-style-rate", "pocket-style", "pocket-clip"),
    *("pocket-lpips", "pocket-style-paper", "pocket-fid", "pocket-kid", "pocket-kid-floor"),
    *("pocket-kid-oracle", "pocket-rest", "pocket-place", "pocket-style-projection"),
)
FEW = (
    *("edge-f1", "pocket-style-rate", "pocket-clip", "pocket-fid", "pocket-kid-floor"),
    *("pocket-rest", "pocket-place", "pocket-style-projection"),
)
SMALL = """\
schema: 1
name: recomputed
family: pocket
plugins:
  - {id: pocket-mask, kind: controlnet, source: "pocket:controlnet-mask", condition: mask,
     native: native-mask}
  - {id: pocket-outline, kind: lora, source: "pocket:lora-outline", trigger: outline drawing}
  - {id: native-mask, kind: controlnet, side: upgraded, condition: mask,
     source: "pocket:upgraded-controlnet-mask"}
cases: {source: pocket, seed: 77, n: 12}
seeds: [0, 1]
methods:
  - {name: base}
  - {name: floor}
  - {name: oracle}
  - {name: sdedit, t0: [0.7]}
  - {name: xadapter, t0: [0.5, 0.9]}
metrics: [METRICS]
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 8, guidance_scale: 3.0}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, pocket_scorer: None) -> Path:
    store = draw_run(tmp_path_factory.mktemp("drawn") / "run", n_cases=12, natives=True)
    score_by_names(store, FEW, show_progress=False)
    summarise(store)
    write_compatibility(store)
    return store.folder


@pytest.fixture(scope="module")
def pocket_scorer() -> None:
    """Needed by tests that compute features."""
    from pocket.weights import WeightsError, part_path

    try:
        part_path("scorer")
    except WeightsError:
        pytest.skip("pocket weights are missing: make them with scripts/train-pocket")


def test_every_entry_of_a_drawn_run_agrees(run: Path):
    comparison = compare_run(run)
    assert comparison.wrong == [], comparison.report()
    tables = {"scores", "leave-one-out values", "ceilings", "summary", "compatibility"}
    assert comparison.compared.keys() == tables
    assert comparison.compared.total() > 3000


CHANGES = {
    "a score": ("scores", "scores/edge-f1.parquet", "value", 1e-6),
    "a ceiling": ("ceilings", "scores/ceilings/edge-f1.parquet", "value", -1e-6),
    "a mean": ("summary", "tables/summary.parquet", "value", 1e-6),
    "an end of an interval": ("summary", "tables/summary.parquet", "low", -0.05),
    "a difference": ("summary", "tables/summary.parquet", "delta_to_base", 1e-6),
    "a retention": ("compatibility", "tables/compatibility.parquet", "retention", 1e-4),
    "Fieller's end": ("compatibility", "tables/compatibility.parquet", "retention_high", 1e-4),
    "a sorting number": ("compatibility", "tables/compatibility.parquet", "sort_value", 1e-4),
    "a verdict's p": ("compatibility", "tables/compatibility.parquet", "verdict_p", 1e-4),
    "seconds": ("compatibility", "tables/compatibility.parquet", "seconds", 0.01),
    "a verdict": ("compatibility", "tables/compatibility.parquet", "verdict", "degraded"),
    "a word": ("compatibility", "tables/compatibility.parquet", "quality_word", "between"),
}


def changed(run: Path, folder: Path, file: str, *, column: str, by: float | str) -> Path:
    """Return a copy of a run in which one known number of a table is changed."""
    shutil.copytree(run, folder)
    for path in (folder / "scores").glob("*.parquet"):
        if path.name != "edge-f1.parquet" and file.startswith("scores"):
            path.unlink()  # only what is changed is computed again
    frame = pd.read_parquet(folder / file)
    known = frame[column].notna() & (frame[column] != by)
    row = frame.index[known][-1]
    old = frame.loc[row, column]
    frame.loc[row, column] = by if isinstance(by, str) else old + by
    frame.to_parquet(folder / file)
    return folder


@pytest.mark.parametrize("what", CHANGES)
def test_one_changed_number_is_found_and_named(run: Path, tmp_path: Path, what: str):
    part, file, column, by = CHANGES[what]
    copy = changed(run, tmp_path / "copy", file, column=column, by=by)
    (entry,) = compare_run(copy, parts=[part]).wrong
    assert entry.table == part
    assert part in ("scores", "ceilings") or column.removeprefix("delta_") in entry.where


def test_the_script_fails_on_a_changed_number(run: Path, tmp_path: Path):
    file, column = "scores/edge-f1.parquet", "value"
    copy = changed(run, tmp_path / "copy", file, column=column, by=-1e-6)
    shutil.rmtree(copy / "tables")
    command = [sys.executable, str(SCRIPT), str(copy)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "scores, edge-f1 of pocket-canny" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_entry_of_a_rendered_run_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    manifest = tmp_path / "recomputed.yaml"
    manifest.write_text(SMALL.replace("METRICS", ", ".join((*METRICS, "mask-iou"))))
    words = ["run", "--manifest", str(manifest), "--out", str(tmp_path / "run")]
    subprocess.run([sys.executable, "-m", "bench.cli.main", *words], check=True)
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compatibility:" in done.stdout
