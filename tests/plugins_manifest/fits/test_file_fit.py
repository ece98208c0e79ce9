"""The model of every synthetic file is named, and hostile files are refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plugins_manifest.errors import UserError
from plugins_manifest.fits import FileFit, catalog_target, fit_file
from plugins_manifest.fits.advice import Upgrade
from plugins_manifest.formats import UnsafeFile
from plugins_manifest.formats.catalog import BY_NAME, CATALOG
from plugins_manifest.inspect import inspect_file
from tests.plugins_manifest.fits.files import NAMINGS, Naming, lora
from tests.plugins_manifest.zoo import ZOO, Animal
from tests.plugins_manifest.zoo.files import pack
from tests.plugins_manifest.zoo.lora import LORAS
from tests.plugins_manifest.zoo.lycoris import LYCORIS
from tests.plugins_manifest.zoo.networks import NETWORKS

UPGRADES = [Upgrade("sd15-sdxl", "sd1", "sdxl")]
# The files of both models are the same: layers in the first blocks, of the same shapes.
EQUAL = {"flux1-schnell": "flux1-dev", "wan22-i2v-a14b": "wan21-t2v-14b", "ssd-1b": "sdxl"}
EQUAL |= {"pixart-alpha": "pixart-sigma", "chroma": "flux1-dev"}


def zeros(*shape: int, seed: int = 0) -> np.ndarray:
    return np.zeros(shape, np.float16)


def fit(folder: Path, content: bytes, **options: object) -> FileFit:
    path = folder / "file.safetensors"
    path.write_bytes(content)
    return fit_file(path, upgrades=UPGRADES, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("model", [model.name for model in CATALOG])
def test_the_model_of_a_lora_is_named(model: str, naming: Naming, tmp_path: Path) -> None:
    found = fit(tmp_path, pack(lora(model, naming, make=zeros)))
    assert found.made_for is not None
    label = BY_NAME[model].label or model
    assert found.made_for.target.name in (model, EQUAL.get(model))
    assert label in (found.made_for.target.base, *found.made_for.also)
    assert found.targets[0].words == "fits"
    assert found.made_for.evidence[0].count(f"{found.made_for.target.title}")


def test_a_flux_file_fits_chroma_in_part_and_flux2_not_at_all(tmp_path: Path) -> None:
    words = {}
    targets = [catalog_target(name) for name in ("flux1-krea", "chroma", "flux2-dev", "sdxl")]
    for target in fit(tmp_path, pack(lora("flux1-dev", "kohya")), on=targets).targets:
        words[target.target.name] = target.words
        assert target.total.layers == sum(part.layers for part in target.parts.values())
        assert target.total.loaded == sum(part.loaded for part in target.parts.values())
    assert words == {
        "flux1-krea": "fits",
        "chroma": "fits in part",
        "flux2-dev": "does not fit: made for FLUX.1-dev",
        "sdxl": "does not fit: made for FLUX.1-dev",
    }


def test_the_upgrade_of_a_family_is_compared_without_being_named(tmp_path: Path) -> None:
    found = fit(tmp_path, pack(lora("sd15", "kohya", make=zeros)))
    assert [target.target.name for target in found.targets] == ["sd15", "sdxl"]
    assert "family sd15-sdxl" in found.targets[1].advice


def test_shares_of_energy_are_those_of_the_layers_that_load(tmp_path: Path) -> None:
    (chroma,) = fit(
        tmp_path, pack(lora("flux1-dev", "peft")), on=[catalog_target("chroma")]
    ).targets
    assert chroma.total.energy is not None
    assert 0 < chroma.total.energy < 1
    assert chroma.parts["attention"].energy == 1
    assert chroma.parts["text encoder"].energy == 0


@pytest.mark.parametrize("model", ["flux1-dev", "qwen-image", "z-image"])
def test_an_inspection_names_the_model_and_a_run_refuses_the_file(
    model: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(pack(lora(model, "comfyui", make=zeros)))
    found = inspect_file(path)
    assert found.parsed is not None
    assert found.parsed.base_model == model
    assert found.verdict in ("wrong-base", "no-change")
    assert f"made for {model}" in found.problems[0].message


OF_A_MODEL = [
    animal
    for animal in (*LORAS, *LYCORIS, *NETWORKS)
    if animal.cage == "right" and animal.table == "sd15" and animal.base_model
]


@pytest.mark.parametrize("animal", OF_A_MODEL, ids=lambda animal: animal.name)
def test_the_model_of_every_format_of_the_zoo_is_named(animal: Animal, tmp_path: Path) -> None:
    found = fit(tmp_path, animal.make())
    assert found.made_for is not None
    assert found.made_for.target.base == animal.base_model
    assert found.targets[0].verdict == "fits"
    assert animal.kind in (None, found.kind)
    assert animal.format in (None, found.format)


OTHERS = [animal for animal in ZOO if animal.cage not in ("right", "other-kinds")]


@pytest.mark.parametrize("animal", OTHERS, ids=lambda animal: animal.name)
def test_every_other_file_is_a_report_or_one_line(animal: Animal, tmp_path: Path) -> None:
    path = tmp_path / (animal.name + animal.suffix)
    path.write_bytes(animal.make())
    refusal, found = "", None
    try:
        found = fit_file(path, on=[catalog_target("sd15")])
    except UnsafeFile as error:
        refusal = str(error)
    assert bool(refusal) != bool(found)
    assert "\n" not in refusal
    if found and animal.cage == "not-weights":
        assert found.made_for is None


def test_an_unknown_model_gets_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"ponny.*pony"):
        catalog_target("ponny")


def test_a_file_is_compared_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(pack(lora("sd15", "kohya")))
    code = (
        "import sys; from pathlib import Path; from plugins_manifest.fits import fit_file\n"
        "fit_file(Path(sys.argv[1])); assert not {'torch', 'pandas'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
