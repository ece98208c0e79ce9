"""A whole run with two adapters: its tables, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.site.read import read_run
from bench.store import RunStore, records
from tests.bench.plan.test_adapters import MANIFEST, copy_of_mapper, manifest_with

pytestmark = pytest.mark.system

SETTINGS = {"steps": 2, "base_size": [64, 64], "upgraded_size": [128, 128]}
METHODS = [{"name": "base"}, {"name": "floor"}, {"name": "xadapter", "t0": [0.5, 1.0]}]


def call(*words: object, code: int = 0) -> str:
    found = CliRunner().invoke(main, [*map(str, words)])
    assert found.exit_code == code, found.output
    return found.output


@pytest.mark.usefixtures("pocket_weights", "own_cache")
def test_a_run_with_two_adapters_has_a_line_for_each_and_the_images_of_each_alone(
    tmp_path: Path,
) -> None:
    whole, half = (copy_of_mapper(tmp_path / n, factor=f) for n, f in (("whole", 1), ("half", 0.5)))
    keys = {"methods": METHODS, "settings": SETTINGS, "metrics": ["pocket-style-projection"]}
    manifest = manifest_with(tmp_path, **(MANIFEST | keys)).path
    run = ["run", "--manifest", manifest]
    several = RunStore(tmp_path / "several")
    text = call(*run, "--adapter", whole, "--adapter", half, "--out", several.folder)
    assert "xadapter (half)" in text and "run --baseline" not in text
    for name in ("trials", "scores", "summary", "compatibility"):
        rows = records(several.read_table(name))
        known = {row["adapter"] for row in rows if row["method"] == "xadapter"}
        assert known == {"whole", "half"}
        assert {row["adapter"] for row in rows if row["method"] != "xadapter"} == {None}
    facts = several.run_facts()
    assert facts["adapters"].keys() == {"whole", "half"} and facts["adapter_sha256"] is None

    alone = RunStore(tmp_path / "alone")
    call(*run, "--adapter", half, "--out", alone.folder, "--no-cache")
    hashes = {row["trial_id"]: row["image_sha256"] for row in records(several.results())}
    own = {row["trial_id"]: row["image_sha256"] for row in records(alone.results())}
    assert own.items() <= hashes.items() and len(own) == 8

    refused = call("gate", alone.folder, several.folder, code=2)
    assert "compares 2 adapters: make a run of each" in refused
    trial = next(row for row in records(several.trials()) if row["adapter"] == "half")
    found = json.loads(call("explain", several.folder, trial["trial_id"], "--json"))
    assert str(half) in found["python"]
    plugin = read_run(several.folder, "several", nsfw=False).plugins[0]
    assert {(row["method"], row["adapter"]) for row in plugin.methods} == {
        ("xadapter", "whole"),
        ("xadapter", "half"),
    }
