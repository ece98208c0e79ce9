import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.scoring.images import Pictures, read_images
from bench.scoring.score import read_scores, score_run
from bench.store import read_image, schema
from bench.store.files import png_bytes, write_bytes
from bench.store.run_store import RunStore
from metrics.base import MetricUnavailableError
from metrics.condition.overlap import EDGE_F1
from metrics.features import FeatureCache
from metrics.pocket_oracle import POCKET_ORACLE
from metrics.style_projection import POCKET_STYLE_PROJECTION
from metrics.styles import POCKET_STYLE
from metrics.text import CLIP_SCORE
from tests.bench.drawn_run import (
    Thumbnails,
    draw_run,
    drawn_metrics,
    finished_run,
    thumbnail_distances,
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> RunStore:
    return finished_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return draw_run(tmp_path / "drawn", n_cases=2, t0s=(0.5,))


def digests(store: RunStore) -> dict[str, str]:
    paths = sorted((store.folder / "scores").glob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_every_scores_file_has_the_public_columns_and_the_store_reads_all_of_them(
    scored: RunStore,
):
    paths = sorted((scored.folder / "scores").glob("*.parquet"))
    written = [pq.read_table(path) for path in paths]
    assert written and all(table.schema.equals(schema.SCORES) for table in written)
    found = scored.scores()
    assert found.columns.tolist() == schema.SCORES.names
    assert len(found) == sum(table.num_rows for table in written)
    assert found["inputs"].notna().all() and found["n"].notna().all()
    assert found[found["metric"] == "pocket-kid"]["leave_one_out"].notna().any()


def test_image_metrics_give_one_row_for_each_image_and_plugin(scored: RunStore):
    rows = [r for r in read_scores(scored) if r["metric"] == "pocket-clip"]
    # 12 cases x 2 plugins x (base, 2 sdedit, 2 xadapter, floor)
    assert len(rows) == 12 * 2 * 6
    assert {r["level"] for r in rows} == {"image"}


def test_floor_images_are_scored_for_every_plugin(scored: RunStore):
    floor = [r for r in read_scores(scored) if r["method"] == "floor"]
    assert {r["plugin"] for r in floor} == {"pocket-canny", "pocket-outline"}
    edge = [r for r in floor if r["metric"] == "edge-f1"]
    assert {r["plugin"] for r in edge} == {"pocket-canny"}
    assert all(r["value"] is not None for r in edge)
    style = [r for r in floor if r["metric"] == "pocket-style"]
    assert {(r["plugin"], r["kind"]) for r in style} == {("pocket-outline", "lora")}


def test_set_metrics_give_one_row_for_each_arm(scored: RunStore):
    rows = [r for r in read_scores(scored) if r["metric"] == "pocket-kid"]
    assert len(rows) == 2 * 6
    assert all(r["trial_id"] is None and r["level"] == "group" and r["n"] == 12 for r in rows)


def test_metrics_that_do_not_apply_write_no_file(scored: RunStore):
    assert not (scored.folder / "scores" / "mask-iou.parquet").exists()


def test_a_finished_run_is_not_scored_again(scored: RunStore):
    before = digests(scored)
    again = score_run(scored.folder, drawn_metrics())
    assert again.n_scores == 0
    assert set(again.skipped) >= {"edge-f1", "pocket-kid"}
    assert digests(scored) == before


def test_scores_do_not_depend_on_which_metrics_were_done_before(scored: RunStore, tmp_path: Path):
    store = draw_run(tmp_path / "other")
    score_run(store, drawn_metrics()[3:4])
    score_run(store, drawn_metrics()[::-1])
    assert digests(store) == digests(scored)


def test_a_changed_image_is_scored_again(store: RunStore):
    score_run(store, [EDGE_F1])
    results = store.results()
    results.loc[0, "image_sha256"] = "changed"
    store.write_results("all", results.to_dict("records"))
    assert score_run(store, [EDGE_F1]).n_scores > 0


def test_failed_and_unrendered_trials_are_null_with_the_reason(store: RunStore):
    results = store.results()
    failed = results["trial_id"].str.contains("pocket-canny-xadapter")
    results.loc[failed, ["status", "image", "image_sha256"]] = ["failed", None, None]
    results.loc[failed, "error"] = "out of memory"
    unrendered = results["trial_id"].str.contains("pocket-canny-sdedit")
    for part in (store.folder / "results").glob("*.parquet"):
        part.unlink()
    store.write_results("all", results[~unrendered].to_dict("records"))
    score_run(store, drawn_metrics())
    rows = [r for r in read_scores(store) if r["metric"] == "edge-f1"]
    reasons = {r["method"]: r["reason"] for r in rows if r["value"] is None}
    assert reasons == {"xadapter": "not rendered: out of memory", "sdedit": "not rendered yet"}
    group = [
        r
        for r in read_scores(store)
        if (r["metric"], r["plugin"], r["method"]) == ("pocket-kid", "pocket-canny", "xadapter")
    ]
    assert group[0]["value"] is None
    assert "2 of 2 images missing" in group[0]["reason"]


def test_a_set_without_a_prompt_that_its_reference_has_keeps_its_values(tmp_path: Path):
    store = draw_run(tmp_path / "drawn", t0s=(0.5,), natives=True)
    results = store.results()
    lost = results["trial_id"].str.contains("case-01-pocket-outline-xadapter")
    assert lost.sum() == 1
    results.loc[lost, ["status", "image", "image_sha256"]] = ["failed", None, None]
    for part in (store.folder / "results").glob("*.parquet"):
        part.unlink()
    store.write_results("all", results.to_dict("records"))
    distances = [m for m in thumbnail_distances() if m.name != "pocket-place"]
    score_run(store, distances)
    kept = {case.prompt for name, case in store.cases().items() if name != "case-01"}
    rows = [
        r
        for r in read_scores(store)
        if (r["plugin"], r["method"]) == ("pocket-outline", "xadapter")
    ]
    assert {r["metric"] for r in rows} == {metric.name for metric in distances}
    for row in rows:
        assert row["value"] is not None and "1 of 12 images missing" in row["reason"]
        assert json.loads(row["leave_one_out"]).keys() == kept


@pytest.mark.parametrize("method", ["floor", "base"])
def test_a_changed_reference_of_the_projection_is_scored_again(store: RunStore, method: str):
    metric = replace(POCKET_STYLE_PROJECTION, encoder=Thumbnails())
    score_run(store, [metric])
    before = {r["trial_id"]: r["value"] for r in read_scores(store) if r["method"] == "xadapter"}
    assert score_run(store, [metric]).n_scores == 0
    results = store.results()
    part = "none-floor" if method == "floor" else "pocket-outline-base"
    one = results[results["trial_id"].str.contains(f"case-00-{part}")].iloc[0]
    picture = read_image(store.folder / one["image"])[::-1].copy()
    write_bytes(store.folder / one["image"], png_bytes(picture))
    results.loc[results["trial_id"] == one["trial_id"], "image_sha256"] = "changed"
    for old in (store.folder / "results").glob("*.parquet"):
        old.unlink()
    store.write_results("all", results.to_dict("records"))
    assert score_run(store, [metric]).n_scores > 0
    after = {r["trial_id"]: r["value"] for r in read_scores(store) if r["method"] == "xadapter"}
    # of two prompts the changed one is the other's only reference
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed == {name for name in after if "case-01" in name}


def test_missing_weights_are_null_with_the_command(store: RunStore, monkeypatch, tmp_path):
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(MetricUnavailableError):
        CLIP_SCORE.recipe()
    score_run(store, [CLIP_SCORE])
    rows = read_scores(store)
    assert rows
    assert all(
        r["value"] is None and "xbench metrics fetch clip-vit-l-14" in r["reason"] for r in rows
    )


def test_progress_counts_up_to_the_total(store: RunStore):
    seen: list[tuple[int, int, str]] = []
    score_run(
        store, drawn_metrics(), progress=lambda done, total, name: seen.append((done, total, name))
    )
    assert seen[-1][0] == seen[-1][1]
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)


def test_a_style_bank_holds_base_images_of_other_prompts_only(scored: RunStore):
    run_images = read_images(scored)
    image = next(i for i in run_images.images() if i.plugin == "pocket-outline" and i.t0 == 0.9)
    bank = run_images.style_bank(image)
    assert len(bank) == 11
    assert {i.method for i in bank} == {"base"}
    assert {i.plugin for i in bank} == {"pocket-outline"}
    assert image.prompt not in {i.prompt for i in bank}


def test_references_are_of_the_same_case_and_plugin(scored: RunStore):
    run_images = read_images(scored)
    image = next(i for i in run_images.images() if i.method == "xadapter")
    for found, method in (
        (run_images.base_of(image), "base"),
        (run_images.floor_of(image), "floor"),
    ):
        assert found is not None
        assert (found.plugin, found.case_id, found.method) == (image.plugin, image.case_id, method)


def test_pictures_are_read_once_and_forgotten_over_the_limit(scored: RunStore):
    paths = sorted((scored.folder / "images").rglob("*xadapter*.png"))[:2]
    roomy, tight = Pictures(), Pictures(limit_bytes=1)
    assert roomy.read(paths[0]) is roomy.read(paths[0])
    first = tight.read(paths[0])
    tight.read(paths[1])
    assert tight.read(paths[0]) is not first


def test_what_is_drawn_right_scores_high(scored: RunStore):
    frame = pd.DataFrame(read_scores(scored))
    mean = frame[frame["metric"] == "edge-f1"].groupby("method")["value"].mean()
    assert mean["base"] == 1.0
    assert mean["xadapter"] > 0.75 > mean["floor"]
    oracle = frame[frame["metric"] == POCKET_ORACLE.name].groupby("method")["value"].mean()
    assert oracle["xadapter"] > 0.9 > oracle["floor"]


def test_features_are_kept_by_content():
    assert POCKET_STYLE.level == "image"
    assert FeatureCache().of_texts([], encoder="none", encode=lambda texts: None).shape == (0, 0)
