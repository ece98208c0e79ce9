"""The Hub's families, loaded by other processes from a local server that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline

from plugins_manifest.errors import UserError
from runners.families.family import load_from_folders
from runners.families.hub import HubModel
from runners.families.stable_diffusion import SD15_SD21, SD15_SDXL, pipeline_files
from tests.runners.hub_server import TOKEN, HubServer, Repository
from tests.runners.sd21 import sd21_pipeline
from xadapter.mapper import Mapper

pytestmark = pytest.mark.system

SD15 = SD15_SDXL.base
MAPPER_COMMIT = "d" * 40
MAPPER = f"Lingmin-Ran/X-Adapter@{MAPPER_COMMIT}/X_Adapter_v1.bin"
RENDER = """
import json, sys
from runners.base import Variant, RenderCase, RenderSettings
from runners.families.registry import load_family
from runners.group import run_group
shown = {}
settings = RenderSettings((64, 64), (128, 128), steps=2, guidance_scale=3.0)
case = RenderCase("a", 0, "a large red circle", "a large red circle")
for name, methods in json.loads(sys.argv[1]).items():
    family = load_family(name)
    variants = [Variant(m, t0=1.0, adapter_scale=1.0) for m in methods]
    results = list(run_group(family, None, [case], variants, settings))
    shown[name] = {
        "images": [None if r.image is None else list(r.image.shape) for r in results],
        "vae": family.upgraded.vae.config.scaling_factor,
        "v": family.upgraded.scheduler.config.prediction_type,
    }
print(json.dumps(shown))
"""
FETCH = """
import json, sys, time
time.sleep = lambda seconds: None  # between what huggingface_hub tries again
from plugins_manifest.errors import UserError
from runners.families.hub import HubModel, fetch_file, fetch_folder
messages = []
for repository, revision, file, patterns in json.loads(sys.argv[1]):
    model = HubModel(repository, revision, file)
    try:
        fetched = fetch_file(model, setting="X") if file else None
        fetched = fetched or fetch_folder(model, patterns, setting="X")
        messages.append("fetched " + str(len(list(fetched.rglob("*")))))
    except UserError as error:
        messages.append(str(error))
