"""The share of a file that would load is what diffusers' own loaders load."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins_manifest.fits import catalog_target, fit_file
from plugins_manifest.formats.catalog import CATALOG
from tests.plugins_manifest.fits.diffusers_loaders import loaded_modules
from tests.plugins_manifest.fits.files import (
    NAMINGS,
    Naming,
    linear_modules,
    lora,
    usual_modules,
    written,
)
from tests.plugins_manifest.zoo.files import numbers, pack

pytestmark = [
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated"),  # by diffusers itself
    # the config names `proj_out` of blocks, which is the name of a last layer, too
    pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters"),
]
LOADABLE = [model for model in CATALOG if model.architecture != "pixart"]
QUICK = {("chroma", "kohya"), ("qwen-image", "kohya"), ("z-image", "comfyui"), ("sd15", "kohya")}
CASES = [
    pytest.param(
        model.name,
        naming,
        marks=() if (model.name, naming) in QUICK else pytest.mark.slow,
        id=f"{model.name}-{naming}",
    )
    for model in LOADABLE
    for naming in NAMINGS
]
# A file for the first model, loaded into the second one.
ACROSS = [
    ("flux1-dev", "chroma"),
    ("flux1-dev", "flux1-schnell"),
    ("wan21-t2v-14b", "wan22-i2v-a14b"),
    ("wan21-i2v-14b", "wan21-t2v-14b"),
    ("sdxl", "ssd-1b"),
]


def modules_of(model: str, naming: Naming) -> set[str]:
    names = written(model, usual_modules(model, naming), naming)
    return {module for modules in names.values() for module in modules}


@pytest.mark.parametrize(("model", "naming"), CASES)
def test_the_layers_that_load_are_those_that_diffusers_loads(
    model: str, naming: Naming, tmp_path: Path
) -> None:
    tensors = lora(model, naming)
    (tmp_path / "a.safetensors").write_bytes(pack(tensors))
    target = catalog_target(model)
    (found,) = fit_file(tmp_path / "a.safetensors", on=[target]).targets
    assert target.known is not None
    loaded = loaded_modules(model, target.known.architecture, tensors)
    assert found.total.loaded == found.total.layers == len(modules_of(model, naming))
    if found.diffusers is None:
        assert loaded == modules_of(model, naming)
    else:
        assert loaded != modules_of(model, naming)


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_the_adapters_of_xlabs_are_read_as_diffusers_does(prefix: str, tmp_path: Path) -> None:
    sizes = {
        "double_blocks.1.processor.qkv_lora1": (9216, 3072),
        "double_blocks.1.processor.proj_lora1": (3072, 3072),
        "double_blocks.1.processor.qkv_lora2": (9216, 3072),
        "double_blocks.1.processor.proj_lora2": (3072, 3072),
        "single_blocks.0.processor.qkv_lora": (9216, 3072),
        "single_blocks.0.processor.proj_lora": (3072, 15360),
    }
    tensors = {
        f"{prefix}{name}.{part}.weight": numbers(*shape, seed=seed)
        for seed, (name, (n_out, n_in)) in enumerate(sizes.items())
        for part, shape in (("down", (2, n_in)), ("up", (n_out, 2)))
    }
    (tmp_path / "a.safetensors").write_bytes(pack(tensors))
    target = catalog_target("flux1-dev")
    found = fit_file(tmp_path / "a.safetensors", on=[target])
    assert found.made_for is not None and found.made_for.target.name == "flux1-dev"
    assert found.format == "xlabs"
    (fit,) = found.targets
    assert target.known is not None and fit.diffusers is None
    loaded = loaded_modules("flux1-dev", target.known.architecture, tensors)
    assert isinstance(loaded, set)
    # q, k and v of three layers, and three projections, one of a block without text
    assert fit.total.loaded == fit.total.layers == len(loaded) == 12


@pytest.mark.slow
@pytest.mark.parametrize(("model", "other"), ACROSS)
def test_on_another_model_the_same_layers_load_as_in_diffusers(
    model: str, other: str, tmp_path: Path
) -> None:
    modules = [m for m in linear_modules(model) if not m.startswith(("text_", "transformer.p"))]
    inner = [m for m in modules if "blocks." in m]
    tensors = lora(model, "peft", modules=inner)
    (tmp_path / "a.safetensors").write_bytes(pack(tensors))
    target = catalog_target(other)
    (found,) = fit_file(tmp_path / "a.safetensors", on=[target]).targets
    assert target.known is not None
    loaded = loaded_modules(other, target.known.architecture, tensors)
    assert isinstance(loaded, set)
    assert found.diffusers is None
    assert 0 < found.total.loaded == len(loaded)
    assert loaded == {m for m in inner if f"{m}.weight" in target.table}


@pytest.mark.slow
@pytest.mark.parametrize(("model", "other"), [("sd21", "sd15"), ("sd35-medium", "sd35-large")])
def test_a_file_with_layers_of_other_shapes_is_refused_by_diffusers(
    model: str, other: str, tmp_path: Path
) -> None:
    tensors = lora(model, "peft")
    (tmp_path / "a.safetensors").write_bytes(pack(tensors))
    target = catalog_target(other)
    (found,) = fit_file(tmp_path / "a.safetensors", on=[target]).targets
    assert target.known is not None
    assert found.other_shape
    assert isinstance(loaded_modules(other, target.known.architecture, tensors), RuntimeError)
    assert "refuses the whole file" in (found.diffusers or "")
