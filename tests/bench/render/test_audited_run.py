"""Whole runs with the shipped models: the load audit is where the plugin is."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from bench.cli.main import main
from bench.render.audit import read_audits
from bench.store.run_store import RunStore
from pocket.weights import part_path

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("pocket_weights")]
MANIFEST = """\
schema: 1
name: audited
family: pocket
plugins:
  - {{id: torn, kind: lora, source: torn.safetensors, trigger: outline drawing{more}}}
cases: {{source: pocket, seed: 5, n: 1}}
methods: [{{name: base}}]
metrics: [pocket-clip]
settings: {{base_size: [64, 64], upgraded_size: [128, 128], steps: 2}}
"""
SHARE = "140 of 148 changes applied (94.6 %)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a LoRA eight modules of which belong to no model that we know."""
    state = load_file(part_path("lora-outline"))
    modules = sorted({key.partition(".")[0] for key in state})[:8]
    torn = {
        key.replace("lora_unet", "lora_unet_other") if key.partition(".")[0] in modules else key: v
        for key, v in state.items()
    }
    save_file(torn, tmp_path / "torn.safetensors")
    return tmp_path


def run(folder: Path, out: str, more: str = "") -> tuple[int, str, RunStore]:
    (folder / "audited.yaml").write_text(MANIFEST.format(more=more))
    command = ["run", "--manifest", str(folder / "audited.yaml"), "--out", str(folder / out)]
    result = CliRunner().invoke(main, command)
    return result.exit_code, result.output, RunStore(folder / out)


def test_an_incomplete_plugin_is_refused_before_models_load(folder: Path) -> None:
    code, text, store = run(folder, "out")
    assert code == 2, text
    assert "'torn': torn.safetensors: lora_unet_other_" in text and "is not in the base" in text
    assert not store.folder.exists()


def test_a_part_renders_where_it_is_allowed_and_the_share_is_printed(folder: Path) -> None:
    for out in ("first", "from-the-cache"):
        code, text, store = run(folder, out, ", allow_partial: true")
        assert code == 0, text
        assert "94.6 %" in text
        assert SHARE in (store.tables_dir / "report.md").read_text()
        assert read_audits(store)["torn"].n_applied == 140
