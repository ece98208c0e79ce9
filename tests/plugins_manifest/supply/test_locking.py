"""Locking and fetching manifests: what the lock contains, keeps and reports."""

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.formats import sd15_table
from plugins_manifest.lock.file_facts import fingerprint, weights_of
from plugins_manifest.lock.lock import Lock, LockedPlugin, lock_path, read_lock, write_lock
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest, PluginSpec
from plugins_manifest.sources.hub import Hub
from plugins_manifest.store import Store
from plugins_manifest.supply.locking import Outcome, lock_manifest
from plugins_manifest.supply.resolve import PluginFetcher
from plugins_manifest.supply.verify import verify_manifest
from tests.plugins_manifest.servers import (
    SIGNATURE,
    TOKEN,
    World,
    lora_bytes,
    safetensors_bytes,
    with_header,
)
from tests.runners.hub_server import HubServer, Repository

CONTENT = lora_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
AIR = "urn:air:sd1:lora:civitai:1@10"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def manifest_of(folder: Path, *plugins: dict[str, Any]) -> Manifest:
    data = {
        "schema": 1,
        "name": "m",
        "family": "pocket",
        "plugins": list(plugins),
        "cases": {"source": "pocket", "seed": 1, "n": 1},
        "methods": [{"name": "base"}],
    }
    return parse_manifest(yaml.safe_dump(data), folder / "m.yaml")


def plugin(source: str = AIR, **changed: Any) -> dict[str, Any]:
    return {"id": "p", "kind": "lora", "source": source, **changed}


def locate(spec: PluginSpec) -> tuple[Path, str]:
    path = Path(spec.source)
    if not path.exists():
        raise UserError(f"there is no file {path}")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


Locker = Callable[..., Outcome]


@pytest.fixture
def run(world: World, store: Store) -> Locker:
    world.add(1, 10, CONTENT)

    def lock(manifest: Manifest, old: Lock | None = None, **choices: Any) -> Outcome:
        supply: PluginFetcher = choices.pop("supply", None) or world.supply(store)
        with closing(supply):
            return lock_manifest(supply, manifest, old=old, locate=locate, **choices)

    return lock


def only(outcome: Outcome) -> LockedPlugin:
    assert outcome.problems == ()
    (entry,) = outcome.lock.plugins
    return entry


def test_lock_contains_the_facts_of_the_site_and_of_the_bytes(run: Locker, tmp_path: Path) -> None:
    entry = only(run(manifest_of(tmp_path, plugin())))
    assert (entry.sha256, entry.size_bytes) == (SHA256, len(CONTENT))
    origin = entry.origin
    assert (origin.model_id, origin.version_id, origin.file_id) == (1, 10, 500010)
    assert origin.air == f"{AIR}+500010"
    assert entry.trigger_words == ("full body", "chibi")
    assert entry.license.allow_commercial_use == ("Image", "RentCivit")
    assert entry.nsfw is False
    (file,) = entry.files
    header_bytes = 8 + int.from_bytes(CONTENT[:8], "little")
    assert file.payload_sha256 == hashlib.sha256(CONTENT[header_bytes:]).hexdigest()
    weights = entry.weights
    assert weights is not None
    assert (weights.format, weights.kind, weights.base_model) == ("kohya", "lora", "sd1")
    assert (weights.rank, weights.alpha) == ((4,), (2.0,))
    assert weights.target_modules == {"unet": {"attn2.to_k": 1}}
    assert entry.declared_base_model == "SD 1.5"


def test_lock_file_reads_back_equal_and_contains_no_secret(run: Locker, tmp_path: Path) -> None:
    path = tmp_path / "m.lock.yaml"
    outcome = run(manifest_of(tmp_path, plugin()), save=lambda lock: write_lock(path, lock))
    assert read_lock(path) == outcome.lock
    text = path.read_text()
    assert TOKEN not in text and SIGNATURE not in text and "X-Amz" not in text
    write_lock(path, outcome.lock)
    assert path.read_text() == text


def test_pinned_plugins_need_no_request(world: World, run: Locker, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, plugin())
    first = run(manifest)
    n_requests = len(world.site.requests)
    again = run(manifest, first.lock)
    assert [done.state for done in again.done] == ["kept"]
    assert again.lock == first.lock
    assert len(world.site.requests) == n_requests


