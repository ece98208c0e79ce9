"""Every manifest that ships ends with a verdict table, offline, on models of the pocket world."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from bench.plan.judges import judges
from bench.plan.selection import Selection
from bench.registry import known_names
from bench.run import RunRequest, run_benchmark
from bench.store.run_store import RunStore
from plugins_manifest.schema import load_manifest
from plugins_manifest.schema.manifest import CocoCases
from pocket.scenes import caption, scene_at
from pocket.weights import part_path
from tests.runners.kinds import save_t2i

pytestmark = pytest.mark.system

FOLDER = resources.files("plugins_manifest") / "manifests"
SHIPPED = sorted(entry.name.removesuffix(".yaml") for entry in FOLDER.iterdir())
PHOTOS = (139, 285)
WITHOUT_A_METRIC = {"mlsd", "normal", "normalbae", "scribble", "lineart-anime", "shuffle", "qrcode"}
WITHOUT_A_METRIC |= {"face", "sketch", "zoedepth", "keypose", "color"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def on_pocket(name: str, folder: Path) -> Path:
    """Return a shipped manifest with small files in the place of its plugins and photos."""
    data: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    if not data["family"].startswith("pocket"):
        save_t2i(folder / "t2i")
        width = torch.zeros(1, 64)
        save_file({"emb_params": width + 0.1}, folder / "word.safetensors")
        files = {
            "lora": "pocket:lora-outline",
            "controlnet": "pocket:controlnet-canny",
            "t2i_adapter": "t2i",
            "textual_inversion": "word.safetensors",
        }
        for i, plugin in enumerate(data["plugins"]):
            plugin.pop("sha256", None)
            # another weight for each: equal files would be the same plugin twice
            plugin |= {"source": files[plugin["kind"]], "weight": 0.5 + i / 100}
            if "trigger" in plugin:  # pocket's models read 20 tokens
                plugin["trigger"] = "outline drawing"
            if "prompts" in plugin:
                plugin["prompts"] = [caption(scene_at(3, i)) for i in range(2)]
        sizes = {"base_size": [64, 64], "upgraded_size": [128, 128], "dtype": "float32"}
        data["settings"] |= {**sizes, "steps": 2}
        if data["cases"]["source"] == "coco-val2017":
            conditions = {
                plugin["condition"] for plugin in data["plugins"] if "condition" in plugin
            }
            photos(folder / "coco", sorted(conditions))
            data["cases"]["path"] = "coco"
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def photos(folder: Path, conditions: list[str]) -> None:
    """Write two photos with captions, and a finished image of every condition of each."""
    rng = np.random.default_rng(0)
    names = [f"{number:012d}" for number in PHOTOS]
    for place in ("val2017", *(f"conditions/{condition}" for condition in conditions)):
        (folder / place).mkdir(parents=True)
        for stem in names:
            pixels = np.kron(rng.integers(0, 2, (8, 8, 1)) * 255, np.ones((16, 16, 3)))
            kind = ".jpg" if place == "val2017" else ".png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / place / f"{stem}{kind}")
    captions = [
        {"id": i, "image_id": number, "caption": f"a large {color} circle"}
        for i, (number, color) in enumerate(zip(PHOTOS, ("red", "blue"), strict=True))
    ]
    images = [
        {"id": number, "file_name": f"{stem}.jpg"}
        for number, stem in zip(PHOTOS, names, strict=True)
    ]
    text = json.dumps({"images": images, "annotations": captions})
    (folder / "captions_val2017.json").write_text(text)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_metrics_of_a_shipped_manifest_measure_the_function_of_each_plugin(name: str) -> None:
    manifest = load_manifest(name, known=known_names())
    conditions = {spec.id: spec.condition for spec in manifest.plugins}
    for plugin, roles in judges(manifest).items():
        found = {judge.role: judge.metric for judge in roles}
        assert found["text"] is not None
        if conditions.get(plugin) not in WITHOUT_A_METRIC:
            assert found["function"] is not None, plugin


@pytest.mark.parametrize(
    "name",
    [name if name == "smoke" else pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED],
)
@pytest.mark.timeout(900)
def test_a_shipped_manifest_ends_with_a_verdict_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pocket_weights: None
) -> None:
    for part in ("BASE", "UPGRADED", "MAPPER"):
        monkeypatch.setenv(f"XBENCH_SD15_SDXL_{part}", str(part_path(part.lower())))
    vae = part_path("upgraded") / "vae"
    monkeypatch.setenv("XBENCH_SD15_SDXL_UPGRADED_VAE", str(vae))
    path = on_pocket(name, tmp_path)
    is_coco = isinstance(load_manifest(path, known=known_names()).cases, CocoCases)
    selection = Selection(limit=2, seeds=(0,))
    request = RunRequest(
        str(path), selection, out=tmp_path / "run", device="cpu", show_progress=False
    )
    outcome = run_benchmark(request)
    assert outcome.n_failed == 0
    store = RunStore.open(outcome.folder)
    measured = {
        plugin
        for plugin, roles in judges(store.manifest()).items()
        if any(judge.role == "function" and judge.measures for judge in roles)
    }
    assert measured
    assert measured <= set(store.compatibility()["plugin"])
    summary = store.summary()
    assert set(judges(store.manifest())) <= set(summary["plugin"])
    assert is_coco == ("condition" in store.manifest().metrics)
