"""Keys of formats that are known and not read, with the cause and the way out for each.

A file with such keys alone is refused as a kind of its own; beside keys that are read, each of
them is named. Sources: the keys that PEFT's tuners, LyCORIS, sd-scripts and cloneofsimo/lora write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Sign:
    """A key pattern that only one kind of file has; `keys` describes it, `why` is the refusal."""

    pattern: re.Pattern[str]
    layout: str
    keys: str
    why: str


_PEFT_TUNERS = (
    *("adamss", "beft", "boft", "c3a", "deft", "delora", "fourierft", "frod", "glora", "gralora"),
    *("hira", "hra", "ia3", "lily", "ln_tuning", "miss", "bone", "osf", "peanut", "poly", "psoft"),
    *("pvera", "randlora", "road", "shadow", "shira", "supertuning", "tinylora", "unilora"),
    *("vblora", "vera", "waveft"),
)
WEIGHT_SIGNS = (
    Sign(
        re.compile(r".+\.(?:oft_diag|oft_[RS](?:\.[\w-]+)*|oft_blocks\.\d+)"),
        "oft-other",
        "`oft_diag`, `oft_R.weight`, `oft_blocks.0` (LyCORIS 2, PEFT, sd-scripts)",
        "an OFT in another layout, whose rotations are parametrized differently: save it as "
        "`oft_blocks` (LyCORIS 3), or merge it and extract a LoRA",
    ),
    Sign(
        re.compile(
            rf".+\.(?:{'|'.join(_PEFT_TUNERS)})_\w+(?:\..+)?|.+\.lora_E(?:\..+)?|.+\.ranknum"
        ),
        "peft-other",
        "`...vera_lambda_d`, `...ia3_l`, `...boft_R`, `...lora_E` and others (PEFT)",
        "an adapter of PEFT that is neither LoRA, LoHa nor LoKr: merge it, and extract a LoRA",
    ),
    Sign(
        re.compile(r".+\.(?:lora_embedding_[AB]|trainable_tokens_\w+)(?:\..+)?"),
        "peft-tokens",
        "`...lora_embedding_A`, `...trainable_tokens_delta` (PEFT)",
        "a change of the table of tokens, which no prompt can name: train a textual inversion",
    ),
    Sign(
        re.compile(r".+\.(?:[qp]_layer\.weight|lambda_layer)"),
        "t-lora",
        "`...q_layer.weight`, `...lambda_layer` (LyCORIS' T-LoRA)",
        "a T-LoRA, whose rank depends on the timestep; use a LoRA",
    ),
    Sign(
        re.compile(r"(?:unet|text_encoder|vae):\d+:(?:up|down)"),
        "cloneofsimo",
        "`unet:0:up` (cloneofsimo/lora)",
        "the first LoRA format numbers its layers and names none, so that no other tool reads it: "
        "merge it with cloneofsimo/lora and extract a LoRA, or train it again",
    ),
)


def find_sign(key: str, signs: Iterable[Sign] = WEIGHT_SIGNS) -> Sign | None:
    """Return the sign of a key, None for a key of a format that is read or unknown."""
    return next((sign for sign in signs if sign.pattern.fullmatch(key)), None)


def found_signs(keys: Iterable[str], signs: Iterable[Sign]) -> Iterator[Sign]:
    """Yield the signs that some of the keys have."""
    known = list(keys)
    return (sign for sign in signs if any(sign.pattern.fullmatch(key) for key in known))
