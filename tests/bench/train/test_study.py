"""Studies of variants and scripts/ablations: what is trained, what is kept, what tables say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bench.train.study import Measure, Score, Study, Trained, Way, scene_values, seed_difference
from tests.scripts import load_script

pytestmark = pytest.mark.system

SMALL: dict[str, Any] = {
    "schedule.steps": 2,
    "optimizer.batch": 2,
    "data.n_images": 4,
    "objective.weighting": "paper",
    "log.every": 1,
}
F1 = Measure("F1", "edge-f1-1px", ("pocket-canny",))
BOTH = Measure("both", "pocket-oracle", ("pocket-canny", "pocket-outline"))
FULL = Way("xadapter", 0.9, 1.0)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("ablations")


def trained(variant: str, seed: int, *, gain: float, plugins: Sequence[str]) -> Trained:
    """Return a training whose scores are those of seed 0's default plus `gain`, by scene."""
    rng = np.random.default_rng(1)
    scores = []
    for metric in (F1.metric, BOTH.metric):
        for plugin in plugins:
            values = rng.random(24) + gain * (1 + 0.1 * rng.random(24))
            score = Score(plugin, "xadapter", 0.9, 1.0, metric, tuple(map(float, values)))
            scores.append(score)
    return Trained(variant, seed, "0", 0.1, tuple(map(str, range(24))), tuple(scores))


def test_a_difference_pairs_scenes_of_the_seeds_that_both_have() -> None:
    plugins = BOTH.plugins
    found = [trained("default", seed, gain=0.0, plugins=plugins) for seed in (0, 1)]
    found.append(trained("better", 1, gain=0.2, plugins=plugins))
    for measure in (F1, BOTH):
        a, b = (scene_values(found, name, FULL, measure) for name in ("better", "default"))
        assert set(a) == {1} and set(b) == {0, 1}
        e = seed_difference(a, b)
        assert e.low is not None and e.high is not None and 0.2 < e.low < e.high < 0.22
    assert seed_difference({}, b).value is None


def test_a_mean_over_plugins_needs_all_of_them() -> None:
    found = [trained("default", 0, gain=0.0, plugins=F1.plugins)]
    assert scene_values(found, "default", FULL, F1) and not scene_values(
        found, "default", FULL, BOTH
    )


def test_the_table_has_seeds_differences_and_gaps(script: ModuleType) -> None:
    plugins = BOTH.plugins
    found = [trained("default", seed, gain=0.0, plugins=plugins) for seed in (0, 1)]
    found.append(trained("blocks-1", 0, gain=-0.3, plugins=plugins))
    page = script.tables(found)
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines()}
    one, default = (
        next(line for name, line in rows.items() if name.startswith(start))
        for start in ("1 block", "default")
    )
    # the second table, at t0 0.9: the first has no scores, and so no lines
    assert " | 1 | " in one and "**-0.3" in one
    missing = page.splitlines()[-1]
    assert missing.startswith("Not trained yet: ") and "5 blocks" in missing
    assert "1 block," not in missing
    assert " | 2 | " in default and "<br>" not in default


def small_study(script: ModuleType, folder: Path, **changes: Any) -> Study:
    return script.study_of(
        folder,
        results=folder / "results.jsonl",
        n_scenes=3,
        steps=2,
        only=("blocks-1", "fusion-film"),
        **{**SMALL, **changes},
    )


def test_a_study_trains_and_judges_what_is_missing_alone(
    script: ModuleType, tmp_path: Path
) -> None:
    study = small_study(script, tmp_path)
    first = next(study.trainings([0]))  # cut off after the first training
    second = list(study.trainings([0]))
    assert [first.variant, *(t.variant for t in second)] == ["blocks-1", "fusion-film"]
    assert not list(study.trainings([0]))
    kept = study.current()
    assert {t.variant for t in kept} == {"fusion-film", "blocks-1"}
    for one in kept:
        for measure in script.MEASURES[:4]:
            (values,) = scene_values([one], one.variant, FULL, measure).values()
            assert values.shape == (3,) and np.isfinite(values).all()
    assert "fusion" not in script.tables(kept) and "FiLM | 1 |" in script.tables(kept)
    # another recipe makes other mappers: those that are there do not count
    assert not small_study(script, tmp_path, **{"schedule.steps": 3}).current()
