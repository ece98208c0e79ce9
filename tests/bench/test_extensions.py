"""A package of another author takes part in a run: what it does wrong never becomes a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extension import in_process_with

pytestmark = pytest.mark.system

MANIFEST = """\
schema: 1
name: borders
family: pocket
plugins: [{id: outline, kind: lora, source: "pocket:lora-outline", trigger: outline drawing}]
cases: {source: pocket, seed: 5, n: 2}
methods:
  - {name: theirs-late}
  - {name: theirs-greedy}
  - {name: base}
  - {name: theirs-exit}
  - {name: theirs-wide}
  - {name: floor}
metrics: [theirs-nan, theirs-short, theirs-exits, theirs-mean]
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 2}
"""
MODULE = """
import sys
from dataclasses import dataclass
import numpy as np
from metrics.base import Score

class _Method:
    side, uses_t0, uses_plugin, uses_adapter = "base", False, True, False
    shares = ("base_text", "stage1", "stage1_picture")

class Late(_Method):
    name = "theirs-late"
    def render(self, session, variant):
        picture = session.stage1_picture()
        picture.mul_(0)  # shared with all others
        return session.pixels(picture)

class Greedy(_Method):
    name = "theirs-greedy"
    def render(self, session, variant):
        import torch
        with torch.no_grad():
            session.family.base.unet.conv_out.weight.mul_(0.5)
        return session.pixels(session.stage1_picture())

class Exits(_Method):
    name = "theirs-exit"
    def render(self, session, variant):
        sys.exit(0)

class Wide(_Method):
    name = "theirs-wide"
    def render(self, session, variant):
        return np.zeros((1, 64, 64, 4), np.float32)

@dataclass
class Metric:
    name: str
    result: object
    better: str = "higher"
    level: str = "image"
    needs: tuple = ()
    def recipe(self):
        return "theirs"
    def applies_to(self, image):
        return True
    def score(self, images, references):
        return self.result(images)

def nan(images):
    score = Score(1.0)
    object.__setattr__(score, "value", float("nan"))
    return [score] * len(images)

NAN = Metric("theirs-nan", nan)
SHORT = Metric("theirs-short", lambda images: [Score(1.0)] * (len(images) - 1))
EXITS = Metric("theirs-exits", lambda images: sys.exit(3))
MEAN = Metric("theirs-mean", lambda images: [Score(float(i.load_picture().mean())) for i in images])
"""
POINTS = {
    "xbench.methods": {
        "theirs-late": "Late",
        "theirs-greedy": "Greedy",
        "theirs-exit": "Exits",
        "theirs-wide": "Wide",
        "theirs-unused": "MISSING",
    },
    "xbench.metrics": {
        "theirs-nan": "NAN",
        "theirs-short": "SHORT",
        "theirs-exits": "EXITS",
        "theirs-mean": "MEAN",
        "theirs-broken": "MISSING",
    },
}
CODE = """
import json, logging, sys
from pathlib import Path
from bench.plan import Selection
from bench.run import RunRequest, run_benchmark
from bench.store import RunStore
logging.disable()
def run(name, methods=None):
    selection = Selection() if methods is None else Selection(methods=methods)
    run_benchmark(RunRequest({manifest!r}, selection=selection, out=Path({folder!r}) / name,
        device="cpu", use_cache=False, show_progress=False))
    return RunStore.open(Path({folder!r}) / name)
theirs, ours = run("theirs"), run("ours", ("base", "floor"))
rows = theirs.trials().merge(theirs.results(), on="trial_id")
own = ours.results().set_index("trial_id")["image_sha256"]
print(json.dumps({{
    "status": rows.groupby("method")["status"].unique().map(list).to_dict(),
    "errors": rows.groupby("method")["error"].unique().map(list).to_dict(),
    "own": bool((rows.set_index("trial_id").loc[own.index, "image_sha256"] == own).all()),
    "scores": theirs.scores().fillna("").to_dict("records"),
    "facts": theirs.run_facts()["distributions"],
    "modules": sorted(m for m in sys.modules if m == "theirs"),
}}))
"""


@pytest.mark.usefixtures("pocket_weights")
def test_what_extensions_do_wrong_is_a_row_with_a_reason_and_the_others_are_right(
    tmp_path: Path,
) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(MANIFEST)
    code = CODE.format(manifest=str(manifest), folder=str(tmp_path))
    found = in_process_with(
        tmp_path / "site", module=MODULE, entry_points=POINTS, code=code, renders=True
    )
    ok = {method for method, status in found["status"].items() if status == ["ok"]}
    assert ok == {"base", "floor"} and found["own"]
    errors = {method: errors[0] for method, errors in found["errors"].items()}
    assert "changed the shared results of stage1_picture" in errors["theirs-late"]
    assert "changed the base unet" in errors["theirs-greedy"]
    assert errors["theirs-exit"].startswith("SystemExit: it tried to end the process")
    assert "float32 (1, 64, 64, 4), not uint8 (2, 64, 64, 3)" in errors["theirs-wide"]
    by_metric = {row["metric"]: row for row in found["scores"] if row["method"] == "base"}
    assert "nan, not a finite number" in by_metric["theirs-nan"]["reason"]
    assert "3 scores for 4 images" in by_metric["theirs-short"]["reason"]
    assert "SystemExit" in by_metric["theirs-exits"]["reason"]
    for name in ("theirs-nan", "theirs-short", "theirs-exits"):
        assert by_metric[name]["value"] == ""
    assert by_metric["theirs-mean"]["value"] > 0
    (package,) = [p for p in found["facts"] if p["name"] == "theirs"]
    assert package["version"] == "1.0"
    assert {"methods: theirs-greedy", "metrics: theirs-mean"} <= set(package["extensions"])
    assert not {"methods: theirs-unused", "metrics: theirs-broken"} & set(package["extensions"])
