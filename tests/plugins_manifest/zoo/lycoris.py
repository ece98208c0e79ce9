"""LyCORIS files: every formula beside plain LoRA, all of them right."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tests.plugins_manifest.zoo import sd15
from tests.plugins_manifest.zoo.animal import Animal
from tests.plugins_manifest.zoo.files import Content, numbers
from tests.plugins_manifest.zoo.naming import RAISES, Part, named, right
from tests.plugins_manifest.zoo.sd15 import ALL, CONV, LINEAR, TEXT_Q, UNET_ONLY, kohya


def _oft_prefix() -> Content:
    def name(module: str) -> str:
        return kohya(module, unet="oft_unet_")

    return named(LINEAR, sd15.oft, name=name, alpha=0.001)


def _two_algorithms() -> Content:
    return named(LINEAR, sd15.lora) | named([sd15.PROJ_IN, TEXT_Q], sd15.loha, alpha=2.0)


def _lora_with_bias() -> Content:
    return named([sd15.FF], sd15.lora, alpha=2.0) | {f"{kohya(sd15.FF)}.diff_b": numbers(320)}


def _rescaled(module: str) -> sd15.Parts:
    return sd15.oft(module) | {"rescale": 1 + numbers(sd15.shape_of(module)[0], 1)}


def _decomposed(module: str) -> sd15.Parts:
    return sd15.lokr(module) | {"dora_scale": 1 + numbers(1, sd15.shape_of(module)[1])}


def _keys(modules: Iterable[str], parts: Part, alpha: float | None = None) -> Callable[[], Content]:
    return lambda: named(modules, parts, alpha=alpha)


def _lycoris(
    name: str,
    says: str,
    formulas: dict[str, int],
    make: Callable[[], Content],
) -> Animal:
    return right(name, says, make, "lycoris", formulas, diffusers=RAISES)


LYCORIS = (
    right(
        "tucker",
        "`lora_mid` between two 1 x 1 convolutions",
        _keys([CONV, sd15.CONV_IN], sd15.tucker, 2.0),
        "kohya",
        {"lora-tucker": 2},
        diffusers=RAISES,
    ),
    _lycoris(
        "loha",
        "Hadamard product of two low-rank products",
        {"loha": 6},
        _keys(ALL, sd15.loha, 2.0),
    ),
    _lycoris(
        "loha-conv",
        "LoHa of a convolution without core",
        {"loha": 1},
        _keys([CONV], sd15.loha, 2.0),
    ),
    _lycoris(
        "loha-tucker",
        "LoHa with cores `hada_t1`, `hada_t2`",
        {"loha": 1},
        _keys([CONV], sd15.loha_tucker, 2.0),
    ),
    _lycoris(
        "lokr",
        "Kronecker product, both factors whole",
        {"lokr": 6},
        _keys(ALL, sd15.lokr, 1.0),
    ),
    _lycoris(
        "lokr-infinite-alpha",
        "LoKr, both factors whole, so that its infinite alpha does not count",
        {"lokr": 6},
        lambda: named(ALL, sd15.lokr, alpha=np.inf),
    ),
    _lycoris(
        "lokr-low-rank",
        "LoKr, both factors of low rank",
        {"lokr": 6},
        _keys(ALL, sd15.lokr_low, 2.0),
    ),
    _lycoris(
        "lokr-conv",
        "LoKr of a convolution, of low rank",
        {"lokr": 1},
        _keys([CONV], lambda m: sd15.lokr(m, rank=2)),
    ),
    _lycoris(
        "lokr-tucker",
        "LoKr with core `lokr_t2`",
        {"lokr": 1},
        _keys([CONV], sd15.lokr_tucker),
    ),
    right(
        "lokr-dotted",
        "LoKr behind dotted names",
        lambda: named(LINEAR, sd15.lokr, name=str),
        "lycoris-dotted",
        {"lokr": 3},
        diffusers="raises, or linear layers alone",
    ),
    _lycoris(
        "lokr-dora",
        "LoKr with weight decomposition",
        {"lokr": 3},
        _keys(LINEAR, _decomposed),
    ),
    _lycoris(
        "ia3",
        "(IA)^3 per output",
        {"ia3": 5},
        _keys((*UNET_ONLY, TEXT_Q), sd15.ia3),
    ),
    _lycoris(
        "ia3-input",
        "(IA)^3 per input",
        {"ia3": 3},
        _keys(LINEAR, lambda m: sd15.ia3(m, on_input=True)),
    ),
    _lycoris(
        "full",
        "whole differences of weights and biases",
        {"full": 6},
        _keys([sd15.PROJ_IN, sd15.FF, TEXT_Q], sd15.full),
    ),
    _lycoris(
        "norm",
        "normalizations `w_norm`, `b_norm`",
        {"norm": 2},
        _keys([sd15.NORM], sd15.norm),
    ),
    _lycoris(
        "oft",
        "OFT, constraint as alpha",
        {"oft": 3},
        _keys(LINEAR, sd15.oft, 0.0),
    ),
    _lycoris(
        "oft-rescale",
        "OFT with `rescale`",
        {"oft": 3},
        _keys(LINEAR, _rescaled),
    ),
    right(
        "oft-kohya",
        "`oft_unet_`",
        _oft_prefix,
        "oft",
        {"oft": 3},
    ),
    _lycoris(
        "boft",
        "BOFT: blocks in butterfly steps",
        {"boft": 3},
        _keys(LINEAR, sd15.boft),
    ),
    _lycoris(
        "glora",
        "GLoRA",
        {"glora": 7},
        _keys((*ALL, CONV), sd15.glora, 2.0),
    ),
    _lycoris(
        "glora-old",
        "GLoRA with its pairs named the other way",
        {"glora": 6},
        _keys(ALL, sd15.glora_old, 2.0),
    ),
    _lycoris(
        "lora-and-bias",
        "LoRA, and the bias as a difference",
        {"lora": 1, "full": 1},
        _lora_with_bias,
    ),
    _lycoris(
        "two-algorithms",
        "LoRA modules and LoHa modules in one file",
        {"lora": 3, "loha": 2},
        _two_algorithms,
    ),
)
