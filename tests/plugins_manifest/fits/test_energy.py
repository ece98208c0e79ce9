"""The energy of an update, from its factors, is the squared norm of the update itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plugins_manifest.fits.energy import needs_base, row_energies
from plugins_manifest.fits.tensors import as_float32
from plugins_manifest.formats import ModuleChange
from plugins_manifest.formats.parsed import TensorInfo
from runners.weights.engine import PluginWeights, merged_weight

R = np.random.default_rng(7)


def drawn(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


CASES = {
    "lora": ("lora", {"down": drawn(3, 10), "up": drawn(8, 3)}, (8, 10)),
    "convolution": ("lora", {"down": drawn(3, 5, 3, 3), "up": drawn(8, 3, 1, 1)}, (8, 5, 3, 3)),
    "lora-tucker": (
        "lora-tucker",
        {"down": drawn(3, 5, 1, 1), "mid": drawn(3, 3, 3, 3), "up": drawn(8, 3, 1, 1)},
        (8, 5, 3, 3),
    ),
    "loha": (
        "loha",
        {"w1_a": drawn(8, 3), "w1_b": drawn(3, 10), "w2_a": drawn(8, 3), "w2_b": drawn(3, 10)},
        (8, 10),
    ),
    "loha of a high rank": (
        "loha",
        {
            "w1_a": drawn(80, 33),
            "w1_b": drawn(33, 10),
            "w2_a": drawn(80, 33),
            "w2_b": drawn(33, 10),
        },
        (80, 10),
    ),
    "loha with cores": (
        "loha",
        {
            **{"w1_a": drawn(3, 8), "w1_b": drawn(3, 5), "t1": drawn(3, 3, 3, 3)},
            **{"w2_a": drawn(3, 8), "w2_b": drawn(3, 5), "t2": drawn(3, 3, 3, 3)},
        },
        (8, 5, 3, 3),
    ),
    "lokr": ("lokr", {"w1": drawn(2, 5), "w2_a": drawn(4, 3), "w2_b": drawn(3, 2)}, (8, 10)),
    "lokr with a core": (
        "lokr",
        {"w1": drawn(2, 5), "w2_a": drawn(3, 4), "w2_b": drawn(3, 2), "t2": drawn(3, 3, 3, 3)},
        (8, 10, 3, 3),
    ),
    "full": ("full", {"diff": drawn(8, 10)}, (8, 10)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_energy_is_the_squared_norm_of_the_change_that_is_applied(name: str) -> None:
    formula, values, shape = CASES[name]
    tensors = {part: torch.from_numpy(value) for part, value in values.items()}
    change = ModuleChange("m.weight", formula, {part: part for part in values})  # scale 1
    weights = PluginWeights((change,), tensors)
    update = merged_weight(weights, [change], torch.zeros(shape), strength=1)
    assert row_energies(formula, values, [shape[0]])[0] == pytest.approx(
        float(update.double().square().sum()), rel=1e-5
    )


def test_the_energy_of_a_fused_layer_is_split_by_its_rows() -> None:
    values = {"down": drawn(3, 10), "up": drawn(12, 3)}
    update = values["up"] @ values["down"]
    found = row_energies("lora", values, [4, 6, 2])
    wanted = [float(np.square(part).sum()) for part in np.split(update, [4, 10])]
    assert found == pytest.approx(wanted, rel=1e-5)


def test_updates_that_depend_on_the_base_model_have_no_energy() -> None:
    assert needs_base("lora", {"down": "", "up": "", "dora_scale": ""})
    assert all(needs_base(name, {}) for name in ("dora", "oft", "boft", "ia3", "glora", "saved"))
    assert not needs_base("loha", {"w1_a": ""})


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("BF16", torch.bfloat16),
        ("F16", torch.float16),
        ("F8_E4M3", torch.float8_e4m3fn),
        ("F8_E5M2", torch.float8_e5m2),
    ],
)
def test_numbers_of_every_width_are_those_of_torch(dtype: str, kind: torch.dtype) -> None:
    n_bytes = torch.empty(0, dtype=kind).element_size()
    bits = torch.arange(256, dtype=torch.uint8)
    raw = bits if n_bytes == 1 else torch.stack([bits.flip(0), bits], 1).reshape(-1)
    wanted = raw.view(kind).float().numpy()
    found = as_float32(raw.numpy().tobytes(), TensorInfo(dtype, (256,), 0, 256 * n_bytes))
    assert np.array_equal(found, wanted, equal_nan=True)
