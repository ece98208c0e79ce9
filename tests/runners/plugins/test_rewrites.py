"""A trained LoRA, rewritten in every format that can hold its change, paints the same picture.

scripts/rewrite-claim makes the same comparison with whole runs of the benchmark.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pocket.weights import WeightsError, part_path
from runners.base import PluginFile, RenderCase, RenderSettings, Variant
from runners.families.family import Family
from runners.families.registry import load_family
from runners.group import run_group
from tests.runners.kohya import kohya_names, kohya_table
from tests.runners.rewrite import FORMATS, read_modules, rewritten

pytestmark = pytest.mark.system

CASE = RenderCase(
    "case",
    seed=0,
    base_prompt="a large red circle on a white background outline drawing",
    upgraded_prompt="a large red circle on a white background",
)
SETTINGS = RenderSettings(
    base_size_px=(64, 64), upgraded_size_px=(128, 128), steps=5, guidance_scale=3.0
)


@pytest.fixture(scope="module")
def trained() -> Family:
    try:
        part_path("lora-outline")
        return load_family("pocket")
    except WeightsError as error:
        pytest.skip(str(error))


def picture(family: Family, plugin: PluginFile, scale: float = 1.0) -> np.ndarray:
    [rendered] = run_group(family, plugin, [CASE], [Variant("base", plugin_scale=scale)], SETTINGS)
    assert rendered.image is not None, rendered.error
    return rendered.image.astype(float)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize(
    "lora", ["lora-outline", pytest.param("lora-hatched", marks=pytest.mark.slow)]
)
def test_rewritten_loras_paint_the_original_s_picture(
    trained: Family, lora: str, tmp_path: Path
) -> None:
    file = PluginFile(lora, "lora", part_path(lora))
    unet = trained.base.unet
    modules = read_modules(load_file(file.path), kohya_names(unet, None), kohya_table(unet, None))
    original, without = picture(trained, file), picture(trained, file, scale=0.0)
    effect = distance(original, without)
    assert effect > 1
    for name in FORMATS:
        save_file(rewritten(modules, name), tmp_path / f"{name}.safetensors")
        other = replace(file, path=tmp_path / f"{name}.safetensors")
        assert distance(picture(trained, other), original) < 0.1 * effect, name
