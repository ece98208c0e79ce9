"""Recipes: every mistake at once with its line, overrides, and what the shipped ones contain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.train import load_recipe, parse_overrides, shipped_recipes

RECIPE = """\
schema: 1
name: mine
family: pocket
size: 128
data: {source: pocket, n_images: 64}
schedule: {steps: 10}
"""
WRONG = """\
schema: 1
name: mine
family: pockett
size: 130
data:
  source: pocket
  n_imagess: 64
objective:
  weighting: min-snrr
optimizer:
  batch: 10
  micro_batch: 4
  learning_rate: fast
schedule: {steps: 10, epochs: 2}
colour: blue
"""


def problems_of(tmp_path: Path, text: str, **overrides: object) -> tuple[str, ...]:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path, {key.replace("__", "."): value for key, value in overrides.items()})
    return caught.value.problems


def test_all_mistakes_come_at_once_with_their_lines(tmp_path: Path) -> None:
    assert problems_of(tmp_path, WRONG) == (
        "mine.yaml:3: family: unknown family 'pockett': use pocket, pocket-v, pocket-far",
        "mine.yaml:4: size: use a multiple of 16 (it is 130)",
        "mine.yaml:7: unknown key 'n_imagess': use n_images, source (in data.n_imagess)",
        "mine.yaml:9: objective.weighting: use 'paper', 'typical', 'min-snr' or 'edm2' "
        "(it is 'min-snrr')",
        "mine.yaml:12: optimizer.micro_batch: 4 does not divide the batch of 10: use a divisor of "
        "it",
        "mine.yaml:13: optimizer.learning_rate: write a number (it is 'fast')",
        "mine.yaml:14: schedule: write either steps or epochs",
        "mine.yaml:15: unknown key 'colour': use log, schedule, checkpoint_every (in colour)",
    )


def test_a_mistake_of_an_override_names_the_option(tmp_path: Path) -> None:
    assert problems_of(tmp_path, RECIPE, optimizer__batch=0, data__source="photos") == (
        "--set data.source: data has the source 'photos': use folder, huggingface, latents, "
        "parquet, pocket, random, webdataset",
        "--set optimizer.batch: optimizer.batch: use 1 or more (it is 0)",
    )
    wrong_name = RECIPE.replace("mine", '"my name!"')
    (text,) = problems_of(tmp_path, wrong_name, seed=3)
    assert text.startswith("mine.yaml:2: name: ")
    overrides: dict[str, object] = {"validation__every": 3, "validation__t0": [2]}
    first, second = problems_of(tmp_path, RECIPE, **overrides)
    assert first == "--set validation.every: validation.manifest is missing: add it"
    assert second.startswith("--set validation.t0: ")


def test_mistakes_in_a_source_of_pictures_come_with_their_lines(tmp_path: Path) -> None:
    data = """\
data:
  source: huggingface
  dataset: https://example.org/set
  min_side: 0
  pathh: photos
  cache: []
  per_host: 100
"""
    text = RECIPE.replace("data: {source: pocket, n_images: 64}\n", data)
    found = problems_of(tmp_path, text)
    assert [problem.partition(": ")[0] for problem in found] == [
        f"mine.yaml:{line}" for line in (7, 8, 9, 10, 11)
    ]
    assert all("data." in problem for problem in found)


VALIDATION = """\
validation:
  every: 0
  manifest:
    plugins:
      - {id: edges, kind: controlnett, source: "pocket:controlnet-canny", condition: canny}
    cases: {source: pocket, seed: 1, n: 4}
    methods: [{name: xadapter}]
    metricss: []
  t0: [1.5]
  patiense: 3
"""


def test_mistakes_in_the_validation_come_with_their_lines(tmp_path: Path) -> None:
    found = problems_of(tmp_path, RECIPE + VALIDATION)
    assert [problem.partition(": ")[0] for problem in found] == [
        f"mine.yaml:{line}" for line in (8, 11, 14, 15, 16)
    ]
    assert "validation.manifest: plugins[0].kind: unknown kind 'controlnett'" in found[1]
    folders = RECIPE.replace("family: pocket", "family: {base: old, upgraded: new}")
    last = "validation: {every: 5, manifest: pocket-smoke}\n"
    assert "not two folders" in problems_of(tmp_path, folders + last)[0]


def test_a_validation_is_checked_against_its_manifest(tmp_path: Path) -> None:
    spec = "validation: {every: 5, manifest: %s, %s}\n"

    def problems(manifest: str, more: str) -> tuple[str, ...]:
        return problems_of(tmp_path, RECIPE + spec % (manifest, more))

    prefix = "mine.yaml:7: validation"
    unknown = f"{prefix}.manifest: unknown manifest 'pocket-smok': use pocket-smoke, "
    assert problems("pocket-smok", "score: text")[0].startswith(unknown)
    assert "it is for the family 'sd15-sdxl'" in problems("smoke", "score: text")[0]
    unknown = f"{prefix}.plugins: unknown plugin or stack 'pocket-cany': use pocket-canny"
    assert problems("pocket-smoke", "plugins: [pocket-cany]")[0].startswith(unknown)
    assert problems("pocket-smoke", "score: edge-iou") == (
        f"{prefix}.score: 'edge-iou' is not a metric of the manifest pocket-smoke: add it there",
    )
    found = problems("pocket-smoke", "methods: [xadapter]")
    assert "add base and floor to the methods, or choose a metric" in found[0]


def test_overrides_replace_values_and_whole_sections(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    texts = ("optimizer.batch=8", "data={source: latents, path: encoded}", "schedule.steps=7")
    recipe = load_recipe(path, parse_overrides(texts))
    assert recipe.optimizer.batch == 8 and recipe.schedule.steps == 7
    data = recipe.data.model_dump(exclude_none=True)
    assert data == {"source": "latents", "path": str(Path("encoded").resolve())}  # as typed


@pytest.mark.parametrize("text", ["optimizer.batch", "=8", "optimizer..batch=8"])
def test_an_override_is_a_key_and_a_value(text: str) -> None:
    with pytest.raises(UserError, match="write KEY=VALUE"):
        parse_overrides([text])


def test_two_folders_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace("family: pocket", "family: {base: old, upgraded: new}"))
    family = load_recipe(path).as_data()["family"]
    assert family == {"base": str(tmp_path / "old"), "upgraded": str(tmp_path / "new")}
    text = RECIPE.replace("family: pocket", "family: {base: old}")
    assert problems_of(tmp_path, text) == ("mine.yaml:3: family.upgraded is missing: add it",)


def test_paths_of_a_shipped_recipe_are_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_recipe("paper-sdxl", {"data.cache": "kept"}).data.model_dump()
    assert Path(data["path"]).parent == tmp_path and data["cache"] == str(tmp_path / "kept")


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_papers_recipe_has_the_papers_numbers() -> None:
    recipe = load_recipe("paper-sdxl")
    assert recipe.family == "sd15-sdxl" and recipe.size == 1024
    assert recipe.optimizer.learning_rate == 1e-5 and recipe.optimizer.batch == 8
    assert recipe.schedule.epochs == 2 and recipe.schedule.kind == "constant"
    assert recipe.objective.weighting == "paper" and recipe.objective.upgraded_text == "null"
    assert recipe.objective.timesteps == (0, 1) and recipe.optimizer.ema == 0


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown recipe 'poket': use pocket"):
        load_recipe("poket")


def test_reading_a_recipe_loads_no_torch() -> None:
    code = "import sys\nfrom bench.train import load_recipe\nload_recipe('pocket')\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
