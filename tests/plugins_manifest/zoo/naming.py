"""Ways to name modules and parts: kohya, PEFT, attention processors, original numbering."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from plugins_manifest.formats.sgm import sgm_modules
from plugins_manifest.formats.table import modules_of, sd15_table
from tests.plugins_manifest.zoo import sd15
from tests.plugins_manifest.zoo.animal import Animal
from tests.plugins_manifest.zoo.files import Content, pack
from tests.plugins_manifest.zoo.sd15 import kohya

Part = Callable[[str], Mapping[str, np.ndarray]]
EXACT, NOOP = "loads exactly", "changes nothing; a warning"
RAISES = "raises: keys not renamed"


def named(
    modules: Iterable[str],
    parts: Part,
    *,
    name: Callable[[str], str] = kohya,
    alpha: float | None = None,
) -> dict[str, np.ndarray]:
    """Keys `<module>.<part>` for some modules."""
    content: dict[str, np.ndarray] = {}
    for module in modules:
        content |= {f"{name(module)}.{part}": value for part, value in parts(module).items()}
        if alpha is not None:
            content[f"{name(module)}.alpha"] = sd15.alpha(alpha)
    return content


def sgm_name(module: str) -> str:
    """Return a UNet module in the original numbering."""
    return {new: old for old, new in sgm_modules(modules_of(sd15_table())).items()}[module]


def peft_parts(module: str) -> dict[str, np.ndarray]:
    """LoRA factors under PEFT's names."""
    parts = sd15.lora(module)
    return {
        "lora_A.weight": parts["lora_down.weight"],
        "lora_B.weight": parts["lora_up.weight"],
    }


def bare(module: str) -> str:
    """Return the module's own name without its model's."""
    return module.partition(".")[2]


def with_text_level(module: str) -> str:
    """As diffusers writes text encoders: with a `text_model.` level."""
    return module.replace("text_encoder.", "text_encoder.text_model.")


def processors(modules: Iterable[str], *, prefix: str) -> dict[str, np.ndarray]:
    """Old attention-processor names."""
    content: dict[str, np.ndarray] = {}
    for module in modules:
        attention, _, layer = bare(module).removesuffix(".0").rpartition(".")
        stem = f"{prefix}{attention}.processor.{layer}_lora"
        for part, value in sd15.lora(module).items():
            content[f"{stem}.{part.removeprefix('lora_')}"] = value
    return content


def right(
    name: str,
    says: str,
    make: Callable[[], Content | bytes],
    format: str,
    formulas: dict[str, int],
    *,
    diffusers: str = "",
    base_model: str = "sd1",
) -> Animal:
    """Return a weight plugin with nothing wrong in it."""

    def packed() -> bytes:
        made = make()
        return made if isinstance(made, bytes) else pack(made, {"ss_network_module": "zoo"})

    return Animal(
        name=name,
        says=says,
        make=packed,
        cage="right",
        verdict="ok",
        format=format,
        kind="lora" if set(formulas) <= {"lora", "dora", "lora-bias", "saved"} else "lycoris",
        base_model=base_model,
        formulas=formulas,
        diffusers=diffusers,
    )
