"""The hand-over: VAEs in range, scaling, resizing, 8 bit."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from tests.xadapter.conftest import tiny_vae
from tests.xadapter.worlds import drawn
from xadapter.vae import (
    cross_bridge,
    decode_image,
    encode_image,
    pixels_per_latent,
    resize_8bit,
    resize_float,
    to_uint8,
    upcast_vae,
)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_vae_that_overflows_runs_in_float32(dtype: torch.dtype) -> None:
    vae = stated(tiny_vae(3, 0.2).to(dtype))
    reference = deepcopy(vae).to(torch.float32)
    latents = drawn(1, 1, 4, 8, 8)
    assert torch.equal(decode_image(vae, latents), decode_image(reference, latents))
    assert vae.dtype == dtype
    with pytest.raises(RuntimeError, match="stop"):
        stop_inside(vae)
    assert vae.dtype == dtype


def stated(vae: Any) -> Any:
    """Return the VAE as it is loaded from a file that has the entry `force_upcast`."""
    vae.register_to_config(force_upcast=True, _use_default_values=[])
    return vae


def test_half_precision_vae_whose_file_does_not_state_an_overflow_keeps_its_dtype() -> None:
    vae = tiny_vae(3, 0.2).to(torch.bfloat16)
    assert vae.config.force_upcast  # diffusers' default, which SD 1.5's file leaves as it is
    with upcast_vae(vae) as same:
        assert same.dtype == torch.bfloat16


def test_large_images_pass_a_vae_one_by_one_and_small_ones_together(base_vae: Any) -> None:
    seen: list[int] = []
    vae = deepcopy(base_vae)
    for module in (vae.encoder, vae.decoder):
        module.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    factor = pixels_per_latent(vae)
    for side_px, expected in ((64, [3, 3]), (320, [1, 1, 1] * 2)):
        latents = drawn(5, 3, 4, side_px // factor, side_px // factor)
        seen.clear()
        images = decode_image(vae, latents)
        encoded = encode_image(vae, images, latents)
        assert seen == expected
        alone = decode_image(vae, latents[1:2])
        assert torch.equal(images[1:2], alone) or side_px == 64
        again = encode_image(vae, images[1:2], latents[1:2])
        assert torch.equal(encoded[1:2], again) or side_px == 64


def stop_inside(vae: Any) -> None:
    with upcast_vae(vae):
        assert vae.dtype == torch.float32
        raise RuntimeError("stop")


def test_vae_without_force_upcast_keeps_its_dtype() -> None:
    vae = tiny_vae(3, 0.2).to(torch.bfloat16)
    vae.register_to_config(force_upcast=False)
    with upcast_vae(vae) as same:
        assert same.dtype == torch.bfloat16


def test_latent_statistics_are_undone_and_done(base_vae: Any) -> None:
    vae = deepcopy(base_vae)
    latents = drawn(2, 1, 4, 8, 8)
    plain = decode_image(vae, latents)
    vae.register_to_config(latents_mean=[0.5] * 4, latents_std=[2.0] * 4)
    shifted = decode_image(vae, (latents / 0.18215 - 0.5) * 0.18215 / 2.0)
    assert torch.allclose(plain, shifted, atol=1e-5)
    noise = torch.zeros(1, 4, 8, 8)
    image = drawn(3, 1, 3, 16, 16)
    expected = (encode_image(base_vae, image, noise) / 0.18215 - 0.5) * 0.18215 / 2.0
    assert torch.allclose(encode_image(vae, image, noise), expected, atol=1e-6)


def test_bridge_clamps_pictures_but_not_raw_latents(base_vae: Any, upgraded_vae: Any) -> None:
    latents, noise = 30 * drawn(4, 1, 4, 8, 8), torch.zeros(1, 4, 16, 16)
    picture = cross_bridge(base_vae, upgraded_vae, latents, posterior_noise=noise)
    raw = cross_bridge(base_vae, upgraded_vae, latents, posterior_noise=noise, pixels="raw")
    assert float(picture.image.abs().max()) <= 1 < float(raw.image.abs().max())
    assert picture.upgraded_latents.shape == noise.shape


def test_resizing_to_the_same_size_changes_nothing_in_float() -> None:
    image = drawn(5, 1, 3, 8, 6)
    assert torch.equal(resize_float(image, 8, 6), image)
    assert tuple(resize_float(image, 16, 12).shape) == (1, 3, 16, 12)


def test_8_bit_resize_rounds_to_nearest_and_keeps_every_image() -> None:
    image = torch.tensor([0.4, 1.6, 2.4]).view(1, 1, 1, 3).expand(2, 3, 4, 3) / 255 * 2 - 1
    assert to_uint8(image)[0, 0, :, 0].tolist() == [0, 2, 2]
    assert tuple(resize_8bit(image, 8, 6).shape) == (2, 3, 8, 6)


def test_pixels_per_latent_follow_from_the_levels(base_vae: Any) -> None:
    assert pixels_per_latent(base_vae) == 2
