"""Every formula that peft has equals peft's own forward on single layers."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from tests.runners.weights.claims import (
    LIMIT,
    SIDE,
    Claim,
    Layer,
    Mutant,
    doubled,
    make_input,
    make_layer,
    per_output,
    random,
    swapped,
    transposed,
    turned,
    without,
    without_alpha,
)

RANK, ALPHA = 4, 3
KERNELS = [None, 1, 3]


class OneLayer(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer


def plugged(layer: Layer, config: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return the layer with random adapter weights, and those weights by name."""
    model = OneLayer(layer)
    peft.inject_adapter_in_model(config, model)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for seed, (name, weight) in enumerate(model.layer.named_parameters()):
            if "base_layer" in name:
                continue
            around = 1.0 if "magnitude" in name or "ia3" in name or "boft_s" in name else 0.0
            weight.copy_(around + 0.3 * random(*weight.shape, seed=seed))
            found[name.replace(".default", "")] = weight.detach().clone()
    return model.layer, found


def claim(formula: Any, layer: Layer, config: Any, parts: dict[str, str]) -> Claim:
    """`parts`: part -> peft's name."""
    weights, x = plugged(layer, config), make_input(layer)
    with torch.no_grad():
        expected = weights[0](x)
    found = {part: weights[1][name] for part, name in parts.items()}
    return Claim(formula, {**found, "alpha": torch.tensor(float(ALPHA))}, layer, x, expected)


def lora(kernel: int | None, *, is_dora: bool = False) -> Claim:
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=["layer"], use_dora=is_dora, init_lora_weights=True
    )
    parts = {"down": "lora_A.weight", "up": "lora_B.weight"}
    if is_dora:
        parts["magnitude"] = "lora_magnitude_vector.weight"
    return claim("dora" if is_dora else "lora", make_layer(kernel), config, parts)


def loha(kernel: int | None, *, is_tucker: bool = False) -> Claim:
    config = peft.LoHaConfig(
        r=RANK, alpha=ALPHA, target_modules=["layer"], use_effective_conv2d=is_tucker
    )
    names = ["w1_a", "w1_b", "w2_a", "w2_b", *(["t1", "t2"] if is_tucker else [])]
    return claim("loha", make_layer(kernel), config, {name: f"hada_{name}" for name in names})


def lokr(kernel: int | None, *, is_tucker: bool = False, rank: int = 1) -> Claim:
    config = peft.LoKrConfig(
        r=rank,
        alpha=ALPHA,
        target_modules=["layer"],
        use_effective_conv2d=is_tucker,
        decompose_both=True,
        decompose_factor=2,
    )
    names = ["w1", "w2_a", "w2_b", *(["t2"] if is_tucker else [])]
    return claim("lokr", make_layer(kernel), config, {name: f"lokr_{name}" for name in names})


def ia3(kernel: int | None, *, on_input: bool) -> Claim:
    """peft stores l = 1 + s, and scales the bias of outputs as well; LyCORIS' files never do."""
    layer = make_layer(kernel, bias=False)
    config = peft.IA3Config(
        target_modules=["layer"], feedforward_modules=["layer"] if on_input else []
    )
    found = claim("ia3", layer, config, {"scale": "ia3_l"})
    parts = {"scale": found.parts["scale"] - 1, "on_input": torch.tensor(float(on_input))}
    return Claim("ia3", parts, layer, found.x, found.expected)


def turned_layer(claim_: Claim, layer: nn.Linear) -> Tensor:
    """peft rotates the inputs: the change of W is the transposed change of W^T by ours."""
    outputs_first = nn.Linear(SIDE, SIDE, bias=False).requires_grad_(False)
    outputs_first.weight.copy_(layer.weight.T)
    there = Claim(claim_.formula, claim_.parts, outputs_first, claim_.x, claim_.expected)
    return there.change().T


