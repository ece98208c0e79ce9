"""Every formula that LyCORIS has equals LyCORIS' own forward.

Never its merge: `merge_to` scales LoHa and LoKr by alpha / r twice (4.1.3). Where a module can,
"bypass" computes the change as a path of small layers beside the big one, without ever making it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from torch import Tensor, nn

from runners.weights.full import full_change
from tests.runners.weights.claims import (
    LIMIT,
    SIDE,
    Claim,
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

RANK, ALPHA = 2, 3.0
_PREFIX = re.compile(r"^(lora_|hada_|lokr_|oft_)|\.weight$")


def claim(
    formula: Any, kind: Any, kernel: int | None, *, alpha: float | None = ALPHA, **settings: Any
) -> Claim:
    """Return a random module of LyCORIS on a layer, and what its forward makes of an input."""
    layer = make_layer(kernel, bias=False)
    module = kind("name", layer, lora_dim=settings.pop("rank", RANK), alpha=ALPHA, **settings)
    parts: dict[str, Tensor] = {}
    with torch.no_grad():
        for seed, (name, weight) in enumerate(module.named_parameters()):
            is_factor = "dora" in name or "rescale" in name
            weight.copy_(float(is_factor) + 0.3 * random(*weight.shape, seed=seed))
            parts[_PREFIX.sub("", name)] = weight.detach().clone()
    if alpha is not None:
        parts["alpha"] = torch.tensor(alpha)
    x = make_input(layer)
    with torch.no_grad():
        return Claim(formula, parts, layer, x, module(x))


def ia3(kernel: int | None, *, on_input: bool, **settings: Any) -> Claim:
    found = claim("ia3", IA3Module, kernel, alpha=None, train_on_input=on_input, **settings)
    parts = {"scale": found.parts["weight"], "on_input": torch.tensor(float(on_input))}
    return Claim("ia3", parts, found.layer, found.x, found.expected)


def rotation(formula: Any, kind: Any, kernel: int | None, **settings: Any) -> Claim:
    """Return a constraint that holds the rotation back: norm(Q) is about 3 here, the limit 0.8."""
    return claim(formula, kind, kernel, alpha=0.1, rank=4, constraint=0.1, **settings)


def full(kernel: int | None) -> Claim:
    found = claim("full", FullModule, kernel, alpha=None)
    return Claim("full", {"diff": found.parts["weight"]}, found.layer, found.x, found.expected)


BYPASS: dict[str, Any] = {"bypass_mode": True}
CLAIMS = {
    **{f"lora-{k}": claim("lora", LoConModule, k, **BYPASS) for k in (None, 1, 3)},
    "tucker": claim("lora-tucker", LoConModule, 3, use_tucker=True, **BYPASS),
    "dora": claim("dora", LoConModule, None, weight_decompose=True),
    "dora-3": claim("dora", LoConModule, 3, weight_decompose=True),
    "dora-inputs": claim("dora", LoConModule, None, weight_decompose=True, wd_on_out=False),
    "dora-inputs-3": claim("dora", LoConModule, 3, weight_decompose=True, wd_on_out=False),
    "loha": claim("loha", LohaModule, None),
    "loha-3": claim("loha", LohaModule, 3),
    "loha-tucker": claim("loha", LohaModule, 3, use_tucker=True),
    "loha-dora": claim("loha", LohaModule, 3, weight_decompose=True),
    "lokr": claim("lokr", LokrModule, None, rank=1, **BYPASS),
    "lokr-3": claim("lokr", LokrModule, 3, rank=1),
    "lokr-factors": claim("lokr", LokrModule, None, rank=1, factor=4, decompose_both=True),
    "lokr-tucker": claim("lokr", LokrModule, 3, rank=1, use_tucker=True),
    "lokr-whole": claim("lokr", LokrModule, 3, full_matrix=True),
    "lokr-dora": claim("lokr", LokrModule, None, rank=1, weight_decompose=True),
    "ia3-outputs": ia3(None, on_input=False, **BYPASS),
    "ia3-inputs": ia3(None, on_input=True, **BYPASS),
    "ia3-outputs-3": ia3(3, on_input=False, **BYPASS),
    "ia3-inputs-3": ia3(3, on_input=True, **BYPASS),
    "full": full(None),
    "full-3": full(3),
    "oft": rotation("oft", DiagOFTModule, None, **BYPASS),
    "oft-3": rotation("oft", DiagOFTModule, 3, rescaled=True),
    "boft": rotation("boft", ButterflyOFTModule, None, **BYPASS),
    "boft-3": rotation("boft", ButterflyOFTModule, 3, rescaled=True),
    "glora": claim("glora", GLoRAModule, None, **BYPASS),
    "glora-3": claim("glora", GLoRAModule, 3, **BYPASS),
}
LOW_RANK: tuple[Mutant, ...] = (without_alpha, per_output, transposed, doubled)
ROTATION: tuple[Mutant, ...] = (without_alpha, transposed, turned("blocks"), doubled)
MUTANTS: dict[str, tuple[Mutant, ...]] = {
    "lora": LOW_RANK,
    "lora-tucker": (*LOW_RANK, turned("mid")),
    "dora": (*LOW_RANK, without("dora_scale")),
    "loha": LOW_RANK,
    "lokr": (transposed, doubled),
    "ia3": (transposed, doubled),
    "full": (transposed, doubled),
    "oft": ROTATION,
    "boft": ROTATION,
    "glora": (*LOW_RANK, swapped("a1", "b1"), swapped("a2", "b2")),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_the_merged_layer_equals_lycoris_forward(name: str) -> None:
    assert CLAIMS[name].deviation() < LIMIT


@pytest.mark.parametrize("name", CLAIMS)
def test_every_mutant_is_caught(name: str) -> None:
    claim_ = CLAIMS[name]
    for mutant in MUTANTS[claim_.formula]:
        if mutant.__qualname__.startswith("swapped") and name.endswith("-3"):
            continue  # shapes tell
        assert claim_.deviation(mutant(claim_)) > 100 * LIMIT


def test_glora_files_of_old_lycoris_mean_the_same() -> None:
    claim_ = CLAIMS["glora"]
    names = {"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}
    old = {names.get(name, name): part for name, part in claim_.parts.items()}
    assert claim_.deviation(claim_.change(old)) < LIMIT


def test_lokr_of_two_whole_factors_has_no_rank_to_divide_alpha_by() -> None:
    claim_ = CLAIMS["lokr-whole"]
    assert {"w1", "w2"} < claim_.parts.keys()
    assert torch.equal(claim_.change(), without_alpha(claim_))


@pytest.mark.parametrize("norm", [nn.LayerNorm(SIDE), nn.GroupNorm(2, SIDE)])
def test_norms_get_their_difference_added_and_mutants_are_caught(norm: nn.Module) -> None:
    norm.requires_grad_(False)
    module, x = NormModule("name", norm), random(3, SIDE, seed=3)

    def deviation(diffs: dict[str, Tensor]) -> float:
        plain = {name: norm.get_parameter(name) for name in diffs}
        changed = {n: p + full_change({"diff": diffs[n]}, p) for n, p in plain.items()}
        ours = torch.func.functional_call(norm, changed, x)
        return float((ours - expected).abs().max() / expected.abs().max())

    weight, bias = random(SIDE, seed=1), random(SIDE, seed=2)
    with torch.no_grad():
        module.w_norm.copy_(weight)
        module.b_norm.copy_(bias)
        expected = module(x)
    assert deviation({"weight": weight, "bias": bias}) < LIMIT
    mutants = (
        {"weight": bias, "bias": weight},
        {"weight": 2 * weight, "bias": bias},
        {"weight": weight},
        {"weight": weight.flip(0), "bias": bias},
    )
    assert min(map(deviation, mutants)) > 100 * LIMIT
