"""The code that `xbench explain --python` prints makes the same image in another process."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from bench.cli.main import main
from bench.cli.python_code import NoCodeError, python_code
from bench.run import RunRequest, run_benchmark
from bench.store import Row, RunStore, records
from bench.store.files import read_image
from plugins_manifest.cases import Case
from runners.base import generator_seed
from runners.families.stable_diffusion import SD15_SDXL
from tests.warm import run_warm

pytestmark = pytest.mark.system

MANIFEST = """\
schema: 1
name: again
family: pocket
plugins:
  - {id: canny, kind: controlnet, source: "pocket:controlnet-canny", condition: canny, weight: 0.9}
  - {id: outline, kind: lora, source: "pocket:lora-outline", trigger: outline drawing, native: gold}
  - {id: word, kind: textual_inversion, source: word.safetensors, token: zzword}
  - {id: gold, kind: lora, side: upgraded, source: "pocket:upgraded-lora-hatched", weight: 0.7}
stacks:
  - {id: all, plugins: [{id: outline, weight: 0.8}, {id: canny}, {id: word}, {id: gold}]}
cases: {source: pocket, seed: 3, n: 1}
methods:
  - name: base
  - name: floor
  - name: oracle
  - {name: sdedit, t0: [0.5]}
  - {name: xadapter, t0: [0.7], adapter_scale: [0.8]}
  - {name: hires, t0: [0.5]}
metrics: []
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 3, guidance_scale: 3.0,
  negative_prompt: blurry}
"""
PLAIN = {("base", "word"), ("sdedit", "all")}
MORE = {("base", "canny"), ("base", "all"), ("floor", ""), ("oracle", "outline")}
JOINED = {("xadapter", "all")}
ALL_IN_ONE_PROCESS = """
import os, runpy, sys
for folder in sys.argv[1:]:
    os.chdir(folder)
    runpy.run_path("code.py")
assert "bench" not in sys.modules
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pocket_weights: None) -> RunStore:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("again")
    vectors = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    save_file({"emb_params": 0.1 * vectors}, folder / "word.safetensors")
    (folder / "m.yaml").write_text(MANIFEST)
    request = RunRequest(
        str(folder / "m.yaml"),
        out=folder / "run",
        device="cpu",
        use_cache=False,
        show_progress=False,
    )
    assert run_benchmark(request).n_failed == 0
    return RunStore.open(folder / "run")


def chosen(store: RunStore, keys: set[tuple[str, str]]) -> list[Row]:
    return [row for row in records(store.trials()) if (row["method"], row["plugin"]) in keys]


@pytest.mark.parametrize(
    "keys",
    [PLAIN, JOINED, pytest.param(MORE, marks=pytest.mark.slow)],
    ids=["diffusers", "xadapter", "more"],
)
def test_the_code_of_a_trial_makes_its_image(
    run: RunStore, tmp_path: Path, keys: set[tuple[str, str]]
) -> None:
    trials = chosen(run, keys)
    assert len(trials) == len(keys)
    for trial in trials:
        code = python_code(run, trial)
        assert ("xadapter" in code) == (keys is JOINED)
        (tmp_path / trial["trial_id"]).mkdir()
        (tmp_path / trial["trial_id"] / "code.py").write_text(code)
    folders = [str(tmp_path / trial["trial_id"]) for trial in trials]
    done = run_warm(ALL_IN_ONE_PROCESS, *folders, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for trial, folder in zip(trials, folders, strict=True):
        ours = read_image(run.image_path(trial["trial_id"])).astype(int)
        again = read_image(Path(folder) / "again.png").astype(int)
        assert np.abs(ours - again).max() <= 1, trial["method"]


def test_explain_prints_seed_and_code_or_why_there_is_none(run: RunStore) -> None:
    (trial,) = chosen(run, {("base", "canny")})
    facts = json.loads(
        CliRunner().invoke(main, ["explain", str(run.folder), trial["trial_id"], "--json"]).stdout
    )
    assert facts["generator_seed"] == generator_seed(0, "pocket-3-0000")
    assert f"seed = {facts['generator_seed']}  #" in facts["python"]
    done = CliRunner().invoke(main, ["explain", str(run.folder), trial["trial_id"], "--python"])
    assert done.stdout == facts["python"]
    hires = chosen(run, {("hires", "canny")})[0]["trial_id"]
    answer = CliRunner().invoke(main, ["explain", str(run.folder), hires, "--json"])
    assert "there is no code for the method 'hires'" in json.loads(answer.stdout)["no_python"]
    refused = CliRunner().invoke(main, ["explain", str(run.folder), hires, "--python"])
    assert refused.exit_code == 2 and "'hires'" in refused.stderr


REAL = """\
schema: 1
name: real
family: sd15-sdxl
plugins:
  - {id: detail, kind: lora, source: "urn:air:sd1:lora:civitai:58390@62833"}
  - {id: canny, kind: controlnet, source: "hf://lllyasviel/sd-controlnet-canny/", condition: canny}
  - {id: ip, kind: ip_adapter, source: "hf://h94/IP-Adapter/models/ip.safetensors"}
stacks: [{id: both, plugins: [{id: detail}, {id: canny}]}]
cases: [{id: cat, prompt: "a cat's \\"hat\\""}]
methods: [{name: base}, {name: sdedit, t0: [0.7]}, {name: xadapter, t0: [0.7]}]
settings: {dtype: float16}
"""


@pytest.mark.parametrize("method", ["base", "sdedit", "xadapter"])
def test_the_code_for_real_models_names_their_repositories(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("BASE", "UPGRADED", "UPGRADED_VAE"):
        monkeypatch.delenv(f"XBENCH_SD15_SDXL_{part}", raising=False)
    commit = "d" * 40
    monkeypatch.setenv(
        "XBENCH_SD15_SDXL_MAPPER", f"Lingmin-Ran/X-Adapter@{commit}/X_Adapter_v1.bin"
    )
    store = RunStore(tmp_path)
    store.write_run_facts({"status": "complete"})
    (tmp_path / "manifest.yaml").write_text(REAL)
    store.write_cases([Case("cat", 'a cat\'s "hat"')])
    trial = {
        "trial_id": "0" * 20,
        "plugin": "both",
        "method": method,
        "t0": None if method == "base" else 0.7,
        "plugin_scale": 1.0,
        "adapter_scale": 1.0 if method == "xadapter" else None,
        "adapter": None,
        "case_id": "cat",
        "base_prompt": 'a cat\'s "hat"',
        "upgraded_prompt": 'a cat\'s "hat"',
        "conditions": json.dumps({"canny": "conditions/canny/cat.png"}),
        "seed": 0,
    }
    code = python_code(store, trial)
    tree = ast.parse(code)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    wanted = {"lllyasviel/sd-controlnet-canny", SD15_SDXL.base.revision, 'a cat\'s "hat"'}
    wanted |= {SD15_SDXL.upgraded.repository, "PATH OF urn:air:sd1:lora:civitai:58390@62833"}
    if method == "xadapter":
        wanted |= {"Lingmin-Ran/X-Adapter", commit}
    assert wanted <= texts
    with pytest.raises(NoCodeError, match="no code for the kind 'ip_adapter'"):
        python_code(store, {**trial, "plugin": "ip"})
