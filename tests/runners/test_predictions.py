"""Either side may predict epsilon or v, and the upgraded side may be SD 2.1's kind of pipeline."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family, load_from_folders
from runners.group import run_group
from tests.runners.conftest import METHODS, SETTINGS, mapper_between, randomized
from tests.runners.methods.test_methods import (
    assert_same_picture,
    assert_sdedit_is_img2img,
    common,
    noise_of,
    render,
    schedulers,
)
from tests.runners.sd21 import Prediction, schedule, sd21_pipeline


@pytest.fixture(scope="module")
def sd21(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    root = tmp_path_factory.mktemp("sd21")
    pipe = sd21_pipeline(seed=11)
    pipe.save_pretrained(root / "upgraded")
    family = load_from_folders(
        "tiny-sd21",
        base=folders / "base",
        upgraded=root / "upgraded",
        mapper=None,
        device="cpu",
        dtype="float32",
    )
    mapper = randomized(mapper_between(family.base.unet, family.upgraded.unet), 5)
    return replace(family, mapper=mapper.eval())


def with_predictions(family: Family, base: Prediction, upgraded: Prediction) -> Family:
    """Return the family with other schedulers: the same networks, another prediction."""
    sides = []
    for pipe, prediction in ((family.base, base), (family.upgraded, upgraded)):
        other = copy(pipe)
        other.scheduler = schedule(prediction)
        sides.append(other)
    return replace(family, base=sides[0], upgraded=sides[1])


def stock(family: Family, side: str) -> StableDiffusionPipeline:
    pipe = getattr(family, side)
    solver = schedulers(family)[side == "upgraded"]
    stock = StableDiffusionPipeline(
        **{**pipe.components, "scheduler": solver}, requires_safety_checker=False
    )
    stock.set_progress_bar_config(disable=True)
    return stock


@pytest.mark.parametrize("upgraded", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("base", ["epsilon", "v_prediction"])
def test_each_side_is_sampled_as_its_own_scheduler_predicts(
    sd21: Family, cases: list[RenderCase], base: Prediction, upgraded: Prediction
) -> None:
    family, case = with_predictions(sd21, base, upgraded), cases[1]
    noise = noise_of(case)
    of_base = stock(family, "base")(
        case.base_prompt, latents=noise["base_start"], height=64, width=64, **common(case)
    ).images
    of_floor = stock(family, "upgraded")(
        case.upgraded_prompt, latents=noise["upgraded_noise"], height=128, width=128, **common(case)
    ).images
    assert_same_picture(render(family, None, case, Variant("base")), of_base)
    assert_same_picture(render(family, None, case, Variant("floor")), of_floor)


def test_sdedit_on_sd21_is_img2img_from_the_base_picture(
    sd21: Family, cases: list[RenderCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {**sd21.upgraded.components, "scheduler": schedulers(sd21)[1]}
    pipe = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    assert_sdedit_is_img2img(sd21, pipe, cases[0], monkeypatch)


def test_a_trained_mapper_would_steer_sd21_and_a_zero_one_leaves_sdedit(
    sd21: Family, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    """Scale 0 differs from SDEdit by nothing but the way through the hooks."""
    variants = [
        Variant("sdedit", t0=1.0),
        Variant("xadapter", t0=1.0, adapter_scale=0.0),
        Variant("xadapter", t0=1.0, adapter_scale=1.0),
    ]
    for family in (sd21, with_predictions(sd21, "v_prediction", "epsilon")):
        results = list(
            run_group(family, controlnet, cases[:1], variants, SETTINGS, methods=METHODS)
        )
        sdedit, zero, steered = (result.image for result in results)
        assert sdedit is not None and zero is not None and steered is not None
        assert np.array_equal(sdedit, zero)
        assert not np.array_equal(sdedit, steered)


def test_without_a_mapper_sd21_renders_all_but_xadapter(
    sd21: Family, cases: list[RenderCase]
) -> None:
    bare = replace(sd21, mapper=None)
    for variant in (Variant("base"), Variant("sdedit", t0=0.7), Variant("floor")):
        assert render(bare, None, cases[0], variant).dtype == np.uint8
