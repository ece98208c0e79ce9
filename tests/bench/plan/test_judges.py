"""The default metrics of a manifest, and what judges each plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.plan.job import resolve_job
from bench.plan.judges import judge_remarks, judges, with_default_metrics
from bench.plan.resume import locked_manifest, plan_key
from bench.plan.selection import Selection
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from tests.bench.conftest import SMALL, job_of, plan_of


def judged(manifest: Manifest) -> dict[str, dict[str, str | None]]:
    found = judges(manifest)
    return {name: {j.role: j.metric for j in roles} for name, roles in found.items()}


def test_defaults_follow_from_family_kind_and_condition(manifest: Manifest) -> None:
    chosen = with_default_metrics(manifest)
    common = {"quality": "pocket-kid-floor", "text": "pocket-clip"}
    assert judged(chosen) == {
        "lora": {"function": "pocket-style-projection", **common},
        "net": {"function": "edge-f1-1px", **common},
    }
    beside = {"pocket-style-rate", "edge-f1", "pocket-kid"}
    judging = {name for roles in judged(chosen).values() for name in roles.values()}
    assert set(chosen.metrics) == judging | beside and len(judging) == 4
    assert [*judge_remarks(chosen)] == []


def test_a_real_family_gets_metrics_that_are_made_for_any_family(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "none"))
    real = manifest.model_copy(update={"family": "sd15-sdxl"})
    found = judged(with_default_metrics(real))
    assert found["lora"] == {
        "function": "style-projection-clip-i",
        "quality": "kid-floor",
        "text": "clip-score",
    }
    assert found["net"]["function"] == "edge-f1"
    roles = judges(with_default_metrics(real))["lora"]
    assert all("xbench metrics fetch" in (judge.reason or "") for judge in roles)


def test_a_stack_gets_the_metrics_of_each_of_its_plugins(manifest_file: Path) -> None:
    text = SMALL.replace("source: lora.bin,", "source: lora.bin, alone: false,")
    text = text.replace("source: net.bin,", "source: net.bin, alone: false,")
    text += "stacks: [{id: both, plugins: [{id: lora}, {id: net}]}]\n"
    chosen = with_default_metrics(parse_manifest(text, manifest_file))
    assert {"edge-f1-1px", "pocket-style-projection"} <= set(chosen.metrics)


def test_quality_without_style_is_a_default_where_native_plugins_are_rendered(
    manifest_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALL.replace("methods:", "methods:\n  - name: oracle")
    native = parse_manifest(text, manifest_file)
    found = with_default_metrics(native).metrics
    assert {"pocket-rest", "pocket-place", "pocket-kid-floor"} <= set(found)
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "none"))
    real = with_default_metrics(native.model_copy(update={"family": "sd15-sdxl"})).metrics
    assert {"kid-rest", "kid-place", "kid-floor"} <= set(real)
    plain = with_default_metrics(parse_manifest(SMALL, manifest_file)).metrics
    assert not {"pocket-rest", "pocket-place"} & set(plain)


def test_a_metric_whose_references_are_not_rendered_judges_nothing(manifest_file: Path) -> None:
    bare = SMALL.replace("  - name: floor\n", "")
    roles = judged(with_default_metrics(parse_manifest(bare, manifest_file)))["lora"]
    assert (roles["function"], roles["quality"]) == ("pocket-style-rate", "pocket-kid")
    listed = parse_manifest(bare + "metrics: [pocket-kid-floor]\n", manifest_file)
    (quality,) = [j for j in judges(listed)["lora"] if j.role == "quality"]
    assert not quality.measures
    assert quality.reason == ("pocket-kid-floor compares with images of other methods: add floor")


def test_an_empty_list_of_metrics_scores_nothing_and_says_so(manifest_file: Path) -> None:
    manifest = parse_manifest(SMALL + "metrics: []\n", manifest_file)
    assert with_default_metrics(manifest).metrics == ()
    assert [*judge_remarks(manifest)] == [
        "nothing will be scored: none of the manifest's metrics measures its function: add "
        "pocket-style-projection"
    ]


def test_plugins_without_a_judge_are_named(manifest_file: Path) -> None:
    manifest = parse_manifest(SMALL + "metrics: [edge-f1]\n", manifest_file)
    assert [*judge_remarks(manifest)] == [
        "nothing judges lora: none of the manifest's metrics measures its function: add "
        "pocket-style-projection"
    ]
    bare = parse_manifest(SMALL.replace("  - name: floor\n", ""), manifest_file)
    assert [*judge_remarks(with_default_metrics(bare))] == [
        "no verdicts without the methods base and floor: add floor"
    ]


def test_a_run_records_its_default_metrics_and_keeps_its_fingerprint(
    manifest_file: Path, tmp_path: Path
) -> None:
    manifest = parse_manifest(SMALL, manifest_file)
    explicit = parse_manifest(SMALL + "metrics: []\n", manifest_file)
    assert manifest.fingerprint() == explicit.fingerprint()
    assert "pocket-kid" in locked_manifest(plan_of(manifest), tmp_path)["metrics"]
    assert job_of(manifest).written.metrics == ()
    assert plan_key(resolve_job(manifest, Selection())) != plan_key(
        resolve_job(explicit, Selection())
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_plan_names_what_judges_each_plugin(manifest_file: Path, as_json: bool) -> None:
    manifest_file.write_text(
        SMALL.replace("lora.bin", '"pocket:lora-outline"').replace(
            "net.bin", '"pocket:controlnet-canny"'
        )
    )
    options = ["--json"] if as_json else []
    done = CliRunner().invoke(main, ["plan", "--manifest", str(manifest_file), *options])
    assert done.exit_code == 0, done.output
    if as_json:
        found = json.loads(done.output)
        assert found["judged_by"]["net"]["function"] == {"metric": "edge-f1-1px", "reason": None}
        assert found["not_measured"] == []
    else:
        roles = "function pocket-style-projection, quality pocket-kid-floor, text pocket-clip"
        assert f"judged by  {roles}: lora" in done.output
