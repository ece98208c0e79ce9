"""Claims about the shipped weights: they load in stock diffusers pipelines and work."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from safetensors import safe_open

from plugins_manifest.documents import read_json
from pocket import weights
from pocket.conditions import canny, mask
from pocket.oracle import check, read_style
from pocket.scenes import Style, caption, render, scene_at
from pocket.scorer import load_scorer
from pocket.weights import PARTS, WeightsError, part_path, part_sha256

pytestmark = pytest.mark.system

N_IMAGES = 16
SCENES = [scene_at(7100, i) for i in range(N_IMAGES)]
MAX_MIB = 80  # of the 100 MB that a file on PyPI may have; float16 weights hardly compress


@cache
def base_pipeline() -> StableDiffusionPipeline:
    """Load the base model as a stock diffusers pipeline."""
    pipe = StableDiffusionPipeline.from_pretrained(part_path("base"), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: StableDiffusionPipeline, *, style: Style | None = None, **kwargs) -> np.ndarray:
    """Render pictures of SCENES, uint8 N x H x W x 3."""
    generators = [torch.Generator().manual_seed(i) for i in range(N_IMAGES)]
    images = pipe(
        [caption(s, style) for s in SCENES],
        num_inference_steps=20,
        guidance_scale=3.0,
        generator=generators,
        output_type="np",
        **kwargs,
    ).images
    return (np.asarray(images) * 255).round().astype(np.uint8)


@cache
def base_pictures() -> np.ndarray:
    """Draw the pictures of the base model alone."""
    return draw(base_pipeline())


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_there_with_its_recorded_hash(name: str) -> None:
    assert part_path(name).exists()


def test_all_weights_together_stay_small() -> None:
    total = sum(p.stat().st_size for p in weights.FOLDER.rglob("*") if p.is_file())
    assert total < MAX_MIB * 2**20


def test_no_weight_file_is_a_pickle() -> None:
    suffixes = {p.suffix for p in weights.FOLDER.rglob("*") if p.is_file()}
    assert suffixes <= {".safetensors", ".json", ".py", ".pyc", ".txt"}


def test_a_changed_byte_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(weights.FOLDER, tmp_path / "w", ignore=shutil.ignore_patterns("*.py*"))
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "w")
    assert part_path("lora-outline").parent == tmp_path / "w"
    file = tmp_path / "w" / "lora-outline.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsError, match="lora-outline"):
        part_path("lora-outline")


def test_the_base_model_draws_its_captions_in_flat_style() -> None:
    pictures = base_pictures()
    assert pictures.shape == (N_IMAGES, 64, 64, 3)
    readings = [check(p, s) for p, s in zip(pictures, SCENES, strict=True)]
    assert np.mean([r.accuracy for r in readings]) > 0.75
    assert np.mean([read_style(p) == "flat" for p in pictures]) > 0.7


def test_the_upgraded_model_draws_larger_and_shaded() -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(part_path("upgraded"), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pictures = draw(pipe)
    assert pictures.shape == (N_IMAGES, 128, 128, 3)
    readings = [check(p, s) for p, s in zip(pictures, SCENES, strict=True)]
    assert np.mean([r.accuracy for r in readings]) > 0.65
    assert np.mean([read_style(p) == "shaded" for p in pictures]) > 0.45


def test_the_v_model_draws_with_the_vae_of_the_base() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(
        part_path("upgraded-v"), vae=base_pipeline().vae, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    pictures = draw(pipe)
    assert pictures.shape == (N_IMAGES, 128, 128, 3)
    readings = [check(p, s) for p, s in zip(pictures, SCENES, strict=True)]
    assert np.mean([r.accuracy for r in readings]) > 0.3
    assert np.mean([read_style(p) == "shaded" for p in pictures]) > 0.4


def test_the_flow_model_draws_in_the_stock_pipeline_and_takes_its_lora() -> None:
    own = read_json(part_path("flow") / "vae" / "config.json")
    vae = AutoencoderKL.from_pretrained(part_path("upgraded") / "vae", dtype=torch.float32)
    vae.register_to_config(**{key: own[key] for key in ("shift_factor", "scaling_factor")})
    pipe = StableDiffusion3Pipeline.from_pretrained(
        part_path("flow"), vae=vae, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    pictures = draw(pipe, height=128, width=128, max_sequence_length=0)
    readings = [check(p, s) for p, s in zip(pictures, SCENES, strict=True)]
    assert np.mean([r.accuracy for r in readings]) > 0.5
    pipe.load_lora_weights(part_path("flow-lora-outline"))
    assert len(pipe.transformer.peft_config) == 1


@pytest.mark.parametrize("kind", ["canny", pytest.param("mask", marks=pytest.mark.slow)])
def test_a_controlnet_works_in_the_stock_pipeline(kind: str) -> None:
    controlnet = ControlNetModel.from_pretrained(
        part_path(f"controlnet-{kind}"), dtype=torch.float32
    )
    pipe = StableDiffusionControlNetPipeline(**base_pipeline().components, controlnet=controlnet)
    pipe.set_progress_bar_config(disable=True)
    detect = {"canny": canny, "mask": mask}[kind]
    wanted = [detect(render(s, "flat", 64)) for s in SCENES]
    guided = draw(pipe, image=[Image.fromarray(c) for c in wanted])
    free = base_pictures()
    assert _agreement(guided) > 0.6
    assert _agreement(guided) > _agreement(free) + 0.3


@pytest.mark.parametrize("kind", ["canny", pytest.param("mask", marks=pytest.mark.slow)])
def test_a_native_controlnet_works_in_the_stock_pipeline(kind: str) -> None:
    """Detect the condition at the base size and enlarge it, as in training."""
    controlnet = ControlNetModel.from_pretrained(
        part_path(f"upgraded-controlnet-{kind}"), dtype=torch.float32
    )
    stock = StableDiffusionXLPipeline.from_pretrained(part_path("upgraded"), dtype=torch.float32)
    pipe = StableDiffusionXLControlNetPipeline(**stock.components, controlnet=controlnet)
    pipe.set_progress_bar_config(disable=True)
    detect = {"canny": canny, "mask": mask}[kind]
    found = [Image.fromarray(detect(render(s, "flat", 64))) for s in SCENES]
    guided = draw(pipe, image=[c.resize((128, 128), Image.Resampling.NEAREST) for c in found])
    assert np.mean([read_style(p) == "shaded" for p in guided]) > 0.45
    small = [np.asarray(Image.fromarray(p).resize((64, 64))) for p in guided]
    assert _agreement(np.stack(small)) > 0.6


@pytest.mark.parametrize("style", ["outline", pytest.param("hatched", marks=pytest.mark.slow)])
def test_a_native_lora_works_in_the_stock_pipeline(style: Style) -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(part_path("upgraded"), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(part_path(f"upgraded-lora-{style}"))
    assert np.mean([read_style(p) == style for p in draw(pipe, style=style)]) > 0.5


@pytest.mark.parametrize("style", ["outline", "hatched"])
def test_a_converted_lora_is_of_the_shipped_files_and_has_the_layers_of_the_native_one(
    style: Style,
) -> None:
    with safe_open(part_path(f"converted-lora-{style}"), "pt") as file:
        about, keys = file.metadata(), set(file.keys())
    assert about["xbench.source_sha256"] == part_sha256(f"lora-{style}")
    assert about["xbench.upgraded_sha256"] == part_sha256("upgraded")
    wanted = {"method": "distill", "teacher": "delta", "pictures": "96", "steps": "240"}
    assert {key: about[f"xbench.{key}"] for key in wanted} == wanted
    with safe_open(part_path(f"upgraded-lora-{style}"), "pt") as file:
        assert keys == set(file.keys())


@pytest.mark.parametrize("style", ["outline", pytest.param("hatched", marks=pytest.mark.slow)])
def test_a_lora_in_kohya_format_works_in_the_stock_pipeline(style: Style) -> None:
    pipe = StableDiffusionPipeline(**base_pipeline().components)
    pipe.load_lora_weights(part_path(f"lora-{style}"))
    try:
        pictures = draw(pipe, style=style)
    finally:
        pipe.unload_lora_weights()
    plain = base_pictures()
    assert np.mean([read_style(p) == style for p in pictures]) > 0.5
    assert np.mean([read_style(p) == style for p in plain]) < 0.1


def test_the_scorer_prefers_the_right_caption() -> None:
    scorer = load_scorer()
    pictures = [render(s, "shaded", 128) for s in SCENES]
    cosines = scorer.encode_images(pictures) @ scorer.encode_texts([caption(s) for s in SCENES]).T
    assert np.mean(cosines.argmax(1) == np.arange(N_IMAGES)) > 0.85


def _agreement(pictures: np.ndarray) -> float:
    """Return the mean overlap of the pictures' silhouettes with the scenes', 0..1."""
    pairs = zip(pictures, SCENES, strict=True)
    return float(np.mean([_iou(mask(p), mask(render(s, "flat", 64))) for p, s in pairs]))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a > 127, b > 127
    return float((a & b).sum() / max(1, (a | b).sum()))
