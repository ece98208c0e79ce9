"""Validation of a training by benchmark runs on pocket: what is kept, when it ends, the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from bench.cli.main import main
from bench.errors import UserError
from bench.store import RunStore, records
from bench.train import load_recipe, train_recipe
from bench.train.cost import cost_facts
from bench.train.validator import validations_since_best

pytestmark = pytest.mark.system

# so small a learning rate that all images stay the same: no validation is better than the first
RECIPE = """\
schema: 1
name: mine
family: pocket
size: 128
data: {source: pocket, n_images: 4}
optimizer: {batch: 2, learning_rate: 1.0e-10}
objective: {weighting: paper}
schedule: {steps: 3}
log: {every: 1}
validation:
  every: 1
  manifest:
    plugins:
      - {id: canny, kind: controlnet, source: "pocket:controlnet-canny", condition: canny}
    cases: {source: pocket, seed: 7, n: 3}
    methods:
      - name: base
      - name: floor
      - {name: xadapter, t0: [0.5, 0.9]}
    metrics: [edge-f1-1px, pocket-clip]
    settings: {steps: 4}
  t0: [0.5]
  n_cases: 2
  patience: 1
  final: same
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def same_cache(cache: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All trainings here share the images of one cache."""
    monkeypatch.setenv("XBENCH_CACHE", str(cache))


@pytest.fixture(scope="module")
def notes() -> list[str]:
    return []


@pytest.fixture(scope="module")
def trained(
    recipe_file: Path, cache: Path, notes: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Train until the validation of step 1, and go on with the same folder."""
    folder = tmp_path_factory.mktemp("trained")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBENCH_CACHE", str(cache))
        for stop_after in (1, None):
            train_recipe(
                load_recipe(recipe_file),
                out_dir=folder,
                progress=False,
                stop_after=stop_after,
                note=notes.append,
            )
        yield folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "diffusion_pytorch_model.safetensors").read_bytes()


def test_a_resumed_training_ends_when_the_score_stands_still(
    trained: Path, notes: list[str]
) -> None:
    first, second = rows(trained / "validation.jsonl")
    assert (first["step"], second["step"], second.pop("is_last")) == (1, 2, True)
    assert {**first, "step": 2} == pytest.approx(second)  # features of other batches
    assert {"function", "text", "edge-f1-1px", "pocket-clip"} < first.keys()
    told = [note for note in notes if note.startswith("validation at step")]
    assert "the best function so far" in told[0] and "training ends" in told[1]


def test_the_best_mapper_is_the_result(trained: Path) -> None:
    best = json.loads((trained / "best" / "best.json").read_text())
    assert best["step"] == 1 and best["score"] == "function"
    assert weights(trained / "mapper") == weights(trained / "best" / "mapper")
    adapters = [RunStore(trained / "validation" / n).run_facts()["adapter_sha256"] for n in "12"]
    assert adapters[0] != adapters[1]  # the mapper of step 2 is another one


def test_each_validation_is_a_run_with_a_sheet_and_renders_only_what_is_new(trained: Path) -> None:
    for step, origins in (("1", {"rendered": 6}), ("2", {"rendered": 2, "cache": 4})):
        store = RunStore.open(trained / "validation" / step)
        found = [row["origin"] for row in records(store.results())]
        assert {name: found.count(name) for name in dict.fromkeys(sorted(found))} == dict(
            sorted(origins.items())
        )
        assert (store.folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
        assert store.report_path().is_file()


def test_validation_moves_no_number_of_the_training(
    trained: Path, recipe_file: Path, tmp_path: Path
) -> None:
    plain = load_recipe(recipe_file, {"validation": None})
    train_recipe(plain, out_dir=tmp_path, data_dir=trained / "data", progress=False, stop_after=2)
    assert [row["loss"] for row in rows(tmp_path / "metrics.jsonl")] == [
        row["loss"] for row in rows(trained / "metrics.jsonl")
    ]


def test_the_training_ends_with_the_verdict_of_the_gate(trained: Path, recipe_file: Path) -> None:
    baseline = trained / "validation" / "1"
    words = ["train", recipe_file, "--out", trained, "--baseline", baseline, "--json"]
    found = CliRunner().invoke(main, [str(word) for word in words])
    assert found.exit_code == 0, found.output
    facts = json.loads(found.stdout)
    assert facts["best"]["step"] == 1 and facts["gate"]["verdict"] == "identical"
    assert RunStore.open(trained / "run").run_facts()["status"] == "complete"


def test_a_baseline_of_other_settings_names_the_mapper_that_will_be(
    trained: Path, recipe_file: Path, tmp_path: Path
) -> None:
    words = ["train", recipe_file, "--out", tmp_path, "--baseline", trained / "validation" / "1"]
    found = CliRunner().invoke(main, [*map(str, words), "--set", "validation.t0=[0.9]"])
    assert found.exit_code == 2 and f"--adapter {tmp_path / 'mapper'}" in found.output


def test_scores_of_other_images_are_not_compared(trained: Path, recipe_file: Path) -> None:
    with pytest.raises(UserError, match="a training with other validation"):
        train_recipe(load_recipe(recipe_file, {"validation.n_cases": 1}), out_dir=trained)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [({"validation": None}, "needs a run at the end"), ({}, "there is no run directory")],
)
def test_a_baseline_is_checked_before_the_training(
    recipe_file: Path, tmp_path: Path, overrides: dict[str, Any], message: str
) -> None:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in overrides.items()]
    words = ["train", str(recipe_file), f"--out={tmp_path}", f"--baseline={tmp_path / 'no'}"]
    found = CliRunner().invoke(main, [*words, *sets])
    assert found.exit_code == 2 and message in found.output


def test_the_cost_counts_validations_and_the_run_at_the_end(
    recipe_file: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file, {"validation.every": 2, "validation.final": "manifest"})
    facts = cost_facts(recipe, tmp_path, n_processes=1, gpus=None)["validation"]
    # base, floor and one t0 of 2 cases; then only what depends on the mapper; all of 3 cases
    images = [facts[f"images_{part}"] for part in ("first", "later", "final")]
    assert images == [6, 2, 12] and facts["times"] == 2 and facts["hours"] > 0


def test_the_first_of_the_best_values_is_the_best() -> None:
    assert validations_since_best([0.5, 0.7, 0.7, 0.6], is_higher_better=True) == 2
    assert validations_since_best([0.5, 0.7, 0.4], is_higher_better=False) == 0