def test_without_download_the_lock_contains_the_facts_of_the_site(
    world: World, run: Locker, store: Store, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, plugin())
    noted = run(manifest, download="none")
    entry = only(noted)
    assert entry.sha256 is None and entry.files[0].sha256 == SHA256 and not entry.is_complete
    assert world.storage.requests == [] and not store.folder.exists()
    complete = run(manifest, noted.lock, download="missing")
    assert complete.lock == run(manifest).lock


def test_fetch_fills_the_store_from_the_lock_alone(
    world: World, run: Locker, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, plugin())
    lock = run(manifest).lock
    world.versions.clear()
    world.models.clear()
    other = Store(tmp_path / "other")
    outcome = run(manifest, lock, supply=world.supply(other), download="missing")
    assert [done.state for done in outcome.done] == ["fetched"]
    assert outcome.lock == lock and other.find(SHA256) is not None


def test_rewritten_header_differs_from_new_weights(
    world: World, run: Locker, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, plugin())
    lock = run(manifest).lock
    world.files["10.bin"] = rewritten(CONTENT)
    fetch_elsewhere = {"supply": world.supply(Store(tmp_path / "a")), "download": "missing"}
    assert "lock --update pins the new file" in problem(run(manifest, lock, **fetch_elsewhere))
    same_size = rewritten(CONTENT, metadata={})  # a header may change within its length
    assert len(same_size) == len(CONTENT) and same_size != CONTENT
    world.files["10.bin"] = same_size
    fetch_elsewhere = {"supply": world.supply(Store(tmp_path / "c")), "download": "missing"}
    assert "metadata changed, weights identical" in problem(run(manifest, lock, **fetch_elsewhere))
    world.files["10.bin"] = lora_bytes(seed=1)
    fetch_elsewhere = {"supply": world.supply(Store(tmp_path / "b")), "download": "missing"}
    assert "weights changed" in problem(run(manifest, lock, **fetch_elsewhere))
    assert not list((tmp_path / "b").rglob("*.safetensors"))


def rewritten(content: bytes, *, metadata: dict[str, str] | None = None) -> bytes:
    """Return the same tensors under another header: with metadata, or reordered."""
    n_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n_bytes])
    metadata = {"sshs_model_hash": "x"} if metadata is None else metadata
    added = {"__metadata__": metadata} if metadata else {}
    text = json.dumps({**added, **dict(reversed(header.items()))}).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + n_bytes :]


def problem(outcome: Outcome) -> str:
    (text,) = outcome.problems
    return text


def test_update_pins_anew_and_reports_the_change(world: World, run: Locker, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, plugin())
    lock = run(manifest).lock
    for content, state in (
        (rewritten(CONTENT), "metadata-changed"),
        (lora_bytes(seed=1), "weights-changed"),
    ):
        world.add(1, 10, content)
        outcome = run(manifest, lock, update=True)
        assert [done.state for done in outcome.done] == [state]
        assert only(outcome).sha256 == hashlib.sha256(content).hexdigest()


def test_site_that_announces_another_hash_than_it_sends_is_refused(
    world: World, run: Locker, store: Store, tmp_path: Path
) -> None:
    world.files["10.bin"] = lora_bytes(seed=2)
    outcome = run(manifest_of(tmp_path, plugin()))
    assert "not the one that was announced" in problem(outcome)
    assert outcome.lock.plugins == () and not list(store.folder.rglob("*.safetensors"))


def test_hash_of_the_manifest_counts(run: Locker, tmp_path: Path) -> None:
    outcome = run(manifest_of(tmp_path, plugin(sha256="a" * 64)))
    assert f"has sha256 {SHA256}, the manifest has aaaa" in problem(outcome)
    lock = run(manifest_of(tmp_path, plugin())).lock
    outcome = run(manifest_of(tmp_path, plugin(sha256="a" * 64)), lock)
    assert "the lock has sha256" in problem(outcome)


