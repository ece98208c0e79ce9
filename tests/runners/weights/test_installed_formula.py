"""Another package adds a formula with one spec and one function, without a change of this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SPEC = """
from plugins_manifest.formats.formulas import FormulaSpec, Size, require

def size(shapes):
    left, right = shapes["left"], shapes["right"]
    require(len(left) == len(right) == 1, shapes)
    return Size(left[0], right[0])

OUTER = FormulaSpec(
    name="outer", math="rank_one.math:outer_change", size=size,
    keys={".outer_left": "left", KEY: "right"},
    needed=("left right",), zero_parts=(("left", "right"),),
)
"""
MATH = """
import torch
from runners.weights import alpha_over_rank

def outer_change(parts, weight):
    return alpha_over_rank(parts, 1) * torch.outer(parts["left"], parts["right"])
"""
USE = """
import sys
from pathlib import Path
import numpy as np
from plugins_manifest.inspect.inspect import inspect_file
from tests.plugins_manifest.zoo.files import pack

module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
left, right = np.arange(320, dtype=np.float32), np.ones(320, dtype=np.float32)
content = {
    f"{module}.outer_left": left,
    f"{module}.outer_right": right,
    f"{module}.alpha": np.array(0.5, dtype=np.float32),
}
path = Path(sys.argv[1])
path.write_bytes(pack(content))
found = inspect_file(path)
assert (found.verdict, found.parsed.kind, dict(found.formulas)) == ("ok", "lycoris", {"outer": 1})
assert "torch" not in sys.modules
path.write_bytes(pack({**content, f"{module}.outer_right": 0 * right}))
assert inspect_file(path).verdict == "no-change"

import torch
from runners.weights.engine import PluginWeights, merged_weight

tensors = {key: torch.from_numpy(value) for key, value in content.items()}
weights = PluginWeights(found.parsed.changes, tensors)
merged = merged_weight(weights, weights.changes, torch.zeros(320, 320), strength=2.0)
assert torch.equal(merged, torch.arange(320.0)[:, None].expand(320, 320))
"""


def run_with_package(tmp_path: Path, *, key: str) -> subprocess.CompletedProcess[str]:
    """Install a package with one formula beside this one, and use it in a process of its own."""
    package, facts = tmp_path / "rank_one", tmp_path / "rank_one-1.0.dist-info"
    package.mkdir()
    facts.mkdir()
    (package / "__init__.py").touch()
    (package / "spec.py").write_text(SPEC.replace("KEY", repr(key)))
    (package / "math.py").write_text(MATH)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: rank-one\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[xbench.formulas]\nouter = rank_one.spec:OUTER\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n{USE}"
    command = [sys.executable, "-c", code, str(tmp_path / "plugin.safetensors")]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)


def test_an_installed_formula_is_parsed_without_torch_and_merged(tmp_path: Path) -> None:
    done = run_with_package(tmp_path, key=".outer_right")
    assert done.returncode == 0, done.stderr


def test_an_installed_formula_cannot_take_the_key_of_another(tmp_path: Path) -> None:
    done = run_with_package(tmp_path, key=".lora_up.weight")
    assert done.returncode != 0
    assert (
        "formula 'outer' (rank_one.spec:OUTER): the key '.lora_up.weight' is taken" in done.stderr
    )
