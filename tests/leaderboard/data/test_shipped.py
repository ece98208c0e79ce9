"""Claims about the results that come with xbench: `scripts/publish-pocket-results` makes them."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bench.plan.job import with_family_settings
from bench.publish.format import is_content, is_object
from bench.publish.locations import FolderLocation
from bench.publish.object_cache import TableCache
from bench.store.schema import PUBLISHED
from leaderboard.data.catalog import Run
from leaderboard.data.published import PublishedStore, with_tables
from leaderboard.data.sources import SHIPPED
from leaderboard.data.tables import RunTables
from plugins_manifest.schema.load import load_manifest
from runners.families.registry import family_fingerprint
from tests.leaderboard.drawn_results import write_results
from tests.scripts import load_script

SCRIPT = load_script("publish-pocket-results")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return the shipped runs by key, in the order of the pages."""
    cache = TableCache(tmp_path_factory.mktemp("cache"), source=SHIPPED)
    found = PublishedStore(FolderLocation(SHIPPED), cache).runs()
    return {key: with_tables(run) for key, run in found.items()}


def test_they_are_runs_of_the_scripts_manifests_and_pages_begin_with_pocket(runs) -> None:
    assert {run.facts["manifest"]: key for key, run in runs.items()} == SCRIPT.KEYS
    assert next(iter(runs)) == "pocket"


def test_they_belong_to_the_shipped_weights_and_manifests(runs) -> None:
    for run in runs.values():
        facts, manifest = run.facts, load_manifest(run.facts["manifest"])
        assert facts["weights"] == family_fingerprint(manifest.family)
        planned = with_family_settings(manifest)
        assert facts["manifest_fingerprint"] == planned.fingerprint()
        assert facts["command"].startswith(f"xbench run --manifest {manifest.name}")
        assert facts["status"] == "complete" and not facts["git"]["changed"]


def test_every_plugin_is_the_shipped_one(runs) -> None:
    from pocket.weights import HASHES

    known = json.loads(HASHES.read_text())
    for run in runs.values():
        plugins = run.manifest["plugins"]
        assert plugins != [] and {p["sha256"] for p in plugins} <= set(known.values())


def test_the_store_is_whole_and_small(runs) -> None:
    paths = [path for path in SHIPPED.rglob("*") if path.is_file()]
    objects = {
        path.relative_to(SHIPPED).as_posix(): path for path in paths if path.parent.name != "index"
    }
    assert all(is_content(name, path.read_bytes()) for name, path in objects.items())
    used = {name for run in runs.values() for name in objects_of(run, set(objects))}
    assert set(objects) == used  # no objects of an older run remain
    assert sum(path.stat().st_size for path in paths) < SCRIPT.MAX_BYTES


def objects_of(run: Run, stored: set[str]) -> Iterator[str]:
    """Yield the objects that a run names; fail unless all of its pictures are there."""
    tables = RunTables(run)
    assert tables.problems == [] and set(run.tables) == set(PUBLISHED)
    pictures = tables.query(
        "SELECT thumbnail AS name FROM results UNION SELECT condition_path FROM trials"
    )
    named = {name for name in pictures["name"] if isinstance(name, str)}
    assert named <= stored and all(is_object(name, "webp") for name in named)
    assert len(tables.query("SELECT 1 FROM results WHERE thumbnail IS NULL")) == 0
    yield from named
    index = json.loads((SHIPPED / "index" / f"{run.key}.json").read_text())
    yield index["manifest"]
    for parts in (*index["tables"].values(), *(index["comparison"] or {}).values()):
        yield from parts
    for text in tables.query("SELECT DISTINCT conditions FROM trials")["conditions"]:
        yield from json.loads(text).values()


def test_the_script_tells_finished_runs_by_their_manifest_and_refuses_others(
    tmp_path: Path,
) -> None:
    folder = write_results(tmp_path / "drawn", n_cases=1, images=False).folder
    with pytest.raises(
        click.UsageError, match=r"drawn is a run of drawn: give runs of pocket-near"
    ):
        SCRIPT._by_manifest([folder])
    with pytest.raises(click.UsageError, match="no run"):
        SCRIPT._by_manifest([tmp_path])
