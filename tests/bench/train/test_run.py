"""Training by a recipe on pocket: lazily drawn data, exact resume, refusals, costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from bench.errors import UserError
from bench.train import Recipe, load_recipe, train_recipe
from bench.train.cost import cost_facts
from bench.train.data import opened_data
from bench.train.models import load_models
from pocket.cached import read_arrays
from tests.bench.chaos import RUN
from tests.warm import WarmProcess

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[3]
SMALL: dict[str, Any] = {
    "schedule.steps": 4,
    "optimizer.batch": 2,
    "objective.weighting": "paper",
    "checkpoint_every": 1,
    "log.every": 1,
}


def small(**overrides: Any) -> Recipe:
    return load_recipe("pocket", SMALL | {k.replace("__", "."): v for k, v in overrides.items()})


def train(folder: Path, recipe: Recipe, **kwargs: Any) -> Any:
    torch.set_num_threads(1)
    return train_recipe(recipe, out_dir=folder, progress=False, **kwargs)


def losses(folder: Path) -> list[float]:
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, small())
    return folder


def test_only_pictures_of_the_steps_are_drawn_and_they_are_kept(whole: Path) -> None:
    found = [read_arrays(path) for path in whole.glob("data/*/*.safetensors")]
    assert sum(len(arrays["index"]) for arrays in found if arrays is not None) == 4 * 2


def test_a_picture_does_not_depend_on_its_batch_or_process(whole: Path, tmp_path: Path) -> None:
    recipe = small()
    models = load_models(recipe, device="cpu")
    with opened_data(recipe, models, tmp_path) as fresh:
        alone = fresh.batch(torch.tensor([7]))  # type: ignore[union-attr]
        together = fresh.batch(torch.tensor([3, 7]))  # type: ignore[union-attr]
    with opened_data(recipe, models, tmp_path) as kept:
        again = kept.batch(torch.tensor([7]))  # type: ignore[union-attr]
    for name in ("base_latents", "upgraded_latents", "base_text"):
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[1])
        assert torch.equal(getattr(alone, name), getattr(again, name))


def test_a_killed_training_goes_on_bit_by_bit(whole: Path, tmp_path: Path) -> None:
    words = [f"--set={key}={value}" for key, value in SMALL.items()]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = tmp_path / "cut"
    process = WarmProcess(RUN, "-q", "train", "pocket", *words, f"--out={folder}", env=env)
    ends = time.monotonic() + 250
    while not (folder / "checkpoint.safetensors").exists():
        assert process.poll() is None and time.monotonic() < ends
        time.sleep(0.01)
    process.kill()
    process.wait()
    train(folder, small())
    assert losses(folder) == losses(whole)
    files = [path / "checkpoint.safetensors" for path in (folder, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_another_recipe_in_the_same_folder_is_refused(whole: Path) -> None:
    with pytest.raises(UserError, match="a training with other data"):
        train(whole, small(data__n_images=10))
    before = (whole / "recipe.json").read_bytes()
    with pytest.raises(UserError, match=r"learning_rate 0.001 there, 0.5 here"):
        train(whole, small(optimizer__learning_rate=0.5))
    assert (whole / "recipe.json").read_bytes() == before


def test_a_folder_in_use_keeps_the_recipe_of_its_training(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another training writes"):
        train(tmp_path, small())
    assert not (tmp_path / "recipe.json").exists()


def test_encoded_images_of_a_folder_train(tmp_path: Path) -> None:
    data = {"source": "latents", "path": str(tmp_path / "encoded")}
    with pytest.raises(UserError, match="there are no encoded images"):
        train(tmp_path / "m", small(data=data))
    folder = tmp_path / "encoded"
    folder.mkdir()
    for name, n in (("a", 3), ("b", 2)):
        tensors = {
            "base_latents": torch.randn(n, 4, 8, 8).half(),
            "upgraded_latents": torch.randn(n, 4, 16, 16).half(),
            "base_text": torch.randn(n, 24, 64).half(),
        }
        save_file(tensors, folder / f"{name}.safetensors")
    with pytest.raises(UserError, match="has 5 encoded images, the recipe names 9"):
        train(tmp_path / "m", small(data={**data, "n_images": 9}))
    with pytest.raises(UserError, match="the recipe's models and size need"):
        train(tmp_path / "m", small(data=data, size=256))
    epochs = small(data=data, schedule__steps=None, schedule__epochs=2)
    assert train(tmp_path / "m", epochs).steps == 5


def test_random_numbers_measure_two_folders(tmp_path: Path) -> None:
    from pocket.weights import part_path

    folders = {side: str(part_path(side)) for side in ("base", "upgraded")}
    recipe = small(family=folders, data={"source": "random"}, schedule__steps=1)
    assert train(tmp_path, recipe).steps == 1


def test_the_cost_is_counted_and_its_origin_named(whole: Path, tmp_path: Path) -> None:
    facts = cost_facts(load_recipe("pocket"), tmp_path, n_processes=2, gpus=None)
    assert facts["steps"] == 3500 and facts["images"] == 3500 * 16
    assert 0.001 < facts["tera_operations_per_image"] < 0.1
    assert facts["rate"] == "2 CPU cores, as measured on one"
    random = cost_facts(small(data={"source": "random"}), tmp_path, n_processes=1, gpus=None)
    assert random["rate"] == "1 CPU core, as measured on one"
    # float32 weights, gradient, two moments and the average of 2.5 million numbers
    assert facts["memory_parts_gib"]["mapper"] == pytest.approx(5 * 4 * 2.5e6 / 2**30, rel=0.1)
    measured = cost_facts(small(), whole, n_processes=1, gpus=None)
    assert measured["rate"] == f"measured in {whole}" and measured["hours"] > 0
    with pytest.raises(UserError, match="16 images in a call of the models cannot be divided"):
        cost_facts(load_recipe("pocket"), tmp_path, n_processes=3, gpus=None)


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_dies_with_its_launcher(
    whole: Path, tmp_path: Path
) -> None:
    words = [f"--set={key}={value}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "xbench", "-q", "train", "pocket", "--processes=2", *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, f"--out={tmp_path / 'two'}"], cwd=ROOT, env=env, check=True)
    assert losses(tmp_path / "two") == pytest.approx(losses(whole), rel=1e-6)
    longer = [*command, "--steps=10000", f"--out={tmp_path / 'cut'}"]
    process = subprocess.Popen(longer, cwd=ROOT, env=env)
    while not (tmp_path / "cut" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    time.sleep(2)
    rows = len(losses(tmp_path / "cut"))
    time.sleep(3)
    assert len(losses(tmp_path / "cut")) == rows  # no process is left
