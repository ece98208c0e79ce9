"""docs/which-metric.md is complete: every installed metric, once, and no other name."""

import re
from collections import Counter
from pathlib import Path

from bench.registry import installed

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "which-metric.md"
OWN = "metrics."  # the project's own; a package may add others


def test_every_metric_answers_one_question() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    listed = Counter(name for cell in rows for name in re.findall(r"`([a-z0-9-]+)`", cell))
    own = {name for name, entry in installed("metrics").items() if entry.value.startswith(OWN)}
    assert set(listed) == own
    assert {name: n for name, n in listed.items() if n > 1} == {}


def test_the_page_is_linked() -> None:
    for page in ("README.md", "docs/metrics.md"):
        assert "which-metric.md" in (ROOT / page).read_text(), page
