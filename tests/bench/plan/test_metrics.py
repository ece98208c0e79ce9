"""Which metrics a manifest means."""

from bench.plan.metrics import expand_metrics
from bench.registry import installed
from metrics.condition.detectors import CONDITION_METRICS
from plugins_manifest.schema.manifest import Manifest


def test_the_word_condition_stands_for_the_metrics_of_the_plugins_conditions(
    manifest: Manifest,
) -> None:
    canny = list(CONDITION_METRICS["canny"])
    assert expand_metrics(["pocket-clip", "condition"], manifest) == ["pocket-clip", *canny]
    assert expand_metrics(["edge-iou", "condition"], manifest) == [
        "edge-iou",
        *(name for name in canny if name != "edge-iou"),
    ]
    assert expand_metrics(["pocket-clip"], manifest) == ["pocket-clip"]


def test_metrics_of_conditions_are_all_installed() -> None:
    assert {name for names in CONDITION_METRICS.values() for name in names} <= set(
        installed("metrics")
    )
