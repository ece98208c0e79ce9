"""Small plugins that fit the pocket models, so that a preflight takes them."""

from __future__ import annotations

from functools import cache

import numpy as np

from plugins_manifest.formats.parsed import ModuleTable
from runners.families import family_traits
from tests.plugins_manifest.zoo.files import numbers, pack

NETWORKS = {"net": "controlnet-canny", "upnet": "upgraded-controlnet-canny"}
_WORD = ".attn1.to_q.weight"


@cache
def plugin_bytes(name: str, family: str = "pocket") -> bytes:
    """Return the bytes of a plugin by the name of its file: each name has bytes of its own.

    `net` and `upnet` are ControlNets, `up` is a LoRA of the upgraded side, all others are LoRAs.
    """
    if name in NETWORKS:
        from pocket.weights import part_path

        folder = part_path(NETWORKS[name])
        return (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    table = family_traits(family).module_table("upgraded" if name == "up" else "base")
    assert table is not None
    return pack(_lora(table), {"name": name})


def _lora(table: ModuleTable) -> dict[str, np.ndarray]:
    key = next(key for key in table if key.endswith(_WORD))
    n_out, n_in = table[key]
    module = "lora_" + key.removesuffix(".weight").replace(".", "_")
    return {
        f"{module}.lora_down.weight": numbers(2, n_in),
        f"{module}.lora_up.weight": numbers(n_out, 2, seed=1),
    }
