"""Each kind's latents equal those of diffusers' own pipeline for that kind, to 1e-5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    MultiAdapter,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    T2IAdapter,
)
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from runners.base import PluginFile, RenderCase
from runners.families.family import Family
from tests.runners.conftest import SETTINGS
from tests.runners.kinds import (
    TEXT_WIDTH,
    WORD,
    assert_close,
    drawn,
    save_ip_adapter,
    save_t2i,
    stage1_latents,
    stock_pipeline,
)
from tests.runners.methods.test_methods import noise_of

SCALE = 0.7


def settings_of(case: RenderCase) -> dict[str, Any]:
    return {
        "prompt": case.base_prompt,
        "negative_prompt": case.negative_prompt or None,
        "latents": noise_of(case)["base_start"],
        "height": 64,
        "width": 64,
        "num_inference_steps": SETTINGS.steps,
        "guidance_scale": SETTINGS.guidance_scale,
        "output_type": "latent",
    }


def picture_of(case: RenderCase) -> Image.Image:
    assert case.condition is not None
    return Image.fromarray(case.condition)


def test_controlnet(family: Family, controlnet: PluginFile, cases: list[RenderCase]) -> None:
    pipe = StableDiffusionControlNetPipeline(
        **stock_pipeline(family).components,
        controlnet=ControlNetModel.from_pretrained(controlnet.path),
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        image=picture_of(cases[1]), controlnet_conditioning_scale=SCALE, **settings_of(cases[1])
    ).images
    assert_close(stage1_latents(family, controlnet, [cases[1]], scale=SCALE), theirs)


@pytest.mark.parametrize("kind", ["full_adapter", "light_adapter"])
@pytest.mark.parametrize("in_channels", [3, 1])
def test_t2i_adapter(
    family: Family, cases: list[RenderCase], tmp_path: Path, kind: str, in_channels: int
) -> None:
    case = cases[1]
    net = save_t2i(tmp_path, kind=kind, in_channels=in_channels)
    if in_channels == 1:  # diffusers reads sketches as gray pictures
        assert case.condition is not None
        gray = np.repeat(case.condition[..., :1], 3, axis=-1)
        case = replace(case, condition=gray)
    picture = picture_of(case).convert("L" if in_channels == 1 else "RGB")
    pipe = adapter_pipeline(family, net)
    theirs = pipe(image=picture, adapter_conditioning_scale=SCALE, **settings_of(case)).images
    plugin = PluginFile("t2i", "t2i-adapter", tmp_path)
    assert_close(stage1_latents(family, plugin, [case], scale=SCALE), theirs)


def test_two_t2i_adapters_with_their_own_weights(
    family: Family, cases: list[RenderCase], tmp_path: Path
) -> None:
    case = cases[0]
    nets = [save_t2i(tmp_path / "a"), save_t2i(tmp_path / "b", kind="light_adapter")]
    pictures = [Image.fromarray(np.roll(np.asarray(picture_of(case)), i, axis=0)) for i in (0, 7)]
    pipe = adapter_pipeline(family, MultiAdapter(nets))
    theirs = pipe(image=pictures, adapter_conditioning_scale=[0.5, 0.9], **settings_of(case)).images
    stack = tuple(
        PluginFile(name, "t2i-adapter", tmp_path / name, weight=weight)
        for name, weight in (("a", 0.5), ("b", 0.9))
    )
    shown = {name: np.asarray(p) for name, p in zip("ab", pictures, strict=True)}
    assert_close(stage1_latents(family, stack, [replace(case, conditions=shown)]), theirs)


def adapter_pipeline(family: Family, net: T2IAdapter | MultiAdapter) -> Any:
    parts = dict(stock_pipeline(family).components)
    del parts["image_encoder"]
    pipe = StableDiffusionAdapterPipeline(**parts, adapter=net, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_ip_adapter(family: Family, cases: list[RenderCase], tmp_path: Path) -> None:
    """A batch of two with a reference each; diffusers renders them one by one."""
    path = save_ip_adapter(tmp_path, family.base.unet)
    rng = np.random.default_rng(1)
    given = [
        replace(case, reference=rng.integers(0, 256, (40, 52, 3), dtype=np.uint8))
        for case in cases[:2]
    ]
    plugin = PluginFile("ip", "ip-adapter", path)
    ours = stage1_latents(family, plugin, given, scale=SCALE)
    theirs = with_ip_adapter(family, path, given)
    assert_close(ours, theirs)


def with_ip_adapter(family: Family, path: Path, cases: list[RenderCase]) -> Tensor:
    processors = dict(family.base.unet.attn_processors)
    pipe = stock_pipeline(family)
    encoder = CLIPVisionModelWithProjection.from_pretrained(path.parent / "image_encoder")
    pipe.register_modules(image_encoder=encoder)
    try:
        pipe.load_ip_adapter(str(path.parent), subfolder="", weight_name=path.name)
        pipe.set_ip_adapter_scale(SCALE)
        return torch.cat(
            [
                pipe(ip_adapter_image=Image.fromarray(c.reference), **settings_of(c)).images
                for c in cases
                if c.reference is not None
            ]
        )
    finally:
        pipe.unload_ip_adapter()
        family.base.unet.set_attn_processor(processors)


LAYOUTS = {"diffusers": "<other>", "civitai": "emb_params", "a1111": "string_to_param.*"}


@pytest.mark.parametrize("n_vectors", [1, 3])
@pytest.mark.parametrize("key", LAYOUTS.values(), ids=LAYOUTS)
def test_textual_inversion(  # noqa: PLR0917  # fixtures and parameters
    family: Family,
    cases: list[RenderCase],
    folders: Path,
    tmp_path: Path,
    n_vectors: int,
    key: str,
) -> None:
    """The word in the prompt of one image, and in the negative prompt of another."""
    vectors = 0.5 * drawn(5, n_vectors, TEXT_WIDTH)
    state = {key: vectors[0] if n_vectors == 1 else vectors}
    save_file(state, tmp_path / "ti.safetensors")
    plugin = PluginFile("ti", "textual-inversion", tmp_path / "ti.safetensors", token=WORD)
    for case in (
        replace(cases[0], base_prompt=f"a large {WORD} circle"),
        replace(cases[1], negative_prompt=f"{WORD}, a blue star"),
    ):
        ours = stage1_latents(family, plugin, [case])
        assert_close(ours, with_textual_inversion(folders, family, vectors, case))


def with_textual_inversion(
    folders: Path, family: Family, vectors: Tensor, case: RenderCase
) -> Tensor:
    """On a text encoder and a tokenizer of its own: diffusers changes both."""
    from transformers import CLIPTextModel, CLIPTokenizer

    pipe = stock_pipeline(family)
    pipe.text_encoder = CLIPTextModel.from_pretrained(folders / "base" / "text_encoder")
    pipe.tokenizer = CLIPTokenizer.from_pretrained(folders / "base" / "tokenizer")
    pipe.load_textual_inversion({WORD: vectors}, token=WORD)
    return pipe(**settings_of(case)).images
