"""Ids of unnamed cases: runs of earlier versions, which numbered them, keep their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.plan.cases import all_cases, keep_case_ids
from bench.run import RunRequest, open_job
from bench.store import RunStore
from plugins_manifest.cases import Case
from plugins_manifest.schema.load import parse_manifest
from tests.bench.conftest import SMALL

PROMPTS = ("a red circle", "a blue star", "a red circle")
OWN = "trigger: outline drawing, prompts: [a green star]"


def manifest_text(prompts: tuple[str, ...]) -> str:
    listed = ", ".join(f"{{prompt: {prompt}}}" for prompt in prompts)
    text = SMALL.replace("cases: {source: pocket, seed: 5, n: 3}", f"cases: [{listed}]")
    return text.replace("trigger: outline drawing", OWN)


def numbered(prompts: tuple[str, ...]) -> dict[str, Case]:
    cases = [Case(f"case-{i:04d}", prompt) for i, prompt in enumerate(prompts)]
    cases.append(Case("lora-0000", "a green star"))
    return {case.case_id: case for case in cases}


def test_a_resumed_run_keeps_its_numbers_wherever_the_prompts_are(manifest_file: Path) -> None:
    manifest = parse_manifest(manifest_text(("a new star", *PROMPTS)), manifest_file)
    fresh = all_cases(manifest, limit=None)
    kept = keep_case_ids(fresh, numbered(PROMPTS), manifest)
    ids = [case.case_id for case in kept["net"]]
    assert ids == [fresh["net"][0].case_id, "case-0000", "case-0001", "case-0002"]
    assert [case.case_id for case in kept["lora"]] == ["lora-0000"]
    assert [replace(c, case_id="") for c in kept["net"]] == [
        replace(c, case_id="") for c in fresh["net"]
    ]


def test_named_and_newer_ids_stay(manifest_file: Path) -> None:
    manifest = parse_manifest(manifest_text(PROMPTS), manifest_file)
    fresh = all_cases(manifest, limit=None)
    own = {case.case_id: case for case in fresh["net"]}
    assert keep_case_ids(fresh, {**numbered(PROMPTS), **own}, manifest)["net"] == fresh["net"]
    text = manifest_text(PROMPTS).replace("{prompt: a blue star}", "{prompt: a blue star, id: b}")
    named = all_cases(parse_manifest(text, manifest_file), limit=None)
    ids = [case.case_id for case in keep_case_ids(named, numbered(PROMPTS), manifest)["net"]]
    assert ids == ["case-0000", "b", "case-0002"]


def test_a_job_takes_the_ids_of_its_run_and_of_the_run_that_it_is_compared_with(
    manifest_file: Path, tmp_path: Path
) -> None:
    manifest_file.write_text(manifest_text(PROMPTS))
    RunStore(tmp_path / "old").write_cases(numbered(PROMPTS).values())
    fresh = open_job(RunRequest(str(manifest_file), out=tmp_path / "new"))
    assert fresh.cases_by_set["net"][0].case_id.startswith("case-")
    assert "case-0000" not in {case.case_id for case in fresh.cases_by_set["net"]}
    for request in (
        RunRequest(str(manifest_file), out=tmp_path / "old"),
        RunRequest(str(manifest_file), out=tmp_path / "new", ids_from=tmp_path / "old"),
    ):
        ids = [case.case_id for case in open_job(request).cases_by_set["net"]]
        assert ids == ["case-0000", "case-0001", "case-0002"]
