from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from runners.weights.errors import PluginWeightsError
from runners.weights.lora import merged_weights, read_modules


def factors(
    name: str, down: tuple[int, ...], up: tuple[int, ...], alpha: float | None = 3.0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(name))
    lora = {
        f"{name}.lora_down.weight": torch.randn(down, generator=generator),
        f"{name}.lora_up.weight": torch.randn(up, generator=generator),
    }
    if alpha is not None:
        lora[f"{name}.alpha"] = torch.tensor(alpha)
    return lora


def test_a_merged_linear_layer_equals_layer_plus_low_rank_path() -> None:
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)
    lora = factors("m", (2, 5), (7, 2))
    merged = merged_weights(lora, {"m": layer.weight}, semantics="standard", multiplier=0.5)["m"]
    down, up = lora["m.lora_down.weight"], lora["m.lora_up.weight"]
    expected = layer(x) + 0.5 * (3.0 / 2) * (x @ down.T @ up.T)
    assert torch.allclose(nn.functional.linear(x, merged, layer.bias), expected, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_merged_convolution_equals_convolution_plus_low_rank_path(kernel: int) -> None:
    conv, x = nn.Conv2d(5, 7, kernel, padding=kernel // 2), torch.randn(2, 5, 6, 4)
    lora = factors("m", (2, 5, kernel, kernel), (7, 2, 1, 1))
    merged = merged_weights(lora, {"m": conv.weight}, semantics="standard")["m"]
    small = nn.functional.conv2d(x, lora["m.lora_down.weight"], padding=kernel // 2)
    expected = conv(x) + 1.5 * nn.functional.conv2d(small, lora["m.lora_up.weight"])
    shown = nn.functional.conv2d(x, merged, conv.bias, padding=kernel // 2)
    assert torch.allclose(shown, expected, atol=1e-4)


def test_linear_factors_fit_a_1x1_convolution() -> None:
    weight = torch.zeros(7, 5, 1, 1)
    flat = merged_weights(
        factors("m", (2, 5), (7, 2)), {"m": weight[..., 0, 0]}, semantics="standard"
    )
    merged = merged_weights(factors("m", (2, 5), (7, 2)), {"m": weight}, semantics="standard")
    assert torch.equal(merged["m"][..., 0, 0], flat["m"])


def test_official_semantics_ignore_alpha_and_a_missing_alpha_is_the_rank() -> None:
    weight = {"m": torch.zeros(7, 5)}
    official = merged_weights(factors("m", (2, 5), (7, 2)), weight, semantics="xadapter-official")
    bare = merged_weights(factors("m", (2, 5), (7, 2), None), weight, semantics="standard")
    standard = merged_weights(factors("m", (2, 5), (7, 2)), weight, semantics="standard")
    assert torch.equal(official["m"], bare["m"])
    assert torch.allclose(standard["m"], 1.5 * official["m"])


def test_only_the_lora_s_modules_change_and_the_targets_do_not() -> None:
    targets = {"m": torch.ones(7, 5), "n": torch.ones(7, 5)}
    merged = merged_weights(factors("m", (2, 5), (7, 2)), targets, semantics="standard")
    assert set(merged) == {"m"}
    assert torch.equal(targets["m"], torch.ones(7, 5))


def test_half_precision_weights_stay_half_and_are_summed_in_float32() -> None:
    weight = torch.randn(7, 5).half()
    lora = {key: value.half() for key, value in factors("m", (2, 5), (7, 2)).items()}
    merged = merged_weights(lora, {"m": weight}, semantics="standard")["m"]
    precise = merged_weights(
        {key: value.float() for key, value in lora.items()},
        {"m": weight.float()},
        semantics="standard",
    )["m"]
    assert torch.equal(merged, precise.half())


def test_unmatched_modules_are_named_with_the_nearest() -> None:
    targets = {"lora_unet_mid_block_conv1": torch.zeros(7, 5), "lora_te_x": torch.zeros(7, 5)}
    with pytest.raises(PluginWeightsError, match=r"mid_block_conv2.*nearest.*mid_block_conv1"):
        merged_weights(
            factors("lora_unet_mid_block_conv2", (2, 5), (7, 2)), targets, semantics="standard"
        )


def test_shapes_that_do_not_fit_are_shown() -> None:
    with pytest.raises(PluginWeightsError, match=r"\(2, 5\).*\(7, 2\).*\(7, 6\)"):
        merged_weights(factors("m", (2, 5), (7, 2)), {"m": torch.zeros(7, 6)}, semantics="standard")


def test_keys_of_another_format_and_missing_factors_are_all_listed() -> None:
    lora = factors("m", (2, 5), (7, 2))
    lora["n.hada_w1_a"] = torch.zeros(2, 2)
    del lora["m.lora_up.weight"]
    with pytest.raises(PluginWeightsError) as raised:
        read_modules(lora)
    assert "n.hada_w1_a" in str(raised.value)
    assert "m.lora_up.weight" in str(raised.value)


def test_an_empty_file_is_no_lora() -> None:
    with pytest.raises(PluginWeightsError, match="no keys"):
        read_modules({})
