"""Execution: every trial gets a row, finished work is kept, nothing is rendered twice."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pytest

from bench.errors import UserError
from bench.plan.conditions import ConditionSet
from bench.plan.plan import Plan
from bench.render.execute import Execution
from bench.store.files import read_image
from bench.store.image_cache import ImageCache
from bench.store.rows import Row
from bench.store.run_store import RunStore
from plugins_manifest.content import ChangedFileError
from plugins_manifest.schema.manifest import Manifest
from runners.base import Rendered
from tests.bench.conftest import Painter, plan_of


def execute(
    plan: Plan,
    folder: Path,
    painter: Painter,
    *,
    cache: ImageCache | None = None,
    batch_timeout: float | None = None,
) -> RunStore:
    store = RunStore(folder)
    conditions = ConditionSet("pocket", (64, 64), folder=folder)
    limits = {"show_progress": False, "batch_timeout": batch_timeout}
    Execution(plan, store, conditions, painter, cache=cache, **limits).run()
    return store


def outcome(store: RunStore) -> pd.DataFrame:
    return store.results().drop(columns=["seconds", "peak_memory_mib", "origin"])


def test_every_trial_gets_a_row_and_a_lossless_image(manifest: Manifest, tmp_path: Path) -> None:
    plan = plan_of(manifest)
    store = execute(plan, tmp_path / "run", Painter())
    results = store.results().set_index("trial_id")
    assert set(results.index) == {t.trial_id for t in plan.trials}
    assert set(results["status"]) == {"ok"}
    for trial in plan.trials:
        image = read_image(store.folder / results.loc[trial.trial_id, "image"])
        assert image.shape == (16, 16, 3)


def test_failing_method_gives_rows_with_the_reason_and_the_others_go_on(
    manifest: Manifest, tmp_path: Path
) -> None:
    plan = plan_of(manifest)
    results = execute(plan, tmp_path / "run", Painter(bad_method="sdedit")).results()
    failed = results[results["status"] == "failed"]
    assert len(failed) == plan.counts()["sdedit"]
    assert set(failed["error"]) == {"ValueError: too bad"}
    assert failed["image"].isna().all()


def test_renderer_that_breaks_down_fails_its_batch_alone(
    manifest: Manifest, tmp_path: Path
) -> None:
    painter = Painter()

    def break_for_lora(stack, cases, variants, settings):
        rows = painter(stack, cases, variants, settings)
        if [file.plugin_id for file in stack] == ["lora"]:
            yield next(rows)
            raise RuntimeError("out of memory")
        yield from rows

    plan = plan_of(manifest)
    results = execute(plan, tmp_path / "run", break_for_lora).results()
    failed = results[results["status"] == "failed"]["trial_id"]
    lora = [t.trial_id for t in plan.trials if t.plugin == "lora"]
    assert set(failed) == set(lora[1:])


def test_resumed_run_equals_uninterrupted_run(manifest: Manifest, tmp_path: Path) -> None:
    plan = plan_of(manifest)
    complete = execute(plan, tmp_path / "complete", Painter())
    for n_images in (1, 4, 13, 26):
        folder = tmp_path / f"cut-{n_images}"
        with pytest.raises(KeyboardInterrupt):
            execute(plan, folder, Painter(stop_after=n_images))
        second = Painter()
        pd.testing.assert_frame_equal(outcome(execute(plan, folder, second)), outcome(complete))
        assert second.n_images <= len(plan.trials)


def test_interrupted_batch_is_rendered_again_and_finished_ones_are_kept(
    manifest: Manifest, tmp_path: Path
) -> None:
    plan = plan_of(manifest)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, tmp_path / "run", Painter(stop_after=3 + 5))
    again = Painter()
    execute(plan, tmp_path / "run", again)
    assert [name for name, _, _ in again.calls] == ["lora", "net"]
    assert all(len(cases) == 3 for _, cases, _ in again.calls)


def test_a_batch_ends_while_the_next_one_is_rendered_and_its_errors_end_the_run(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, painter, begun = plan_of(manifest), Painter(), Event()
    write, parts = RunStore.write_results, []

    def slow(store: RunStore, part: str, rows: Sequence[Row]) -> None:
        assert parts or begun.wait(60)
        parts.append(part)
        write(store, part, rows)

    def notify(*given: Any) -> Iterator[Rendered]:
        if painter.calls:
            begun.set()
        yield from painter(*given)

    monkeypatch.setattr(RunStore, "write_results", slow)
    store = execute(plan, tmp_path / "run", notify)
    assert parts == [group.group_id for group in plan.groups]
    assert set(store.results()["status"]) == {"ok"}

    def full(store: RunStore, part: str, rows: Sequence[Row]) -> None:
        raise UserError("no room left to write")

    monkeypatch.setattr(RunStore, "write_results", full)
    with pytest.raises(UserError, match="no room left"):
        execute(plan, tmp_path / "full", Painter())


def test_finished_run_renders_nothing(manifest: Manifest, tmp_path: Path) -> None:
    plan = plan_of(manifest)
    execute(plan, tmp_path / "run", Painter())
    again = Painter()
    execute(plan, tmp_path / "run", again)
    assert again.calls == []


def test_failed_trials_are_tried_again(manifest: Manifest, tmp_path: Path) -> None:
    plan = plan_of(manifest)
    store = execute(plan, tmp_path / "run", Painter(bad_method="xadapter"))
    assert len(store.finished_trials()) == len(plan.trials) - plan.counts()["xadapter"]
    again = Painter()
    execute(plan, tmp_path / "run", again)
    assert again.n_images == plan.counts()["xadapter"]
    assert set(store.results()["status"]) == {"ok"}


def test_image_that_was_deleted_is_made_again(manifest: Manifest, tmp_path: Path) -> None:
    plan = plan_of(manifest)
    store = execute(plan, tmp_path / "run", Painter())
    before = store.image_path(plan.trials[4].trial_id).read_bytes()
    store.image_path(plan.trials[4].trial_id).unlink()
    again = Painter()
    execute(plan, tmp_path / "run", again)
    assert again.n_images == 1
    assert store.image_path(plan.trials[4].trial_id).read_bytes() == before


def test_new_t0_renders_only_what_is_new(manifest: Manifest, tmp_path: Path) -> None:
    execute(plan_of(manifest, t0=(0.5,)), tmp_path / "run", Painter())
    again = Painter()
    execute(plan_of(manifest, t0=(0.5, 0.9)), tmp_path / "run", again)
    assert {v.t0 for _, _, variants in again.calls for v in variants} == {0.9}


def test_images_of_another_run_come_from_the_cache(
    manifest: Manifest, tmp_path: Path, own_cache: Path
) -> None:
    plan, cache = plan_of(manifest), ImageCache("here")
    first = execute(plan, tmp_path / "one", Painter(), cache=cache)
    painter = Painter()
    second = execute(plan, tmp_path / "two", painter, cache=cache)
    assert painter.calls == []
    assert set(second.results()["origin"]) == {"cache"}
    pd.testing.assert_frame_equal(outcome(first), outcome(second))


def test_a_row_has_the_batch_that_its_image_was_made_in_also_from_the_cache(
    manifest: Manifest, tmp_path: Path
) -> None:
    painter, cache = Painter(), ImageCache("here", folder=tmp_path / "cache")

    def halved(*group: Any) -> Iterator[Rendered]:
        yield from (replace(image, batch=2) for image in painter(*group))

    plan = plan_of(manifest)
    whole = execute(plan, tmp_path / "whole", painter).results()
    assert whole["batch"].isna().all()
    for name in ("made", "cached"):
        results = execute(plan, tmp_path / name, halved, cache=cache).results()
        assert set(results["batch"]) == {2}
    assert set(results["origin"]) == {"cache"}


def test_other_render_context_shares_nothing(manifest: Manifest, tmp_path: Path) -> None:
    plan = plan_of(manifest)
    execute(plan, tmp_path / "one", Painter(), cache=ImageCache("float32-cpu"))
    painter = Painter()
    execute(plan, tmp_path / "two", painter, cache=ImageCache("float32-cuda"))
    assert painter.n_images == len(plan.trials)


def test_failed_trials_never_enter_the_cache(manifest: Manifest, tmp_path: Path) -> None:
    plan, cache = plan_of(manifest), ImageCache("here")
    execute(plan, tmp_path / "one", Painter(bad_method="base"), cache=cache)
    assert all((cache.get(t.trial_id) is None) == (t.method == "base") for t in plan.trials)


class Unlike(Painter):
    """A renderer that does something else for the plugin `lora` after the first image."""

    def __init__(self, act) -> None:
        super().__init__()
        self.act = act

    def __call__(self, stack, cases, variants, settings):
        rows = super().__call__(stack, cases, variants, settings)
        if [file.plugin_id for file in stack] == ["lora"]:
            yield next(rows)
            self.act()
        yield from rows


def changed() -> None:
    raise ChangedFileError("lora.bin is not the planned one")


def test_a_changed_file_ends_the_run_and_nothing_of_its_batch_is_kept(
    manifest: Manifest, tmp_path: Path
) -> None:
    plan, cache = plan_of(manifest), ImageCache("here")
    with pytest.raises(ChangedFileError):
        execute(plan, tmp_path / "run", Unlike(changed), cache=cache)
    results = RunStore(tmp_path / "run").results()
    lora = {trial.trial_id for trial in plan.trials if trial.plugin == "lora"}
    assert not results.empty and not lora & set(results["trial_id"])
    assert all(cache.get(trial_id) is None for trial_id in lora)


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("k"), SystemExit(3), AssertionError()])
def test_any_error_of_a_renderer_is_a_row_with_the_reason(
    manifest: Manifest, tmp_path: Path, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    plan = plan_of(manifest)
    results = execute(plan, tmp_path / "run", Unlike(fail)).results()
    assert set(results["trial_id"]) == {trial.trial_id for trial in plan.trials}
    failed = results[results["status"] == "failed"]
    assert len(failed) == sum(trial.plugin == "lora" for trial in plan.trials) - 1
    assert failed["error"].str.startswith(type(error).__name__).all()


def test_a_batch_that_hangs_fails_and_the_next_one_goes_on(
    manifest: Manifest, tmp_path: Path
) -> None:
    plan = plan_of(manifest)
    hanging = Unlike(lambda: time.sleep(60))
    results = execute(plan, tmp_path / "run", hanging, batch_timeout=0.5).results()
    failed = results[results["status"] == "failed"]
    assert set(failed["error"]) == {"no result within 0.5 s (--batch-timeout)"}
    lora = [trial.trial_id for trial in plan.trials if trial.plugin == "lora"]
    assert set(failed["trial_id"]) == set(lora[1:])


def test_rows_for_the_end_of_the_process_are_there_in_the_batch_alone(
    manifest: Manifest, tmp_path: Path
) -> None:
    plan, store = plan_of(manifest), RunStore(tmp_path / "run")
    seen: list[set[str]] = []

    def interrupted() -> None:
        results = store.results()
        seen.append(set(results.loc[results["status"] == "failed", "trial_id"]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(plan, store.folder, Unlike(interrupted), batch_timeout=60)
    lora = {trial.trial_id for trial in plan.trials if trial.plugin == "lora"}
    assert seen == [lora]
    assert not lora & set(store.results()["trial_id"])
