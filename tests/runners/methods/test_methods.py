from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

from runners.base import SAMPLERS, PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.group import run_group
from runners.plugins.controlnet import load_controlnet
from runners.session import image_seed
from tests.runners.conftest import METHODS, SETTINGS
from xadapter.noise import NoiseSource, generators_from, independent_noise
from xadapter.solvers import shared_schedulers
from xadapter.vae import encode_image

pytestmark = pytest.mark.system


def render(
    family: Family, plugin: PluginFile | None, case: RenderCase, variant: Variant
) -> np.ndarray:
    result = next(iter(run_group(family, plugin, [case], [variant], SETTINGS, methods=METHODS)))
    assert result.image is not None
    return result.image


def noise_of(case: RenderCase) -> Mapping[str, torch.Tensor]:
    source = NoiseSource(generators_from([image_seed(case)]))
    return vars(source.draw(base_chw=(4, 8, 8), upgraded_chw=(4, 16, 16)))


def schedulers(family: Family) -> Sequence[object]:
    return shared_schedulers(
        family.base.scheduler, family.upgraded.scheduler, solver_class=DPMSolverMultistepScheduler
    )


def assert_same_picture(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal to 1/255: the same numbers, rounded."""
    expected = (theirs[0] * 255).round().astype(int)
    assert np.abs(ours.astype(int) - expected).max() <= 1


def assert_sdedit_is_img2img(
    family: Family, pipe: Any, case: RenderCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the 8-bit base picture: the float hand-over differs by its rounding alone."""
    noise = noise_of(case)
    base = render(family, None, case, Variant("base"))
    ours = render(family, None, case, Variant("sdedit", t0=2 / 3))
    pipe.set_progress_bar_config(disable=True)
    draws = iter([noise["upgraded_posterior"], noise["upgraded_noise"]])
    for module in ("diffusers.models.autoencoders.vae", type(pipe).__module__):
        monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: next(draws))
    picture = torch.from_numpy(base).permute(2, 0, 1)[None].float() / 255
    picture = torch.nn.functional.interpolate(
        picture, size=(128, 128), mode="bicubic", antialias=True
    )
    theirs = pipe(
        case.upgraded_prompt, image=picture.clamp(0, 1), strength=2 / 3, **common(case)
    ).images
    expected = (theirs[0] * 255).round().astype(int)
    assert np.abs(ours.astype(int) - expected).mean() < 1


def common(case: RenderCase) -> dict[str, object]:
    return {
        "num_inference_steps": SETTINGS.steps,
        "guidance_scale": SETTINGS.guidance_scale,
        "negative_prompt": case.negative_prompt or None,
        "output_type": "np",
    }


@pytest.mark.parametrize("index", [0, 1])  # without and with a negative prompt
def test_base_is_the_stock_pipeline(family: Family, cases: list[RenderCase], index: int) -> None:
    case = cases[index]
    pipe = StableDiffusionPipeline(
        **{**family.base.components, "scheduler": schedulers(family)[0]},
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        case.base_prompt, latents=noise_of(case)["base_start"], height=64, width=64, **common(case)
    ).images
    assert_same_picture(render(family, None, case, Variant("base")), theirs)


def stock_controlnet_picture(
    family: Family, controlnet: PluginFile, case: RenderCase
) -> np.ndarray:
    """Return the stock ControlNet pipeline's picture at plugin scale 0.8, float [1, 64, 64, 3]."""
    net = load_controlnet(controlnet, family).net
    assert case.condition is not None
    pipe = StableDiffusionControlNetPipeline(
        **{**family.base.components, "scheduler": schedulers(family)[0]},
        controlnet=net,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        case.base_prompt,
        image=Image.fromarray(case.condition),
        latents=noise_of(case)["base_start"],
        controlnet_conditioning_scale=0.8,
        height=64,
        width=64,
        **common(case),
    ).images


