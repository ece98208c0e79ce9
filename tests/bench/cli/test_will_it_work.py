"""xbench will-it-work: a sentence and a table for people, JSON and exit codes for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.cli.main import main
from bench.publish.measured import measured
from plugins_manifest.files import file_sha256
from pocket.weights import part_path
from tests.plugins_manifest.fits.files import lora
from tests.plugins_manifest.zoo import ZOO
from tests.plugins_manifest.zoo.files import pack

SHIPPED = Path(__file__).parents[3] / "leaderboard" / "shipped"
OUTLINE = part_path("lora-outline")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["will-it-work", *map(str, words)])


def data(*words: object) -> dict[str, Any]:
    return json.loads(run(*words, "--json").stdout)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "style.safetensors"
    metadata = {"ss_base_model_version": "flux1", "modelspec.architecture": "\x1b[31mflux"}
    path.write_bytes(pack(lora("flux1-dev", "kohya"), metadata))
    return path


def test_the_first_line_names_the_model_and_the_table_follows(flux: Path) -> None:
    done = run(flux, "--on", "chroma", "--on", "flux2-dev")
    lines = done.output.splitlines()
    assert lines[0].startswith("style.safetensors (lora, layout kohya) was made for FLUX.1-dev")
    assert "metadata ss_base_model_version = flux1" in done.output
    assert "\x1b" not in done.output
    row = next(line for line in lines if line.startswith("flux2-dev "))
    assert "does not fit: made for FLUX.1-dev" in row
    assert done.exit_code == 1


def test_the_model_it_was_made_for_is_success(flux: Path) -> None:
    assert run(flux).exit_code == 0
    assert run(flux, "--on", "flux1-krea").exit_code == 0
    assert run(flux, "--on", "chroma").exit_code == 1


def test_json_has_every_share(flux: Path) -> None:
    found = data(flux, "--on", "flux1-dev", "--on", "flux1-schnell")
    assert found["schema"] == 1
    assert found["made_for"]["model"] == "flux1-dev"
    assert [target["verdict"] for target in found["targets"]] == ["fits", "fits"]
    for target in found["targets"]:
        assert target["share"] == 1
        assert target["energy_share"] == pytest.approx(1)
        assert set(target["parts"]) <= {
            *("attention", "feed-forward", "convolution", "text encoder", "other")
        }


def test_a_file_of_a_family_is_named_with_what_was_measured_of_it() -> None:
    found = data(OUTLINE)
    assert found["made_for"]["model"] == "pocket-base"
    targets = [target["model"] for target in found["targets"]]
    assert targets == [
        "pocket-base",
        "pocket-upgraded",
        "pocket-flow-upgraded",
        "pocket-v-upgraded",
    ]
    methods = {row["method"]: row for row in found["results"]}
    assert methods["xadapter"]["low"] < methods["xadapter"]["retention"]
    assert "measured: xadapter keeps" in run(OUTLINE).output


def test_results_are_those_of_the_very_file_and_of_whole_stores(tmp_path: Path) -> None:
    assert measured(file_sha256(OUTLINE), SHIPPED)
    assert measured("0" * 64, SHIPPED) == []
    assert measured(file_sha256(OUTLINE), tmp_path) == []
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "broken.json").write_text('{"manifest": "objects/../x.json"')
    assert measured(file_sha256(OUTLINE), tmp_path) == []


def test_an_unknown_model_is_a_usage_error(flux: Path) -> None:
    done = run(flux, "--on", "fluxx")
    assert done.exit_code == 2
    assert "fluxx" in done.output


def test_a_pickle_is_opened_on_request_alone(tmp_path: Path) -> None:
    pickled = next(animal for animal in ZOO if animal.verdict == "unsafe")
    path = tmp_path / (pickled.name + pickled.suffix)
    path.write_bytes(pickled.make())
    done = run(path)
    assert done.exit_code == 2
    assert "--allow-pickle" in done.output
