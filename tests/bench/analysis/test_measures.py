"""Which metric represents a plugin's function, quality and text, by the metrics' own traits."""

from pathlib import Path
from typing import Any

import pytest

from bench.analysis.measures import choose, gain_metrics
from bench.registry import installed
from plugins_manifest.schema import load_manifest
from tests.extension import in_process_with

# recorded before metrics declared their roles, and edge-f1-2px, which had none
RECORDED = {
    "function": "edge-f1-1px edge-f1 edge-iou edge-f1-2px mask-iou depth-aligned-rmse depth-rmse "
    "hed-ms-ssim hed-ssim softedge-ms-ssim softedge-ssim lineart-ms-ssim lineart-ssim seg-iou "
    "pose-oks tile-lpips tile-psnr pocket-style-rate style-clip-i style-csd style-gram "
    "pocket-style",
    "quality": "pocket-kid kid cmmd kid-floor cmmd-floor pocket-fid fid",
    "text": "clip-score pocket-clip",
}
UPGRADED = ["pocket-kid-floor", "kid-floor", "cmmd-floor", "pocket-kid", "kid", "cmmd"]
ORACLE = ["pocket-kid-oracle", "kid-oracle", "cmmd-oracle"]


@pytest.mark.parametrize("role", RECORDED)
def test_the_order_of_a_role_is_the_recorded_one(role):
    known, found = set(installed("metrics")), []
    while (name := choose(role, known)) is not None:
        found.append(name)
        known.remove(name)
    assert found == RECORDED[role].split()


def test_kernel_distances_over_different_prompts_scale_the_gain_first():
    names = set(installed("metrics"))
    assert gain_metrics("upgraded", names) == UPGRADED
    assert gain_metrics("oracle", names) == ORACLE


def test_names_that_are_not_installed_have_no_role():
    assert choose("function", {"no-such-metric"}) is None
    assert choose("function", {"no-such-metric", "edge-iou"}) == "edge-iou"


def test_the_smoke_manifest_names_a_metric_of_its_plugins_function():
    assert choose("function", load_manifest("smoke").metrics) == "edge-f1-2px"


THIRD_PARTY = """
class Silent:
    name, level, better, needs = "silent", "image", "higher", frozenset()

    def recipe(self): ...

    def applies_to(self, plugin): ...

    def score(self, images, references): ...


class Declared(Silent):
    name, role, condition = "another-edge", "function", "canny"


DECLARED = Declared()
"""


def answer(folder: Path, code: str) -> Any:
    """Evaluate code in a process where the package of `THIRD_PARTY` is installed."""
    points = {"xbench.metrics": {"another-edge": "DECLARED", "silent": "Silent"}}
    lines = (
        "import json",
        "from bench.analysis.measures import choose",
        "from bench.registry import find_metric, metrics_of",
        "from metrics.base import LAST_RANK, Traits, traits_of",
        f"print(json.dumps({code}))",
    )
    return in_process_with(folder, module=THIRD_PARTY, entry_points=points, code="\n".join(lines))


def test_a_metric_of_another_package_counts_by_the_role_that_it_declares(tmp_path: Path):
    found = answer(
        tmp_path,
        "[choose('function', {'another-edge', 'silent'}), "
        "choose('function', {'another-edge', 'silent', 'pocket-style'}), metrics_of('canny')]",
    )
    own = ["edge-f1", "edge-iou", "edge-f1-2px"]
    assert found == ["another-edge", "pocket-style", [*own, "another-edge"]]


def test_an_older_metric_without_traits_has_none(tmp_path: Path):
    code = "traits_of(find_metric('silent')) == Traits(None, LAST_RANK, None, None)"
    assert answer(tmp_path, code) is True
