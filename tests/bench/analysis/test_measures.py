"""Which metric represents a plugin's function, quality and text, by the metrics' own traits."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from bench.analysis.measures import choose, gain_metrics
from bench.registry import find_metric, installed, metrics_of
from metrics.base import LAST_RANK, Traits, traits_of
from plugins_manifest.schema.load import load_manifest

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


@dataclass(frozen=True)
class Declared:
    """A metric of another package that declares its traits."""

    role: str = "function"
    condition: str = "canny"


class Silent:
    """A metric of before there were traits."""


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch):
    """Two metrics of another package: an instance, and a class as metrics used to be."""
    module = ModuleType("another_package")
    module.DECLARED, module.Silent = Declared(), Silent  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "another_package", module)
    targets = {"another-edge": "another_package:DECLARED", "silent": "another_package:Silent"}
    points = {n: EntryPoint(n, target, "xbench.metrics") for n, target in targets.items()}
    known = installed("metrics") | points
    for place in ("bench.registry", "bench.analysis.measures", "plugins_manifest.installed"):
        monkeypatch.setattr(f"{place}.installed", lambda group: known)


@pytest.mark.usefixtures("third_party")
def test_a_metric_of_another_package_counts_by_the_role_that_it_declares():
    assert choose("function", {"another-edge", "silent"}) == "another-edge"
    assert choose("function", {"another-edge", "silent", "pocket-style"}) == "pocket-style"
    assert metrics_of("canny") == ["edge-f1", "edge-iou", "edge-f1-2px", "another-edge"]


@pytest.mark.usefixtures("third_party")
def test_an_older_metric_without_traits_has_none():
    assert isinstance(find_metric("silent"), Silent)
    assert traits_of(find_metric("silent")) == Traits(None, LAST_RANK, None, None)
