"""Claims about the results that come with xbench: `scripts/publish-pocket-results` makes them."""

import json

from bench.publish.format import is_content, is_object
from bench.publish.object_cache import TableCache
from bench.store.schema import PUBLISHED
from leaderboard.data.catalog import Run
from leaderboard.data.published import PublishedStore, with_tables
from leaderboard.data.sources import SHIPPED
from leaderboard.data.tables import RunTables
from plugins_manifest.schema.load import load_manifest
from runners.families.registry import family_fingerprint

MAX_BYTES = 20_000_000


def shipped(tmp_path) -> Run:
    from bench.publish.locations import FolderLocation

    cache = TableCache(tmp_path, source=SHIPPED)
    return with_tables(PublishedStore(FolderLocation(SHIPPED), cache).runs()["pocket"])


def test_they_belong_to_the_shipped_weights_and_the_manifest_pocket_results(tmp_path) -> None:
    facts = shipped(tmp_path).facts
    assert facts["weights"] == family_fingerprint("pocket")
    assert facts["manifest_fingerprint"] == load_manifest("pocket-results").fingerprint()
    assert facts["command"].startswith("xbench run --manifest pocket-results")
    assert facts["status"] == "complete" and not facts["git"]["changed"]


def test_every_plugin_is_the_shipped_one(tmp_path) -> None:
    from pocket.weights import HASHES

    known = json.loads(HASHES.read_text())
    plugins = shipped(tmp_path).manifest["plugins"]
    assert plugins != [] and {p["sha256"] for p in plugins} <= set(known.values())


def test_the_store_is_whole_and_small(tmp_path) -> None:
    run = shipped(tmp_path)
    tables = RunTables(run)
    assert tables.problems == [] and set(run.tables) == set(PUBLISHED)
    paths = [path for path in SHIPPED.rglob("*") if path.is_file()]
    objects = {
        path.relative_to(SHIPPED).as_posix(): path for path in paths if path.parent.name != "index"
    }
    assert all(is_content(name, path.read_bytes()) for name, path in objects.items())
    pictures = tables.query(
        "SELECT thumbnail AS name FROM results UNION SELECT condition_path FROM trials"
    )
    named = {name for name in pictures["name"] if isinstance(name, str)}
    assert named <= set(objects) and all(is_object(name, "webp") for name in named)
    assert len(tables.query("SELECT 1 FROM results WHERE thumbnail IS NULL")) == 0
    index = json.loads((SHIPPED / "index" / "pocket.json").read_text())
    tables_of = (*index["tables"].values(), *(index["comparison"] or {}).values())
    used = named | {index["manifest"]} | {name for parts in tables_of for name in parts}
    for text in tables.query("SELECT DISTINCT conditions FROM trials")["conditions"]:
        used |= set(json.loads(text).values())
    assert set(objects) == used  # no objects of an older run remain
    assert sum(path.stat().st_size for path in paths) < MAX_BYTES
