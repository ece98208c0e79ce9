from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from plugins_manifest.formats.parsed import ModuleChange
from runners.weights.engine import PluginWeights, merged_into, merged_weight, parameters_of
from runners.weights.parts import PluginWeightsError
from tests.runners.weights.claims import random

LORA = ModuleChange("net.weight", "lora", {"down": "d", "up": "u", "alpha": "a"})
TENSORS = {
    "d": random(2, 5, seed=1),
    "u": random(7, 2, seed=2),
    "a": torch.tensor(3.0),
    "s": random(7, seed=3),
    "bad": torch.zeros(3, 3),
    "b": random(7, seed=4),
}
SCALE = ModuleChange("net.weight", "ia3", {"scale": "s"})
BIAS = ModuleChange("net.bias", "full", {"diff": "b"})


def targets(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    weight = nn.Parameter(random(7, 5, seed=0).to(dtype), requires_grad=False)
    return {"net.weight": weight, "net.bias": nn.Parameter(torch.zeros(7), requires_grad=False)}


def delta() -> Tensor:
    return 3.0 / 2 * TENSORS["u"] @ TENSORS["d"]


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def test_strength_multiplies_the_whole_change() -> None:
    into = targets()
    before = into["net.weight"].detach().clone()
    with merged_into(into, PluginWeights((LORA, BIAS), TENSORS), strength=-0.5):
        assert torch.allclose(into["net.weight"], before - 0.5 * delta(), atol=1e-6)
        assert torch.allclose(into["net.bias"], -0.5 * TENSORS["b"])


def test_changes_of_one_parameter_act_one_after_the_other() -> None:
    weight = targets()["net.weight"]
    both = merged_weight(PluginWeights((), TENSORS), (LORA, SCALE), weight, strength=1.0)
    expected = (weight + delta()) * (1 + TENSORS["s"][:, None])
    assert torch.allclose(both, expected, atol=1e-5)
    other_way = merged_weight(PluginWeights((), TENSORS), (SCALE, LORA), weight, strength=1.0)
    assert torch.allclose(other_way, weight * (1 + TENSORS["s"][:, None]) + delta(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_everything_is_back_bit_for_bit_even_what_is_no_number(dtype: torch.dtype) -> None:
    into = targets(dtype)
    into["net.weight"][0, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
    before = {name: bits(p) for name, p in into.items()}
    weights = PluginWeights((LORA, SCALE, BIAS), TENSORS)
    with suppress(KeyboardInterrupt), merged_into(into, weights, strength=1.0):
        assert not torch.equal(bits(into["net.weight"]), before["net.weight"])
        raise KeyboardInterrupt
    assert all(torch.equal(bits(p), before[name]) for name, p in into.items())


def test_a_memory_layout_survives() -> None:
    conv = nn.Conv2d(4, 4, 3).requires_grad_(False).to(memory_format=torch.channels_last)
    change = ModuleChange("net.weight", "full", {"diff": "x"})
    into = parameters_of([("net", conv)])
    with merged_into(into, PluginWeights((change,), {"x": torch.ones(4, 4, 3, 3)}), strength=1.0):
        pass
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_misfit_in_the_middle_puts_everything_back() -> None:
    into = targets()
    before = {name: p.detach().clone() for name, p in into.items()}
    wrong = ModuleChange("net.bias", "full", {"diff": "bad"})
    with (
        pytest.raises(PluginWeightsError, match=r"diff \(3, 3\).*\(7,\)"),
        merged_into(into, PluginWeights((LORA, wrong), TENSORS), strength=1.0),
    ):
        pass
    assert all(torch.equal(p, before[name]) for name, p in into.items())


def test_strength_zero_touches_nothing() -> None:
    into = targets()
    nan = {**TENSORS, "u": torch.full((7, 2), float("nan"))}
    with merged_into(into, PluginWeights((LORA,), nan), strength=0.0):
        assert torch.isfinite(into["net.weight"]).all()


def test_official_semantics_ignore_the_alpha_of_loras_alone() -> None:
    weight = targets()["net.weight"]
    standard, official = (
        merged_weight(PluginWeights((), TENSORS, kind), (LORA,), weight, strength=1.0)
        for kind in ("standard", "xadapter-official")
    )
    assert torch.allclose(official - weight, (standard - weight) / 1.5, atol=1e-5)
    loha = ModuleChange(
        "net.weight", "loha", {"w1_a": "u", "w1_b": "d", "w2_a": "u", "w2_b": "d", "alpha": "a"}
    )
    standard, official = (
        merged_weight(PluginWeights((), TENSORS, kind), (loha,), weight, strength=1.0)
        for kind in ("standard", "xadapter-official")
    )
    assert torch.equal(standard, official)


def test_an_alpha_from_the_file_s_settings_counts_like_a_key() -> None:
    weight = targets()["net.weight"]
    told = ModuleChange("net.weight", "lora", {"down": "d", "up": "u"}, alpha=3.0)
    ours = merged_weight(PluginWeights((), TENSORS), (told,), weight, strength=1.0)
    assert torch.allclose(ours, weight + delta(), atol=1e-6)


def test_half_precision_weights_are_summed_in_float32() -> None:
    weight = targets(torch.float16)["net.weight"]
    merged = merged_weight(PluginWeights((), TENSORS), (LORA,), weight, strength=1.0)
    assert torch.equal(merged, (weight.float() + delta()).half())


def test_linear_parts_fit_1x1_convolutions() -> None:
    weight = targets()["net.weight"]
    flat = merged_weight(PluginWeights((), TENSORS), (LORA,), weight, strength=1.0)
    conv = weight[..., None, None]
    assert torch.equal(
        merged_weight(PluginWeights((), TENSORS), (LORA,), conv, strength=1.0)[..., 0, 0], flat
    )


def test_a_weight_s_formula_is_refused_for_a_bias() -> None:
    wrong = ModuleChange("net.bias", "ia3", {"scale": "s"})
    with pytest.raises(PluginWeightsError, match=r"scale \(7,\)"):
        merged_weight(PluginWeights((), TENSORS), (wrong,), targets()["net.bias"], strength=1.0)
