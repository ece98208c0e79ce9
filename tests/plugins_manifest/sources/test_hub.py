"""The Hub against a small server of its own protocol: commits, folders, hashes, every error."""

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants, errors

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http.hub_errors import translate_hub_error
from plugins_manifest.sources.hub import Hub, HubPin, HubReference
from plugins_manifest.store import Store
from tests.plugins_manifest.servers import safetensors_bytes
from tests.runners.hub_server import HubServer, Repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a repository: a network at the root, one in a folder, and a single file."""
    files = {
        "config.json": b"{}",
        WEIGHTS: safetensors_bytes(n_floats=50),
        "diffusion_pytorch_model.bin": b"pickle",
        "sub/config.json": json.dumps({"a": 1}).encode(),
        "sub/diffusion_pytorch_model.fp16.safetensors": safetensors_bytes(n_floats=60),
        "models/only.safetensors": safetensors_bytes(n_floats=70),
        "two/a.safetensors": safetensors_bytes(n_floats=80),
        "two/b.safetensors": safetensors_bytes(n_floats=90),
        "peft/adapter_config.json": b"{}",
        "peft/adapter_model.safetensors": safetensors_bytes(n_floats=95),
        "page/login.safetensors": b"<html>log in</html>",
        "old.bin": b"pickle",
        "pickles/config.json": b"{}",
        "pickles/diffusion_pytorch_model.bin": b"pickle",
    }
    for name, content in files.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "repository"


@pytest.fixture
def server(folder: Path):
    names = {
        "owner/net": Repository.of_folder(folder, COMMIT),
        "owner/gated": Repository.of_folder(folder, COMMIT, gated=True),
    }
    with HubServer(names) as server:
        yield server


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(endpoint=server.url, cache=tmp_path / "cache")


def find(hub: Hub, path: str, *, revision: str | None = COMMIT, name: str = "owner/net") -> HubPin:
    return hub.find(HubReference(name, revision, path), what="plugin 'p'")


def refused(hub: Hub, path: str, **place: str) -> UserError:
    with pytest.raises(UserError) as caught:
        find(hub, path, **place)
    return caught.value


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("revision", ["main", None, COMMIT])
def test_branch_becomes_a_commit(hub: Hub, revision: str | None) -> None:
    assert find(hub, "models/only.safetensors", revision=revision).revision == COMMIT


def test_file_is_fetched_hashed_and_stored(hub: Hub, folder: Path, store: Store) -> None:
    pin = find(hub, "models/only.safetensors")
    (file,) = pin.files
    content = (folder / "models/only.safetensors").read_bytes()
    path, found = hub.fetch(pin, file, store, what="p")
    assert found == file.sha256 == sha256(content)
    assert path == store.find(found) and path.read_bytes() == content


def test_folder_means_config_and_best_weights(hub: Hub) -> None:
    assert [f.path for f in find(hub, "").files] == ["config.json", WEIGHTS]
    config, weights = find(hub, "sub/").files
    assert config.sha256 is None and config.git_sha1 is not None
    assert (weights.name, weights.path) == (
        WEIGHTS,
        "sub/diffusion_pytorch_model.fp16.safetensors",
    )


def test_folder_without_config_means_its_only_file(hub: Hub) -> None:
    (file,) = find(hub, "models/").files
    assert file.path == "models/only.safetensors"


@pytest.mark.parametrize("path", ["peft/", "peft/adapter_model.safetensors"])
def test_an_adapter_of_peft_comes_with_its_settings(hub: Hub, path: str) -> None:
    assert [f.name for f in find(hub, path).files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_stored_file_is_not_requested_again(hub: Hub, server: HubServer, store: Store) -> None:
    pin = find(hub, "models/only.safetensors")
    hub.fetch(pin, pin.files[0], store, what="p")
    n_requests = len(server.requests)
    hub.fetch(pin, pin.files[0], store, what="p")
    assert len(server.requests) == n_requests


def test_wrong_file_in_the_cache_is_detected(hub: Hub, store: Store, tmp_path: Path) -> None:
    pin = find(hub, "")
    for file in pin.files:
        hub.fetch(pin, file, store, what="p")
    for path in (tmp_path / "cache").rglob("blobs/*"):
        path.write_bytes(b"{ }")
    for file in pin.files:
        with pytest.raises(FetchError, match="delete that file") as caught:
            hub.fetch(pin, file, Store(tmp_path / "other"), what="p")
        assert caught.value.code == "wrong-hash"
    assert not list((tmp_path / "other").rglob("file.*"))


def test_web_page_as_file_is_never_stored(hub: Hub, store: Store) -> None:
    pin = find(hub, "page/login.safetensors")
    with pytest.raises(FetchError, match="web page"):
        hub.fetch(pin, pin.files[0], store, what="p")
    assert not list(store.folder.rglob("*.safetensors"))


def test_damaged_link_in_the_cache_does_not_reach_the_store(
    hub: Hub, store: Store, tmp_path: Path
) -> None:
    pin = find(hub, "models/only.safetensors")
    path, found = hub.fetch(pin, pin.files[0], store, what="p")
    for blob in (tmp_path / "cache").rglob("blobs/*"):
        blob.unlink()
    assert sha256(path.read_bytes()) == found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/onyl.safetensors", "has no file 'models/onyl.safetensors': use models/only"),
        ("old.bin", "is not a safetensors file"),
        ("two/", "contains 'a.safetensors', 'b.safetensors': name one"),
        ("nowhere/", "contains no files"),
        ("pickles/", "has its weights only as pickles ('diffusion_pytorch_model.bin')"),
    ],
)
def test_addresses_that_name_no_file_are_reported(hub: Hub, path: str, text: str) -> None:
    assert text in str(refused(hub, path))


@pytest.mark.parametrize(
    ("place", "code", "text"),
    [
        ({"name": "owner/none"}, "missing", "no such repository, or it is private"),
        ({"name": "owner/gated"}, "gated", "skipped:gated: accept its terms"),
        ({"revision": "f" * 40}, "missing", "no such revision"),
        ({"name": "owner/" + "x" * 200}, "bad-request", "not a valid name on the Hub"),
    ],
)
def test_refusals_of_the_hub_have_their_own_codes(
    hub: Hub, place: dict[str, str], code: str, text: str
) -> None:
    error = refused(hub, "", **place)
    assert isinstance(error, FetchError) and error.code == code and text in str(error)


def test_dead_mirror_is_reported(tmp_path: Path) -> None:
    error = refused(Hub(endpoint="http://127.0.0.1:9", cache=tmp_path), "")
    assert isinstance(error, FetchError) and error.code == "unreachable"
    assert "HF_ENDPOINT" in str(error)


def test_offline_uses_the_cache_and_names_what_is_missing(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = find(hub, "models/only.safetensors")
    hub.fetch(pin, pin.files[0], Store(tmp_path / "first"), what="p")
    other = find(hub, "two/a.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(pin, pin.files[0], store, what="p")[0].is_file()
    with pytest.raises(FetchError) as caught:
        hub.fetch(other, other.files[0], store, what="p")
    assert caught.value.code == "offline" and "HF_HUB_OFFLINE" in str(caught.value)
    error = refused(hub, "")
    assert isinstance(error, FetchError) and error.code == "offline"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.OfflineModeIsEnabled("x"), "offline"),
        (errors.LocalEntryNotFoundError("x"), "offline"),
        (errors.IncompleteSnapshotError("x", Path("/x")), "offline"),
        (errors.EntryNotFoundError("x"), "missing"),
        (errors.XetDownloadError("x"), "unreachable"),
        (errors.FileMetadataError("x"), "refused"),
        (OSError(28, "No space left on device"), "disk"),
        (ConnectionError("https://x.test/a?Signature=abc"), "unreachable"),
    ],
)
def test_every_error_of_the_library_has_its_message(error: Exception, code: str) -> None:
    failure = translate_hub_error(error, "plugin 'p': owner/net")
    assert failure.code == code
    assert str(failure).startswith("plugin 'p': owner/net") and "abc" not in str(failure)
