"""Inspection promises exactly what the loaders do: the whole zoo, and files that fit, on pocket."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from plugins_manifest.errors import UserError
from plugins_manifest.inspect import inspect_file, why_unusable
from plugins_manifest.schema.kinds import file_kinds
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.load import load_plugin
from runners.plugins.opened import side_parameters
from tests.plugins_manifest.zoo import ZOO
from tests.runners.kinds import TEXT_WIDTH, WORD, drawn, save_ip_adapter, save_t2i
from tests.runners.kohya import kohya_names, kohya_table
from tests.runners.plugins.drawn_files import Models, write_drawn

pytestmark = pytest.mark.system

N_DRAWN = 500
KINDS = {
    "controlnet": "controlnet",
    "t2i-adapter": "t2i_adapter",
    "ip-adapter": "ip_adapter",
    "textual-inversion": "textual_inversion",
}


def table_for(file: PluginFile, family: Family) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in side_parameters(file, family).items()}


def is_of_another_kind(path: Path, kind: str, family: Family) -> bool:
    table = table_for(PluginFile("p", kind, path), family)
    parsed = inspect_file(path, table=table).parsed
    return parsed is not None and parsed.kind not in file_kinds(kind)


def verdicts(path: Path, kind: str, family: Family) -> tuple[bool, bool, bool]:
    """Return whether inspection, a plan and a run take a file."""
    file = PluginFile("p", kind, path, token=WORD if kind == "textual_inversion" else None)
    table = table_for(file, family)
    try:
        inspected = inspect_file(path, table=table).verdict == "ok"
    except UserError:
        inspected = False
    planned = why_unusable(path, kinds=file_kinds(kind), table=table) is None
    try:
        load_plugin(file, family)
    except UserError:
        return inspected, planned, False
    return inspected, planned, True


@pytest.mark.parametrize("part", range(4))
def test_the_zoo_is_taken_or_refused_by_all_alike(
    family: Family, tmp_path: Path, part: int
) -> None:
    for animal in ZOO[part::4]:
        path = tmp_path / (animal.name + animal.suffix)
        path.write_bytes(animal.make())
        kind = KINDS.get(animal.kind or "", "lora")
        inspected, planned, loaded = verdicts(path, kind, family)
        assert inspected == planned == loaded, animal.name
        path.unlink()


def test_files_that_fit_are_taken_by_all(
    family: Family, folders: Path, lora: PluginFile, tmp_path: Path
) -> None:
    save_t2i(tmp_path / "t2i")
    save_file({"clip_l": drawn(0, 2, TEXT_WIDTH)}, tmp_path / "one.safetensors")
    save_file(
        {"clip_l": drawn(0, 2, TEXT_WIDTH), "clip_g": drawn(0, 2, TEXT_WIDTH)},
        tmp_path / "two.safetensors",
    )
    files = {
        "lora": (lora.path, True),
        "controlnet": (folders / "controlnet", True),
        "t2i_adapter": (tmp_path / "t2i", True),
        "ip_adapter": (save_ip_adapter(tmp_path / "ip", family.base.unet), True),
        "textual_inversion": (tmp_path / "one.safetensors", True),
    }
    for kind, (path, is_taken) in files.items():
        assert verdicts(path, kind, family) == (is_taken,) * 3, kind
    assert verdicts(tmp_path / "two.safetensors", "textual_inversion", family) == (False,) * 3


@pytest.mark.parametrize("change", ["zero", "nan", "cut", "renamed"])
def test_damaged_networks_are_refused_by_all(
    family: Family, folders: Path, tmp_path: Path, change: str
) -> None:
    source = next((folders / "controlnet").glob("*.safetensors"))
    state = load_file(source)
    key = "controlnet_mid_block.weight"
    if change == "zero":
        state = {
            name: 0 * value if "controlnet_down" in name or "controlnet_mid" in name else value
            for name, value in state.items()
        }
    elif change == "nan":
        state[key] = state[key] * float("nan")
    elif change == "cut":
        state[key] = state[key][:-1].contiguous()
    else:
        state["other.weight"] = state.pop(key)
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    assert verdicts(path, "controlnet", family) == (False,) * 3


@pytest.fixture(scope="module")
def models(family: Family, folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    t2i = tmp_path_factory.mktemp("t2i")
    save_t2i(t2i)
    unet, text_encoder = family.base.unet, family.base.text_encoder
    return Models(
        unet,
        kohya_names(unet, text_encoder),
        kohya_table(unet, text_encoder),
        {"controlnet": folders / "controlnet", "t2i_adapter": t2i},
    )


@pytest.mark.parametrize(
    "part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))]
)
def test_drawn_files_are_taken_or_refused_by_all_alike(
    family: Family, models: Models, tmp_path: Path, part: int
) -> None:
    save_ip_adapter(tmp_path, family.base.unet)  # its image encoder serves the drawn ones
    n_taken = 0
    for seed in range(part, N_DRAWN, 4):
        kind, path = write_drawn(seed, models, tmp_path)
        inspected, planned, loaded = verdicts(path, kind, family)
        # Inspection knows no kind that was meant: what it takes may be refused as another one.
        assert planned == loaded, f"seed {seed}: plan {planned}, run {loaded}"
        assert inspected == loaded or is_of_another_kind(path, kind, family), f"seed {seed}"
        n_taken += loaded
    assert N_DRAWN // 20 < n_taken < N_DRAWN // 4 - N_DRAWN // 20
