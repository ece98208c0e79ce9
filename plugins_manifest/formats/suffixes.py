"""What the end of a key says: which formula's which part, and which module it is for.

Sources: kohya's sd-scripts, LyCORIS' modules, PEFT's tuners, diffusers' attention processors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Style = Literal["kohya", "peft", "attn-procs", "diffusers-lora"]
ANY = "any"


@dataclass(frozen=True)
class KeyPart:
    """A key taken apart: module as written, formula family, part, and who writes keys so."""

    module: str
    family: str
    part: str
    style: Style


# Suffix -> (family, part). `any` belongs to whatever formula the module has.
_KOHYA: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        ".lora_down.weight": ("lora", "down"),
        ".lora_up.weight": ("lora", "up"),
        ".lora_mid.weight": ("lora", "mid"),
        ".alpha": (ANY, "alpha"),
        ".dora_scale": (ANY, "dora_scale"),
        **{f".hada_{part}": ("loha", part) for part in ("w1_a", "w1_b", "w2_a", "w2_b")},
        **{f".hada_{part}": ("loha", part) for part in ("t1", "t2")},
        **{f".lokr_{part}": ("lokr", part) for part in ("w1", "w1_a", "w1_b")},
        **{f".lokr_{part}": ("lokr", part) for part in ("w2", "w2_a", "w2_b", "t2")},
        ".on_input": ("ia3", "on_input"),
        ".diff": ("full", "diff"),
        ".diff_b": ("full-bias", "diff"),
        ".w_norm": ("norm", "diff"),
        ".b_norm": ("norm-bias", "diff"),
        ".oft_blocks": ("oft", "blocks"),
        ".rescale": ("oft", "rescale"),
        **{f".{part}.weight": ("glora", part) for part in ("a1", "a2", "b1", "b2")},
    }
)
# PEFT keeps the adapter's name in raw state dicts: `.lora_A.default.weight`.
_PEFT = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)"
    r"(?:\.(?!weight$)[\w-]+)?(?:\.weight)?"
)
_PEFT_PARTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "lora_A": ("lora", "down"),
        "lora_B": ("lora", "up"),
        "lora_magnitude_vector": (ANY, "magnitude"),
    }
)
_PROCESSOR = re.compile(
    r"(?P<module>.+?)(?:\.processor)?\.to_(?P<which>q|k|v|out)_lora\.(?P<part>down|up)\.weight"
)
_OLD = re.compile(r"(?P<module>.+)\.(?:lora|lora_linear_layer)\.(?P<part>down|up)\.weight")
_IA3 = ".weight"


def split_key(key: str, keys: Collection[str]) -> KeyPart | None:
    """Take a key apart; None where no formula has such a part.

    `keys` are all keys of the file: a plain `.weight` is (IA)^3's only beside an `.on_input`.
    """
    for n_dots in (1, 2):
        pieces = key.rsplit(".", n_dots)
        suffix = "." + ".".join(pieces[1:])
        if len(pieces) == n_dots + 1 and suffix in _KOHYA and pieces[0]:
            return KeyPart(pieces[0], *_KOHYA[suffix], style="kohya")
    if key.endswith(_IA3) and f"{key.removesuffix(_IA3)}.on_input" in keys:
        return KeyPart(key.removesuffix(_IA3), "ia3", "scale", "kohya")
    return _diffusers_part(key)


def _diffusers_part(key: str) -> KeyPart | None:
    if match := _PEFT.fullmatch(key):
        return KeyPart(match["module"], *_PEFT_PARTS[match["part"]], style="peft")
    if match := _PROCESSOR.fullmatch(key):
        module = f"{match['module']}.{_layer(match['module'], match['which'])}"
        return KeyPart(module, "lora", match["part"], "attn-procs")
    if match := _OLD.fullmatch(key):
        return KeyPart(match["module"], "lora", match["part"], "diffusers-lora")
    return None


def _layer(module: str, which: str) -> str:
    """The layer that an attention processor's factors are for; CLIP names them differently."""
    if module.endswith(".self_attn"):
        return "out_proj" if which == "out" else f"{which}_proj"
    return "to_out.0" if which == "out" else f"to_{which}"