def oft() -> Claim:
    layer, n_blocks, side = make_layer(None), 2, SIDE // 2
    config = peft.OFTConfig(
        r=n_blocks, oft_block_size=0, target_modules=["layer"], use_cayley_neumann=False
    )
    module, found = plugged(layer, config)
    blocks = torch.zeros(n_blocks, side, side)
    rows, columns = torch.triu_indices(side, side, 1)
    blocks[:, rows, columns] = found["oft_R.weight"]
    x = make_input(layer)
    return Claim("oft", {"blocks": blocks}, layer, x, module(x).detach())


def boft() -> Claim:
    """One butterfly factor (all that peft has without its own kernel): blocks of neighbors."""
    layer, side = make_layer(None), SIDE // 2
    config = peft.BOFTConfig(boft_block_size=side, target_modules=["layer"])
    module, found = plugged(layer, config)
    with torch.no_grad():
        module.boft_s["default"].fill_(1.0)
    order = torch.arange(side).reshape(2, side // 2).T.reshape(-1)
    blocks = -0.5 * found["boft_R"][:, :, order][:, :, :, order]
    x = make_input(layer)
    return Claim("boft", {"blocks": blocks}, layer, x, module(x).detach())


CLAIMS = {
    **{f"lora-{k}": lora(k) for k in KERNELS},
    **{f"dora-{k}": lora(k, is_dora=True) for k in KERNELS},
    **{f"loha-{k}": loha(k) for k in KERNELS},
    "loha-tucker": loha(3, is_tucker=True),
    **{f"lokr-{k}": lokr(k) for k in KERNELS},
    "lokr-tucker": lokr(3, is_tucker=True),
    **{f"ia3-outputs-{k}": ia3(k, on_input=False) for k in KERNELS},
    **{f"ia3-inputs-{k}": ia3(k, on_input=True) for k in KERNELS},
}
LOW_RANK: tuple[Mutant, ...] = (without_alpha, per_output, transposed, doubled)
MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "lora": (*LOW_RANK, swapped("down", "up")),
    "dora": (*LOW_RANK, without("magnitude")),
    "loha": (*LOW_RANK, swapped("w1_a", "w1_b")),
    "lokr": (*LOW_RANK, turned("w1")),
    "ia3": (transposed, doubled, without("on_input")),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_the_merged_layer_equals_peft_s_forward(name: str) -> None:
    assert CLAIMS[name].deviation() < LIMIT


@pytest.mark.parametrize("name", CLAIMS)
def test_every_mutant_is_caught(name: str) -> None:
    claim_ = CLAIMS[name]
    for mutant in MUTANTS[claim_.formula]:
        if mutant.__qualname__.startswith("swapped") and name not in ("lora-None", "loha-None"):
            continue  # only square parts can be swapped unnoticed
        if claim_.formula == "ia3" and "outputs" in name and mutant is MUTANTS["ia3"][-1]:
            continue  # a missing on_input means outputs
        assert claim_.deviation(mutant(claim_)) > 100 * LIMIT


@pytest.fixture(autouse=True)
def without_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft would compile its own, and warn where it cannot."""
    monkeypatch.setattr("peft.tuners.boft.layer.get_fbd_cuda", lambda: None)


@pytest.mark.parametrize("make", [oft, boft])
def test_rotations_equal_peft_s_forward_on_the_inputs(make: Any) -> None:
    claim_ = make()
    assert claim_.deviation(turned_layer(claim_, claim_.layer)) < LIMIT


@pytest.mark.parametrize("make", [oft, boft])
def test_every_mutant_of_a_rotation_is_caught(make: Any) -> None:
    claim_ = make()
    turned_blocks = {"blocks": claim_.parts["blocks"].mT}
    halved = {"blocks": claim_.parts["blocks"] / 2}
    other_order = {"blocks": claim_.parts["blocks"].flip(-3)}
    assert claim_.deviation() > 100 * LIMIT  # rotates outputs
    for parts in (turned_blocks, halved, other_order):
        wrong = Claim(claim_.formula, parts, claim_.layer, claim_.x, claim_.expected)
        assert wrong.deviation(turned_layer(wrong, claim_.layer)) > 100 * LIMIT