assert "torch" not in sys.modules
print(json.dumps(messages))
"""


def in_process(code: str, argument: Any, **environment: str) -> Any:
    """Run code in a process of its own, for huggingface_hub reads its settings on import."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XBENCH"))}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argument)],
        env={**own, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def layouts(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny checkpoints laid out as on the Hub: half precision beside files that nobody needs."""
    root = tmp_path_factory.mktemp("layouts")
    base = StableDiffusionPipeline.from_pretrained(folders / "base")
    xl = StableDiffusionXLPipeline.from_pretrained(folders / "upgraded")
    for name, pipe in (("sd15", base), ("sdxl", xl), ("sd21", sd21_pipeline(seed=11))):
        pipe.to(torch.float16).save_pretrained(root / name, variant="fp16")
        for waste in ("safety_checker/model.fp16.safetensors", "unet/flax_model.msgpack"):
            (root / name / waste).parent.mkdir(exist_ok=True)
            (root / name / waste).write_bytes(b"not needed")
        for weights in list((root / name).glob("*/*.fp16.safetensors")):
            shutil.copy(weights, weights.with_name(weights.name.replace(".fp16", "")))
    vae: Any = AutoencoderKL.from_pretrained(folders / "upgraded" / "vae")
    vae.register_to_config(scaling_factor=0.125)
    vae.save_pretrained(root / "vae")
    (root / "mapper").mkdir()
    mapper = Mapper.from_pretrained(folders / "mapper")
    torch.save(mapper.state_dict(), root / "mapper" / "X_Adapter_v1.bin")
    return root


@pytest.fixture
def hub(layouts: Path) -> Iterator[HubServer]:
    pins = (
        (SD15_SDXL.base, "sd15"),
        (SD15_SDXL.upgraded, "sdxl"),
        (SD15_SDXL.upgraded_vae, "vae"),
        (SD15_SD21.upgraded, "sd21"),
        (HubModel("Lingmin-Ran/X-Adapter", MAPPER_COMMIT), "mapper"),
    )
    repositories = {
        pin.repository: Repository.of_folder(layouts / name, pin.revision)
        for pin, name in pins
        if pin is not None
    }
    closed = Repository.of_folder(layouts / "vae", "a" * 40, gated=True)
    with HubServer({**repositories, "owner/gated": closed}) as server:
        yield server


def test_families_load_and_render_and_are_there_offline(hub: HubServer, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path), "XBENCH_SD15_SDXL_MAPPER": MAPPER}
    wanted = {
        "sd15-sdxl": ["base", "sdedit", "xadapter", "floor"],
        "sd15-sd21": ["base", "sdedit", "floor"],
    }
    online = in_process(RENDER, wanted, HF_ENDPOINT=hub.url, **home)
    base, upgraded = [64, 64, 3], [128, 128, 3]
    assert online["sd15-sdxl"]["images"] == [base, upgraded, upgraded, upgraded]
    assert online["sd15-sdxl"]["vae"] == 0.125  # the safe one, not the pipeline's own
    assert online["sd15-sd21"]["images"] == [base, upgraded, upgraded]
    assert online["sd15-sd21"]["v"] == "v_prediction"
    weights = {name for name in hub.fetched() if name.endswith((".safetensors", ".msgpack"))}
    assert weights == {
        "diffusion_pytorch_model.safetensors",  # the VAE
        "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }
    hub.requests.clear()
    cached: list[Any] = [
        (p.repository, p.revision, None, pipeline_files()) for p in (SD15, SD15_SD21.upgraded)
    ]
    mapper = HubModel.parse(MAPPER, name="mapper")
    cached.append((mapper.repository, mapper.revision, mapper.file, ()))
    again = in_process(FETCH, cached, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1", **home)
    assert [text.partition(" ")[0] for text in again] == ["fetched"] * 3
    assert hub.requests == []


def test_what_the_hub_refuses_is_told_with_what_to_do(hub: HubServer, tmp_path: Path) -> None:
    asked = [
        ("owner/gated", "a" * 40, None, "*"),
        ("owner/nothing", "a" * 40, None, "*"),
        (SD15.repository, "b" * 40, None, "*"),
        (SD15.repository, SD15.revision, "none.safetensors", ()),
    ]
    home = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    gated, missing, revision, file = in_process(FETCH, asked, **home)
    assert "owner/gated" in gated and "accept its terms" in gated and "HF_TOKEN" in gated
    assert "owner/nothing" in missing and "or it is private" in missing
    assert "b" * 40 in revision and "no such revision" in revision
    assert "no such file" in file
    assert all("X=owner/repository@COMMIT" in text for text in (gated, missing, revision, file))
    (open_now,) = in_process(FETCH, asked[:1], HF_TOKEN=TOKEN, **home)
    assert open_now.startswith("fetched")


def test_offline_and_without_network_name_the_settings(tmp_path: Path) -> None:
    folder, file = (("owner/name", "a" * 40, name, "*") for name in (None, "file.bin"))
    dead = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    offline = in_process(FETCH, [folder, file], **dead, HF_HUB_OFFLINE="1")
    unreachable = in_process(FETCH, [file], **dead)
    for message in (*offline, *unreachable):
        assert "not in the local cache" in message
        assert "HF_HUB_OFFLINE" in message and "X=owner/repository@COMMIT" in message


def test_hub_families_pin_full_commits() -> None:
    pins = (SD15_SDXL.base, SD15_SDXL.upgraded, SD15_SDXL.upgraded_vae, SD15_SD21.upgraded)
    for pin in pins:
        assert pin is not None
        assert HubModel.parse(str(pin), name="pin") == pin


@pytest.mark.parametrize("text", ["owner/name", "owner/name@main", "name@" + "a" * 40, "/no/path"])
def test_a_source_that_can_change_or_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_SD15_SDXL_BASE", text)
    with pytest.raises(UserError, match=r"XBENCH_SD15_SDXL_BASE is .*40 hexadecimal"):
        SD15_SDXL.fingerprint(None)


def test_every_part_moves_the_fingerprint_of_its_side(
    layouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SD15_SDXL.fingerprint(None)
    assert plain.keys() == {"base", "upgraded"}
    monkeypatch.setenv("XBENCH_SD15_SDXL_UPGRADED_VAE", str(layouts / "vae"))
    other_vae = SD15_SDXL.fingerprint(layouts / "mapper")
    assert other_vae["base"] == plain["base"]
    assert other_vae["upgraded"] != plain["upgraded"]
    assert len(other_vae["mapper"]) == 64
    assert SD15_SD21.fingerprint(None)["base"] == plain["base"]


def test_a_family_without_mapper_says_where_to_get_one(
    layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--adapter" in str(SD15_SD21.mapper_problem(None))
    assert "X_Adapter_v1.bin" in str(SD15_SDXL.mapper_problem(None))
    assert SD15_SDXL.mapper_problem(layouts / "mapper") is None
    with pytest.raises(UserError, match=r"X_Adapter_v1\.bin"):
        SD15_SDXL.load(device="cpu", dtype="float16", adapter=tmp_path / "none.bin")
    monkeypatch.setenv("XBENCH_SD15_SDXL_MAPPER", MAPPER)
    assert SD15_SDXL.mapper_problem(None) is None
    expected = hashlib.sha256(MAPPER.encode()).hexdigest()
    assert SD15_SDXL.fingerprint(None)["mapper"] == expected


def test_what_is_no_stable_diffusion_is_told(folders: Path, tmp_path: Path) -> None:
    def load(base: Path, upgraded: Path, mapper: Path | None = None) -> None:
        load_from_folders(
            "x", base=base, upgraded=upgraded, mapper=mapper, device="cpu", dtype="float32"
        )

    with pytest.raises(UserError, match=r"model_index\.json cannot be read"):
        load(tmp_path, folders / "upgraded")
    with pytest.raises(UserError, match="is a StableDiffusionXLPipeline"):
        load(folders / "upgraded", folders / "upgraded", mapper=tmp_path / "mapper")
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(UserError, match=r"is a FluxPipeline: use one of StableDiffusionPipeline"):
        load(folders / "base", tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(folders / "base", broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load(broken, folders / "upgraded")