def test_base_with_a_controlnet_is_the_stock_controlnet_pipeline(
    family: Family, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    theirs = stock_controlnet_picture(family, controlnet, cases[0])
    ours = render(family, controlnet, cases[0], Variant("base", plugin_scale=0.8))
    assert_same_picture(ours, theirs)


@pytest.mark.parametrize("index", [0, 1])
def test_floor_is_the_stock_xl_pipeline(
    family: Family, cases: list[RenderCase], index: int
) -> None:
    case = cases[index]
    parts = {**family.upgraded.components, "scheduler": schedulers(family)[1]}
    pipe = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(
        **{"force_zeros_for_empty_prompt": family.upgraded.config.force_zeros_for_empty_prompt}
    )
    theirs = pipe(
        case.upgraded_prompt,
        latents=noise_of(case)["upgraded_noise"],
        height=128,
        width=128,
        **common(case),
    ).images
    assert_same_picture(render(family, None, case, Variant("floor")), theirs)


def test_sdedit_is_img2img_from_the_base_picture(
    family: Family, cases: list[RenderCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {**family.upgraded.components, "scheduler": schedulers(family)[1]}
    pipe = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    assert_sdedit_is_img2img(family, pipe, cases[0], monkeypatch)


def test_the_negative_prompt_matters_for_both_sides(
    family: Family, cases: list[RenderCase]
) -> None:
    other = replace(cases[0], negative_prompt="a large red star")
    for variant in (Variant("base"), Variant("floor")):
        plain = render(family, None, cases[0], variant)
        assert not np.array_equal(plain, render(family, None, other, variant))


def test_another_seed_and_another_case_are_other_noise(cases: list[RenderCase]) -> None:
    seeds = {
        image_seed(case)
        for case in (cases[0], replace(cases[0], seed=5), replace(cases[0], case_id="x"))
    }
    assert len(seeds) == 3
    assert image_seed(cases[0]) == image_seed(replace(cases[0], base_prompt="else"))


def test_hires_is_controlnet_img2img_on_the_base_model(
    family: Family,
    controlnet: PluginFile,
    cases: list[RenderCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = cases[0]
    assert case.condition is not None
    ours = render(family, controlnet, case, Variant("hires", t0=2 / 3, plugin_scale=0.8))
    pipe = StableDiffusionControlNetImg2ImgPipeline(
        **{**family.base.components, "scheduler": schedulers(family)[0]},
        controlnet=load_controlnet(controlnet, family).net,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    posterior, noise = independent_noise([image_seed(case)], "hires", [(4, 16, 16)] * 2)
    module = "diffusers.pipelines.controlnet.pipeline_controlnet_img2img"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: noise)
    base = torch.from_numpy(stock_controlnet_picture(family, controlnet, case)).permute(0, 3, 1, 2)
    picture = torch.nn.functional.interpolate(base, size=(128, 128), mode="bicubic", antialias=True)
    theirs = pipe(
        case.base_prompt,
        image=encode_image(family.base.vae, picture * 2 - 1, posterior),
        controlnet_conditioning_scale=0.8,
        control_image=Image.fromarray(case.condition).resize((128, 128), Image.Resampling.NEAREST),
        strength=2 / 3,
        **common(case),
    ).images
    assert_same_picture(ours, theirs)


def test_hires_noise_is_its_own_and_moves_nothing_else(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    sdedit, hires = Variant("sdedit", t0=0.7), Variant("hires", t0=0.7)
    both = run_group(family, lora, cases[:1], [hires, sdedit], SETTINGS, methods=METHODS)
    beside = {result.variant: result.image for result in both}
    alone = render(family, lora, cases[0], sdedit)
    assert np.array_equal(beside[sdedit], alone)
    noise = noise_of(cases[0])
    own = independent_noise([image_seed(cases[0])], "hires", [(4, 16, 16)] * 2)
    known = [noise["upgraded_noise"], noise["upgraded_posterior"]]
    assert all(
        abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.1
        for a in own
        for b in known
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_the_same_images_again_in_any_batch(
    family: Family, lora: PluginFile, cases: list[RenderCase], sampler: str
) -> None:
    settings = replace(SETTINGS, sampler=sampler)
    variants = [
        *(Variant("base"), Variant("sdedit", t0=0.7)),
        *(Variant("xadapter", t0=0.7, adapter_scale=s) for s in (0.0, 1.0)),
    ]
    if sampler in ("ddim", "dpm++", "lcm"):  # one of each kind: all methods
        variants += [Variant("floor"), Variant("hires", t0=0.7)]
        variants += [Variant("xadapter-truncated", t0=0.7, adapter_scale=1.0)]
    both = list(run_group(family, lora, cases[:2], variants, settings, methods=METHODS))
    assert [r.error for r in both] == [None] * len(both)
    alone = run_group(family, lora, cases[1:2], variants[::-1], settings, methods=METHODS)
    images = {r.variant: r.image for r in both if r.index == 1}
    for result in alone:
        assert result.image is not None and result.error is None
        step = np.abs(result.image.astype(int) - images[result.variant].astype(int)).max()
        assert step <= 1
    assert np.array_equal(images[variants[1]], images[variants[2]])  # no offsets: SDEdit
