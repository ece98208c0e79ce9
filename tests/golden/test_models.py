"""Tapped features, injected offsets, ControlNet residuals and VAEs equal the recorded ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.golden.conftest import FORWARD_LIMIT, Case, model, require, worst
from xadapter.taps import capture, inject


def base_forward(case: Case, **kwargs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    tensors = case.tensors
    with torch.no_grad(), capture(model("base_unet")) as tap:
        output = model("base_unet")(
            tensors["sample"],
            case.json["timestep"],
            encoder_hidden_states=tensors["encoder_hidden_states"],
            return_dict=False,
            **kwargs,
        )[0]
    return output, tap.features


def test_captured_features_equal_the_recorded_hidden_states() -> None:
    case = require("unet", "base_unet_hidden_states")
    output, features = base_forward(case)
    assert worst(output, case.tensors["plain_output"]) <= FORWARD_LIMIT
    for i, feature in enumerate(features):
        assert worst(feature, case.tensors[f"plain_hidden_{i}"]) <= FORWARD_LIMIT


def test_features_under_a_controlnet_equal_the_recorded_ones() -> None:
    case = require("unet", "base_unet_hidden_states")
    tensors = case.tensors
    with torch.no_grad():
        down, middle = model("base_controlnet")(
            tensors["sample"],
            case.json["timestep"],
            encoder_hidden_states=tensors["encoder_hidden_states"],
            controlnet_cond=tensors["control_image"],
            conditioning_scale=case.json["controlnet_conditioning_scale"],
            guess_mode=case.json["guess_mode"],
            return_dict=False,
        )
    for i, residual in enumerate(down):
        assert worst(residual, tensors[f"control_down_residual_{i:02d}"]) <= FORWARD_LIMIT
    assert worst(middle, tensors["control_mid_residual"]) <= FORWARD_LIMIT
    output, features = base_forward(
        case, down_block_additional_residuals=down, mid_block_additional_residual=middle
    )
    assert worst(output, tensors["controlled_output"]) <= FORWARD_LIMIT
    for i, feature in enumerate(features):
        assert worst(feature, tensors[f"controlled_hidden_{i}"]) <= FORWARD_LIMIT


def test_injected_offsets_give_the_recorded_outputs() -> None:
    case = require("unet", "upgraded_unet_residuals")
    offsets = [case.tensors[f"residual_{i}"] for i in range(3)]

    def forward() -> Tensor:
        with torch.no_grad():
            return model("upgraded_unet")(
                case.tensors["sample"],
                case.json["timestep"],
                encoder_hidden_states=case.tensors["encoder_hidden_states"],
                added_cond_kwargs={k: case.tensors[k] for k in ("text_embeds", "time_ids")},
                return_dict=False,
            )[0]

    assert worst(forward(), case.tensors["output_without_residuals"]) <= FORWARD_LIMIT
    with inject(model("upgraded_unet"), offsets):
        added = forward()
    assert worst(added, case.tensors["output_added"]) <= FORWARD_LIMIT
    with inject(model("upgraded_unet"), offsets, fusion=case.json["fusion_guidance_scale_half"]):
        mixed = forward()
    assert worst(mixed, case.tensors["output_fusion_half"]) <= FORWARD_LIMIT


def test_both_vaes_decode_and_encode_as_recorded() -> None:
    case = require("unet", "vae_encode_decode")
    for side in ("base", "upgraded"):
        vae = model(f"{side}_vae")
        with torch.no_grad():
            decoded = vae.decode(case.tensors[f"{side}_latent"], return_dict=False)[0]
            posterior = vae.encode(case.tensors[f"{side}_image"], return_dict=False)[0]
        assert worst(decoded, case.tensors[f"{side}_decoded"]) <= FORWARD_LIMIT
        assert worst(posterior.mean, case.tensors[f"{side}_posterior_mean"]) <= FORWARD_LIMIT
        assert worst(posterior.std, case.tensors[f"{side}_posterior_std"]) <= FORWARD_LIMIT
