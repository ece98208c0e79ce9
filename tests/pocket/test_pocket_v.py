"""The family `pocket-v`: SD 2.1's kind of upgraded model, its training and its mapper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.train import load_recipe, train_recipe
from pocket import data, recipes
from pocket.fit import FitSettings
from pocket.models import Prediction, alphas_cumprod
from pocket.train_unet import BaseModel, Latents, noise_loss, tokenize
from runners.base import RenderCase, RenderSettings, Variant
from runners.families import Family, family_traits, load_family
from runners.group import run_group
from xadapter.sites import injected_names, site_shapes, tapped_names

PROMPT = "a large red circle on a white background"
SETTINGS = RenderSettings((64, 64), (128, 128), steps=4, guidance_scale=3.0)


@pytest.fixture(scope="module")
def family() -> Family:
    return load_family("pocket-v")


def test_the_upgraded_model_predicts_v_and_has_the_vae_of_the_base(family: Family) -> None:
    base, upgraded = family.base, family.upgraded
    assert upgraded.scheduler.config["prediction_type"] == "v_prediction"
    assert base.scheduler.config["prediction_type"] == "epsilon"
    assert upgraded.unet.config["use_linear_projection"]
    assert upgraded.text_encoder.config.hidden_size != base.text_encoder.config.hidden_size
    weights = (pipe.vae.state_dict() for pipe in (base, upgraded))
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


@pytest.mark.parametrize("name", ["pocket", "pocket-v"])
def test_a_mapper_has_the_channels_that_the_family_states(name: str) -> None:
    one = load_family(name)
    unets = (one.base.unet, one.upgraded.unet)
    sites = (tapped_names(unets[0]), injected_names(unets[1]))
    found = tuple(site_shapes(u, names).channels for u, names in zip(unets, sites, strict=True))
    assert family_traits(name).mapper_channels() == found
    assert one.mapper is not None


def test_x_adapter_acts_and_without_its_offsets_is_sdedit(family: Family) -> None:
    case = RenderCase("one", 0, PROMPT, PROMPT)
    variants = [
        Variant("sdedit", t0=1.0),
        Variant("xadapter", t0=1.0, adapter_scale=0.0),
        Variant("xadapter", t0=1.0, adapter_scale=1.0),
    ]
    sdedit, zero, one = (r.image for r in run_group(family, None, [case], variants, SETTINGS))
    assert sdedit is not None and zero is not None and one is not None
    assert np.array_equal(sdedit, zero)
    assert not np.array_equal(sdedit, one)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_model_that_predicts_what_it_is_asked_for_has_no_loss(prediction: Prediction) -> None:
    z, abar = torch.randn(4, 4, 4), alphas_cumprod()

    def perfect(x_bchw: Tensor, timestep_b: Tensor, ids_bl: Tensor, index_b: Tensor) -> Tensor:
        signal, spread = (s.sqrt().view(-1, 1, 1, 1) for s in (abar, 1 - abar))
        signal, spread = signal[timestep_b], spread[timestep_b]
        noise = (x_bchw - signal * z) / spread
        # z = signal x - spread v, solved for v
        return noise if prediction == "epsilon" else (signal * x_bchw - z) / spread

    batch = Latents(z.expand(8, -1, -1, -1), tokenize([PROMPT] * 8))
    loss_at = noise_loss(perfect, batch, null_share=0.1, prediction=prediction)
    assert loss_at(8, torch.Generator().manual_seed(0)) < 1e-6


def test_the_model_trains_at_both_sizes_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = FitSettings(2, 2, 1e-3, seed=1)
    for name in ("SMALL_V", "V"):
        monkeypatch.setattr(recipes, name, steps)
        few = replace(getattr(data, f"{name}_SET"), n_images=2)
        monkeypatch.setattr(recipes, f"{name}_SET", few)
        monkeypatch.setitem(data.SETS, few.name, few)
    loss = recipes.train_v(tmp_path)
    assert np.isfinite(loss) and recipes.train_v(tmp_path) == loss
    found = recipes.load_frozen("upgraded-v", tmp_path)
    assert isinstance(found, BaseModel)
    hidden, added = found.conditions(tokenize([PROMPT]))
    assert hidden.shape[-1] == found.unet.config.cross_attention_dim and added is None


def test_a_mapper_of_the_family_trains_by_its_recipe(tmp_path: Path) -> None:
    few = {"schedule.steps": 1, "optimizer.batch": 2, "objective.weighting": "paper"}
    trained = train_recipe(load_recipe("pocket-v", few), out_dir=tmp_path, progress=False)
    assert np.isfinite(trained.loss)