def test_gated_plugins_are_skipped_and_the_others_locked(
    world: World, run: Locker, tmp_path: Path
) -> None:
    world.add(2, 20, lora_bytes(seed=5), usageControl="InternalGeneration")
    gated = plugin("urn:air:sd1:lora:civitai:2@20", id="gated")
    outcome = run(manifest_of(tmp_path, gated, plugin()))
    assert [(d.id, d.state) for d in outcome.done] == [("gated", "skipped:gated"), ("p", "locked")]
    assert [entry.id for entry in outcome.lock.plugins] == ["p"]


def test_all_problems_come_together(run: Locker, tmp_path: Path) -> None:
    outcome = run(
        manifest_of(
            tmp_path,
            plugin("urn:air:sd1:lora:civitai:9@90", id="missing"),
            plugin("https://evil.test/x", id="foreign"),
            plugin(str(tmp_path / "nothing"), id="local"),
            plugin(),
        )
    )
    message = ["missing", "foreign", "there is no file"]
    assert len(outcome.problems) == 3
    assert all(word in text for word, text in zip(message, outcome.problems, strict=True))
    assert [entry.id for entry in outcome.lock.plugins] == ["p"]


def test_where_nothing_could_be_pinned_no_lock_is_written(run: Locker, tmp_path: Path) -> None:
    saved: list[Lock] = []
    missing = plugin("urn:air:sd1:lora:civitai:9@90")
    outcome = run(manifest_of(tmp_path, missing), save=saved.append)
    assert outcome.problems and saved == []


def test_every_plugin_is_saved_as_soon_as_it_is_locked(
    world: World, run: Locker, tmp_path: Path
) -> None:
    world.add(2, 20, lora_bytes(seed=5))
    saved: list[int] = []
    run(
        manifest_of(tmp_path, plugin(), plugin("urn:air:sd1:lora:civitai:2@20", id="q")),
        save=lambda lock: saved.append(len(lock.plugins)),
    )
    assert saved == [1, 2, 2]


def test_removed_plugins_leave_the_lock(run: Locker, tmp_path: Path) -> None:
    lock = run(manifest_of(tmp_path, plugin())).lock
    path = tmp_path / "mine.safetensors"
    path.write_bytes(CONTENT)
    manifest = manifest_of(tmp_path, plugin(str(path), id="q"))
    assert [entry.id for entry in run(manifest, lock).lock.plugins] == ["q"]


def test_gone_file_comes_from_another_version_with_the_same_bytes(
    world: World, run: Locker, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, plugin())
    lock = run(manifest).lock
    del world.versions[10]
    world.add(2, 20, CONTENT)
    world.site.script.append(lambda h, r: h.send_json(410, {"message": "Model archived"}))
    other = Store(tmp_path / "other")
    outcome = run(manifest, lock, supply=world.supply(other), download="missing")
    assert outcome.problems == () and other.find(SHA256) is not None


def test_gone_file_without_a_mirror_is_reported(world: World, run: Locker, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, plugin())
    lock = run(manifest).lock
    world.versions.clear()
    world.site.script.append(lambda h, r: h.send_json(410, {"message": "Model archived"}))
    supply = world.supply(Store(tmp_path / "other"))
    assert "gone" in problem(run(manifest, lock, supply=supply, download="missing"))


def test_web_file_is_locked_by_its_own_hash(world: World, run: Locker, tmp_path: Path) -> None:
    source = f"{world.storage_url}/10.bin"
    entry = only(run(manifest_of(tmp_path, plugin(source))))
    assert (entry.sha256, entry.origin.site) == (SHA256, "https")
    assert entry.files[0].url == source
    assert "authorization" not in world.storage.requests[-1].headers


def test_hub_folder_is_stored_as_a_tree(
    world: World, run: Locker, store: Store, tmp_path: Path
) -> None:
    from plugins_manifest.content import hash_path

    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(safetensors_bytes())
    repository = Repository.of_folder(folder, COMMIT)
    with HubServer({"owner/net": repository}) as server:
        hub = Hub(endpoint=server.url, cache=tmp_path / "cache")
        supply = world.supply(store, hub=hub)
        spec = plugin("hf://owner/net@main", kind="controlnet", condition="canny")
        manifest = manifest_of(tmp_path, spec)
        entry = only(run(manifest, supply=supply))
        other = Store(tmp_path / "other")
        lock = Lock(manifest="m", plugins=(entry,))
        run(manifest, lock, supply=world.supply(other, hub=hub), download="missing")
    assert entry.origin.revision == COMMIT
    for one in (store, other):
        path = one.find(str(entry.sha256))
        assert path is not None and hash_path(path) == entry.sha256
        assert sorted(p.name for p in path.iterdir()) == sorted(repository.files)
    assert [v.state for v in verify_manifest(manifest, lock, other, locate)] == ["ok"]


