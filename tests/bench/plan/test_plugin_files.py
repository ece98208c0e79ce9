"""What is read beside a plugin's file is in its trials' ids; what is not read, is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.plan.plugin_files import resolve_plugin
from plugins_manifest.files import file_sha256
from plugins_manifest.schema import load_manifest
from pocket.weights import part_path
from tests.warm import run_warm

CANNY = "diffusion_pytorch_model.safetensors"


def hashes_of(folder: Path, kind: str, source: str, **more: str) -> tuple[str, ...]:
    """Return what the trials' ids hold of a plugin: its own hash, then those beside it."""
    plugin = {"id": "p", "kind": kind, "source": source, **more}
    data = {"schema": 1, "name": "m", "family": "pocket", "plugins": [plugin]}
    data |= {"cases": {"source": "pocket", "seed": 1, "n": 1}, "methods": [{"name": "base"}]}
    path = folder / "m.yaml"
    path.write_text(json.dumps(data))
    manifest = load_manifest(str(path))
    file = resolve_plugin(manifest.plugins[0], manifest)
    return (file.sha256, *(sha256 for _, sha256 in file.side_files))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    path.write_bytes((part_path("controlnet-canny") / CANNY).read_bytes())
    return path


def test_a_file_alone_has_one_hash(tmp_path: Path, net: Path) -> None:
    (tmp_path / "net.txt").write_text("notes")
    (tmp_path / "net.json").write_text('{"activation text": "not a configuration"}')
    assert hashes_of(tmp_path, "controlnet", net.name, condition="canny") == (file_sha256(net),)


def test_a_configuration_beside_a_file_changes_the_trials(tmp_path: Path, net: Path) -> None:
    hashes = []
    for pools in (None, False, True):
        if pools is not None:
            config = {"_class_name": "ControlNetModel", "global_pool_conditions": pools}
            (tmp_path / "net.json").write_text(json.dumps(config))
        hashes.append(hashes_of(tmp_path, "controlnet", net.name, condition="canny"))
    assert len(set(hashes)) == 3


def test_a_pin_is_that_of_the_file_alone(tmp_path: Path, net: Path) -> None:
    (tmp_path / "net.json").write_text('{"_class_name": "ControlNetModel"}')
    hashes_of(tmp_path, "controlnet", net.name, condition="canny", sha256=file_sha256(net))
    with pytest.raises(UserError, match="sha256"):
        hashes_of(tmp_path, "controlnet", net.name, condition="canny", sha256="0" * 64)


def test_an_image_encoder_is_in_the_trials_wherever_it_is(
    tmp_path: Path, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = hashes_of(tmp_path, "ip_adapter", net.name)
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder" / "config.json").write_text("{}")
    beside = hashes_of(tmp_path, "ip_adapter", net.name)
    (tmp_path / "image_encoder").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("XBENCH_IMAGE_ENCODER", str(tmp_path / "elsewhere"))
    named = hashes_of(tmp_path, "ip_adapter", net.name)
    assert plain == (file_sha256(net),)
    assert plain not in (beside, named)


TRACER = """
import json, os, sys
folder, kind, source, side = sys.argv[1:]
from pathlib import Path
from runners.base import PluginFile
from runners.families import load_family
from runners.plugins.load import load_plugin
from plugins_manifest.formats.side_files import side_files
family = load_family("pocket")
opened = set()
sys.addaudithook(lambda event, args: opened.add(os.fspath(args[0]))
                 if event == "open" and isinstance(args[0], (str, os.PathLike)) else None)
path = Path(folder, source)
file = PluginFile("p", kind, path, side=side, condition="canny", token="zkqx")
try:
    load_plugin(file, family)
finally:
    paths = {Path(name).resolve() for name in tuple(opened)}
    covered = [path, *side_files(path, kind)]
    beside = [name for name in paths if name.is_relative_to(Path(folder).resolve())
              and not any(name.is_relative_to(one.resolve()) for one in covered)]
    read = sum(one.resolve() in paths for one in covered[1:])
    print(json.dumps([sorted(map(str, beside)), read]))
"""


def traced(folder: Path, kind: str, source: str, side: str = "base") -> tuple[list[str], int]:
    done = run_warm(TRACER, str(folder), kind, source, side)
    assert done.returncode == 0, done.stderr
    beside, n_read = json.loads(done.stdout.splitlines()[-1])
    return beside, n_read


@pytest.mark.parametrize("kind", ["controlnet", "lora"])
def test_every_file_that_a_loader_opens_is_hashed(tmp_path: Path, kind: str) -> None:
    source = part_path("controlnet-canny") / CANNY
    config = json.loads(source.with_name("config.json").read_text())
    if kind == "lora":
        source = part_path("lora-outline")
    plugin = tmp_path / "plugin.safetensors"
    plugin.write_bytes(source.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "plugin.json").write_text(json.dumps(config))
    settings = {"peft_type": "LORA", "r": 16, "lora_alpha": 16}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    beside, n_read = traced(tmp_path, kind, plugin.name)
    assert beside == []
    assert n_read == 1
