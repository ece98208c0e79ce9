"""Which files beside a plugin's weights belong to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugins_manifest.errors import UserError
from plugins_manifest.formats.side_files import side_files, weights_file
from plugins_manifest.inspect import inspect_file
from tests.plugins_manifest.zoo import sd15
from tests.plugins_manifest.zoo.files import numbers, pack
from tests.plugins_manifest.zoo.naming import named
from tests.plugins_manifest.zoo.sd15 import LINEAR

CONFIG = json.dumps({"_class_name": "ControlNetModel"})


def touched(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(CONFIG if name.endswith(".json") else "")
    return [folder / name for name in names]


@pytest.mark.parametrize(
    "name",
    ["pytorch_lora_weights.safetensors", "adapter_model.safetensors", "MINE.SAFETENSORS"],
)
def test_the_one_file_of_weights_in_a_folder_is_taken(tmp_path: Path, name: str) -> None:
    touched(tmp_path, name, "README.md", "._x.safetensors", "optimizer.pt", "adapter_config.json")
    assert weights_file(tmp_path) == tmp_path / name


def test_several_files_of_weights_are_an_error_that_names_them(tmp_path: Path) -> None:
    touched(tmp_path, "a.safetensors", "b.safetensors")
    with pytest.raises(UserError, match=r"a\.safetensors, b\.safetensors"):
        weights_file(tmp_path)


@pytest.mark.parametrize(
    ("names", "word"),
    [(["x.bin"], "convert"), ([], "holds no .safetensors")],
)
def test_a_folder_without_usable_weights_is_an_error(
    tmp_path: Path, names: list[str], word: str
) -> None:
    touched(tmp_path, *names)
    with pytest.raises(UserError, match=word):
        weights_file(tmp_path)


@pytest.mark.parametrize(
    ("names", "kind", "expected"),
    [
        (["net.safetensors", "net.json", "b.safetensors"], "controlnet", "net.json"),
        (["net.safetensors", "config.json"], "controlnet", "config.json"),
        (["net.safetensors", "config.json", "b.safetensors"], "controlnet", None),
        (["net.safetensors", "config.json", "b.bin"], "t2i_adapter", None),
        (
            ["diffusion_pytorch_model.safetensors", "config.json", "b.bin"],
            "controlnet",
            "config.json",
        ),
        (
            ["adapter_model.safetensors", "adapter_config.json", "optimizer.pt"],
            "lora",
            "adapter_config.json",
        ),
        (["a.safetensors", "adapter_config.json"], "lycoris", "adapter_config.json"),
        (["a.safetensors", "adapter_config.json", "b.safetensors"], "lora", None),
        (["a.safetensors", "a.json", "config.json"], "lora", None),
        (["a.safetensors", "a.json"], "textual_inversion", None),
    ],
)
def test_a_configuration_belongs_to_a_file_by_its_name_or_in_a_folder_of_its_own(
    tmp_path: Path, names: list[str], kind: str, expected: str | None
) -> None:
    weights, *_ = touched(tmp_path, *names)
    assert [path.name for path in side_files(weights, kind)] == ([expected] if expected else [])


def test_a_shuffle_network_without_its_configuration_is_refused(tmp_path: Path) -> None:
    content = {"controlnet_cond_embedding.conv_in.weight": numbers(4, 3, 3, 3)}
    for name, is_named in (("a_shuffle_b.safetensors", True), ("canny.safetensors", False)):
        path = tmp_path / name
        path.write_bytes(pack(content))
        reasons = {problem.reason for problem in inspect_file(path).problems}
        assert ("bad-config" in reasons) == is_named
        found = inspect_file(path, condition="shuffle")
        assert "bad-config" in {problem.reason for problem in found.problems}


def test_alpha_stated_in_kohya_s_metadata_counts_where_no_tensor_has_it(tmp_path: Path) -> None:
    stated = {"ss_network_alpha": "1", "ss_network_dim": "4"}
    path = tmp_path / "a.safetensors"
    path.write_bytes(pack(named(LINEAR, sd15.lora), stated))
    found = inspect_file(path).parsed
    assert found is not None and {change.alpha for change in found.changes} == {1.0}
    assert any("ss_network_alpha" in note for note in found.notes)
    path.write_bytes(pack(named(LINEAR, sd15.lora, alpha=4.0), stated))
    found = inspect_file(path).parsed
    assert found is not None and {change.alpha for change in found.changes} == {None}
    assert found.notes == ()
