"""Claims about limits of time and images: a run ends between steps and goes on as if whole."""

from pathlib import Path

import pandas as pd
import pytest
from click import BadParameter
from click.testing import CliRunner

from bench.cli.budget import Duration
from bench.cli.main import main
from bench.plan.conditions import ConditionSet
from bench.plan.plan import Plan
from bench.render.budget import Budget, duration_text
from bench.render.execute import Execution
from bench.store.run_store import RunStore
from plugins_manifest.schema.manifest import Manifest
from tests.bench.conftest import Painter, plan_of


def execute(plan: Plan, folder: Path, painter: Painter, budget: Budget, **more) -> str | None:
    conditions = ConditionSet("pocket", (64, 64), folder=folder)
    limits = {"show_progress": False, "budget": budget, **more}
    return Execution(plan, RunStore(folder), conditions, painter, **limits).run()


def outcome(folder: Path) -> pd.DataFrame:
    return RunStore(folder).results()


@pytest.mark.parametrize("more", [{}, {"batch_timeout": 60.0}])
def test_repeated_limited_runs_equal_one_without_a_limit(
    manifest: Manifest, tmp_path: Path, more: dict[str, float]
) -> None:
    plan, painter, whole = plan_of(manifest), Painter(), Painter()
    assert execute(plan, tmp_path / "whole", whole, Budget()) is None
    n_before, stops = 0, 0
    while execute(plan, tmp_path / "limited", painter, Budget(max_images=1), **more):
        done = outcome(tmp_path / "limited")
        assert set(done["status"]) == {"ok"} and len(done) > n_before
        n_before, stops = len(done), stops + 1
    assert stops > 3 and painter.n_images == whole.n_images
    assert outcome(tmp_path / "limited").equals(outcome(tmp_path / "whole"))
    assert {tuple(cases) for _, cases, _ in painter.calls} == {
        tuple(cases) for _, cases, _ in whole.calls
    }


def test_a_limit_of_images_is_exceeded_by_no_more_than_a_step(
    manifest: Manifest, tmp_path: Path
) -> None:
    painter = Painter()
    assert execute(plan_of(manifest), tmp_path, painter, Budget(max_images=4)) == "--max-images 4"
    assert 4 <= painter.n_images < 4 + 3  # a step has the three cases of the batch


def test_a_limit_of_time_lets_the_first_step_finish(manifest: Manifest, tmp_path: Path) -> None:
    painter = Painter()
    late = Budget(max_seconds=60, clock=lambda: 1000.0)
    assert execute(plan_of(manifest), tmp_path, painter, late) == "--max-time 1m"
    assert painter.n_images == 3
    in_time = Budget(max_seconds=60, clock=lambda: 59.0)
    assert execute(plan_of(manifest), tmp_path, painter, in_time) is None


def test_a_limit_that_is_reached_with_the_last_image_ends_nothing(
    manifest: Manifest, tmp_path: Path
) -> None:
    plan = plan_of(manifest)
    assert execute(plan, tmp_path, Painter(), Budget(max_images=len(plan.trials))) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2h", 7200), ("1m5s", 65)]
)
def test_durations_are_read_and_written_alike(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds
    assert Duration().convert(duration_text(seconds), None, None) == seconds


@pytest.mark.parametrize("text", ["20", "", "0s", "1d", "20 m", "-5m", "m", "1.5h"])
def test_other_durations_are_refused_with_examples(text: str) -> None:
    with pytest.raises(BadParameter, match="use 90s, 20m or 1h30m"):
        Duration().convert(text, None, None)
    result = CliRunner().invoke(main, ["run", "--manifest", "pocket", f"--max-time={text}"])
    assert result.exit_code == 2
