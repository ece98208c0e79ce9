"""What diffusers' own loader makes of one change in every format: the reason for a load audit.

docs/plugins.md tells the same, file by file. Nothing of ours depends on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import diffusers
import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.load import load_plugin
from tests.runners.kohya import kohya_names, kohya_table
from tests.runners.plugins.test_weights import base_state, fused_by_diffusers, part_of
from tests.runners.rewrite import FORMATS, read_modules, rewritten

VERSION = "0.42."
OUTCOMES: dict[str, Literal["exact", "wrong", "nothing", "refused"]] = {
    "kohya": "exact",
    "peft": "exact",
    "peft-bare": "nothing",
    "dora": "wrong",
    "tucker": "refused",
    "loha": "refused",
    "lokr": "refused",
    "full": "refused",
    "glora": "refused",
}

pytestmark = pytest.mark.skipif(
    not diffusers.__version__.startswith(VERSION),
    reason=f"these are the habits of diffusers {VERSION}x, not of {diffusers.__version__}",
)


def changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: (after[key] - value).double() for key, value in before.items()}


def outcome(family: Family, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """Load and fuse as documented; compare what the weights became."""
    before = base_state(family)
    try:
        given = changes(before, fused_by_diffusers(family, state, 1.0))
    except ValueError:
        return "refused"
    finally:
        family.base.unload_lora_weights()
        family.base.unet.load_state_dict(part_of(before, "unet"))
        family.base.text_encoder.load_state_dict(part_of(before, "text"))
    if all(float(change.abs().max()) == 0 for change in given.values()):
        return "nothing"
    worst = max(float((given[key] - wanted[key]).norm()) for key in wanted)
    largest = max(float(change.norm()) for change in wanted.values())
    return "exact" if worst < 1e-4 * largest else "wrong"


@pytest.mark.parametrize("name", FORMATS)
def test_diffusers_loads_two_of_nine_formats_and_two_silently_wrong(
    family: Family, lora: PluginFile, tmp_path: Path, name: str
) -> None:
    unet, text_encoder = family.base.unet, family.base.text_encoder
    names, table = kohya_names(unet, text_encoder), kohya_table(unet, text_encoder)
    state = rewritten(read_modules(load_file(lora.path), names, table), name)
    if name == "dora":  # a magnitude of its own, which a plain LoRA cannot have
        state = {k: 1.5 * part if "dora" in k else part for k, part in state.items()}
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    before = base_state(family)
    file = PluginFile(name, "lycoris", path)
    with load_plugin(file, family).attached(family, strength=1.0):
        wanted = changes(before, base_state(family))
    assert outcome(family, state, wanted) == OUTCOMES[name]