def test_verify_separates_metadata_from_weights(run: Locker, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(CONTENT)
    manifest = manifest_of(tmp_path, plugin(str(path)))
    lock = run(manifest).lock

    def state() -> tuple[str, str]:
        (verdict,) = verify_manifest(manifest, lock, Store(tmp_path / "none"), locate)
        return verdict.state, verdict.words

    assert state() == ("ok", "ok")
    path.write_bytes(rewritten(CONTENT))
    assert state() == ("metadata-changed", "metadata changed, weights identical")
    path.write_bytes(lora_bytes(seed=1))
    assert state() == ("weights-changed", "weights changed")
    path.write_bytes(b"something else")
    assert state()[0] == "weights-changed"
    path.unlink()
    assert state()[0] == "missing"


def test_swapped_names_over_the_same_payload_are_changed_weights(tmp_path: Path) -> None:
    """The payload's hash alone cannot tell; the tensors' hash does."""
    a, b = ("F16", [2], b"\0\1\2\3"), ("F16", [2], b"\4\5\6\7")
    found = []
    for i, tensors in enumerate(({"x": a, "y": b}, {"y": a, "x": b}, {"y": b, "x": a})):
        path = tmp_path / f"{i}.safetensors"
        path.write_bytes(with_header(tensors))
        found.append(fingerprint(path))
    original, swapped, reordered = found
    assert original.payload_sha256 == swapped.payload_sha256
    assert original.tensors_sha256 != swapped.tensors_sha256
    assert original.payload_sha256 != reordered.payload_sha256
    assert original.tensors_sha256 == reordered.tensors_sha256


def test_verify_finds_a_damaged_store_and_fetch_is_named(
    run: Locker, store: Store, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, plugin())
    lock = run(manifest).lock
    assert [v.state for v in verify_manifest(manifest, None, store, locate)] == ["not-locked"]
    stored = store.find(SHA256)
    assert stored is not None
    stored.write_bytes(lora_bytes(seed=3))
    (verdict,) = verify_manifest(manifest, lock, store, locate)
    assert verdict.state == "weights-changed" and "store is damaged" in verdict.fix
    store.remove(SHA256)
    (verdict,) = verify_manifest(manifest, lock, store, locate)
    assert verdict.state == "missing" and "plugins fetch" in verdict.fix


def test_wrong_base_is_read_from_shapes_not_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(lora_bytes(width=1024))
    weights = weights_of(path, sd15_table())
    assert weights is not None and weights.base_model == "sd2" and weights.problems != ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("xbench_lock: 2\nmanifest: m\n", "xbench_lock"),
        ("xbench_lock: 1\nmanifest: m\nplugin: []\n", "plugin: Extra inputs"),
        ("- a\n", "valid dictionary"),
        ("a: [", "take the file from version control"),
        (
            "!!python/object/apply:os.system [id]",
            "the tag '!!python/object/apply:os.system' is not supported",
        ),
    ],
)
def test_damaged_lock_is_reported_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.lock.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"m\.lock\.yaml") as caught:
        read_lock(path)
    assert message in str(caught.value)


def test_lock_is_beside_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_lock(tmp_path / "none.lock.yaml") is None
    assert lock_path(tmp_path / "m.yaml", is_shipped=False) == tmp_path / "m.lock.yaml"
    monkeypatch.chdir(tmp_path)
    assert lock_path(Path("/x/paper.yaml"), is_shipped=True) == tmp_path / "paper.lock.yaml"


def test_missing_token_is_reported_and_a_rerun_completes(
    world: World, run: Locker, store: Store, tmp_path: Path
) -> None:
    manifest = manifest_of(tmp_path, plugin())
    assert "set CIVITAI_TOKEN" in problem(run(manifest, supply=world.supply(store, token=None)))
    assert only(run(manifest)).is_complete


def test_fetch_error_keeps_its_code() -> None:
    assert FetchError("x", code="gated").problems == ("x",)
