"""Which metric represents a plugin's function, quality and text, by the metrics' own traits."""

from pathlib import Path
from typing import Any

import pytest

from bench.analysis.measures import choose, quality_axis
from bench.registry import installed
from plugins_manifest.schema import load_manifest
from tests.extension import in_process_with

RECORDED = {
    "function": "edge-f1-1px edge-f1 edge-iou edge-f1-2px mask-iou depth-aligned-rmse depth-rmse "
    "hed-ms-ssim hed-ssim softedge-ms-ssim softedge-ssim lineart-ms-ssim lineart-ssim seg-iou "
    "pose-oks tile-lpips tile-psnr pocket-style-projection pocket-style-rate "
    "style-projection-clip-i style-projection style-clip-i style-csd style-gram pocket-style "
    "pocket-effect-kept effect-kept effect-kept-dinov2",
    "quality": "pocket-kid-floor pocket-kid kid-floor cmmd-floor kid cmmd pocket-fid fid",
    "text": "clip-score pocket-clip",
}
AXES = {
    "floor": ["pocket-kid-floor", "kid-floor", "cmmd-floor"],
    "segment": ["pocket-rest", "kid-rest", "cmmd-rest"],
}


@pytest.mark.parametrize("role", RECORDED)
def test_the_order_of_a_role_is_the_recorded_one(role):
    known, found = set(installed("metrics")), []
    while (name := choose(role, known)) is not None:
        found.append(name)
        known.remove(name)
    assert found == RECORDED[role].split()


@pytest.mark.parametrize("reference", AXES)
def test_kernel_distances_over_different_prompts_measure_quality_first(reference):
    known, found = set(installed("metrics")), []
    while (axis := quality_axis(known, reference)) is not None:
        found.append(axis[0])
        known.remove(axis[0])
    assert found == AXES[reference]


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
        "from metrics.base import Traits, traits_of",
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
    code = "traits_of(find_metric('silent')) == Traits()"
    assert answer(tmp_path, code) is True
