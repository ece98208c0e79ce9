"""Downloads from servers that misbehave: nothing wrong is stored, and a second call completes."""

import hashlib
import json
import logging
import resource
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plugins_manifest.errors import FetchError
from plugins_manifest.http.client import USER_AGENT
from plugins_manifest.http.download import Stored, Wanted, fetch
from plugins_manifest.http.hosts import AllowList, HostRule, Token
from plugins_manifest.store import Store
from tests.plugins_manifest.servers import (
    OWN_STORAGE,
    SIGNATURE,
    SITE,
    STORAGE,
    STORAGE_ADDRESS,
    TOKEN,
    Handler,
    Request,
    World,
    etag_of,
    safetensors_bytes,
    send_file,
)

CONTENT = safetensors_bytes(n_floats=150_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(world: World) -> World:
    world.add(1, 10, CONTENT)
    return world


def wanted(world: World, **changed: Any) -> Wanted:
    given: dict[str, Any] = {
        "what": "plugin 'p'",
        "url": f"{world.base_url}/api/download/models/10",
        "sha256": SHA256,
        "token": Token(TOKEN),
    }
    return Wanted(**{**given, **changed})


def fetched(world: World, store: Store, **changed: Any) -> Stored:
    with world.client() as client:
        return fetch(client, store, wanted(world, **changed))


def refused(world: World, store: Store, **changed: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetched(world, store, **changed)
    assert TOKEN not in str(caught.value) and SIGNATURE not in str(caught.value)
    return caught.value


def assert_nothing_stored(store: Store) -> None:
    assert store.find(SHA256) is None
    assert not list(store.folder.rglob("*.safetensors"))


def parts(store: Store) -> list[Path]:
    return list(store.folder.rglob("*.part"))


def assert_completes(world: World, store: Store) -> None:
    """Check that a rerun against the healthy servers stores exactly the file."""
    assert fetched(world, store).path.read_bytes() == CONTENT
    assert parts(store) == []


def test_file_lands_under_its_sha256(published: World, store: Store) -> None:
    stored = fetched(published, store)
    assert stored.path == store.folder / "sha256" / SHA256[:2] / SHA256 / "file.safetensors"
    assert stored.path.read_bytes() == CONTENT
    assert (stored.sha256, stored.size_bytes) == (SHA256, len(CONTENT))
    assert parts(store) == []


def test_file_of_unknown_sha256_is_stored_under_its_own(published: World, store: Store) -> None:
    assert fetched(published, store, sha256=None).sha256 == SHA256


def test_stored_file_is_not_requested_again(published: World, store: Store) -> None:
    fetched(published, store)
    n_requests = len(published.site.requests)
    fetched(published, store)
    assert len(published.site.requests) == n_requests


def test_token_goes_to_the_site_and_never_to_the_storage(published: World, store: Store) -> None:
    fetched(published, store)
    (requested,) = published.site.requests
    assert requested.headers["authorization"] == f"Bearer {TOKEN}"
    assert requested.headers["content-type"] == "application/json"
    assert requested.headers["user-agent"] == USER_AGENT and "xbench/" in USER_AGENT
    (stored,) = published.storage.requests
    assert "authorization" not in stored.headers
    assert TOKEN not in stored.path


def test_token_stays_behind_on_the_way_to_storage_below_the_site_s_own_domain(
    published: World, store: Store
) -> None:
    """b2.civitai.com is a host that may get tokens, and answers 400 to whoever brings one."""
    port, network = published.storage.port, f"{STORAGE_ADDRESS}/32"
    own = HostRule(f".{SITE}", port, gets_token=True, networks=(network,))

    def resolve(host: str, port: int) -> list[str]:
        return [STORAGE_ADDRESS] if host == OWN_STORAGE else published.resolve(host, port)

    def to_own_storage(handler: Handler, request: Request) -> None:
        address = published.signed("10.bin").replace(STORAGE, OWN_STORAGE)
        handler.send(307, headers={"Location": address})

    published.site.script.append(to_own_storage)
    allow = AllowList((*published.rules, own))
    with published.client(allow=allow, resolve=resolve) as client:
        assert fetch(client, store, wanted(published)).sha256 == SHA256
    (stored,) = published.storage.requests
    assert stored.headers["host"] == f"{OWN_STORAGE}:{port}"
    assert "authorization" not in stored.headers


def test_token_does_not_come_back_after_a_detour(published: World, store: Store) -> None:
    def to_site(handler: Handler, request: Request) -> None:
        handler.send(302, headers={"Location": f"{published.base_url}/api/download/models/10"})

    def to_storage(handler: Handler, request: Request) -> None:
        handler.send(302, headers={"Location": f"{published.storage_url}/x?a=b"})

    published.site.script.append(to_storage)
    published.storage.script.append(to_site)
    assert refused(published, store).code == "needs-token"
    assert ["authorization" in r.headers for r in published.site.requests][:2] == [True, False]


def test_secrets_reach_no_log_no_file_and_no_traceback(
    published: World, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    published.storage.script.append(truncated)
    published.storage.script.append(lambda handler, request: handler.send(418))
    with (
        caplog.at_level(logging.DEBUG, logger="httpx"),
        caplog.at_level(logging.DEBUG, logger="httpcore"),
        pytest.raises(FetchError) as caught,
    ):
        fetched(published, store)
    assert "receive_response_headers" in caplog.text
    displayed = "".join(traceback.format_exception(caught.value)) + caplog.text
    files = [path.read_bytes() for path in store.folder.rglob("*.json")]
    assert files and parts(store)
    for secret in (TOKEN, SIGNATURE):
        assert secret not in displayed
        assert secret.encode() not in b"".join(files)


def truncated(handler: Handler, request: Request) -> None:
    send_file(handler, request, CONTENT, stop_after=100_000)


def test_broken_connection_goes_on_where_it_stopped(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    fetched(published, store)
    first, second = published.storage.requests
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=100000-"
    assert second.headers["if-range"] == etag_of(CONTENT)


def test_resume_requests_a_fresh_signed_address(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    fetched(published, store)
    assert published.n_signed == 2
    first, second = (r.query["X-Amz-Signature"] for r in published.storage.requests)
    assert first != second


def test_later_process_goes_on_where_another_stopped(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    published.storage.script.append(lambda handler, request: handler.send(418))
    assert refused(published, store).code == "refused"
    assert parts(store)[0].stat().st_size == 100_000
    assert_nothing_stored(store)
    assert_completes(published, store)
    assert published.storage.requests[-1].headers["range"] == "bytes=100000-"


def test_expired_signed_address_is_replaced_by_a_fresh_one(published: World, store: Store) -> None:
    published.n_expired = 1
    assert fetched(published, store).sha256 == SHA256
    assert published.n_signed == 2


def test_signed_addresses_that_always_expire_are_given_up(published: World, store: Store) -> None:
    published.n_expired = 100
    assert refused(published, store).code == "expired"
    assert published.n_signed == 3
    published.n_expired = 0
    assert_completes(published, store)


def test_complete_file_instead_of_a_range_is_not_appended(published: World, store: Store) -> None:
    def ignore_range(handler: Handler, request: Request) -> None:
        handler.send(200, CONTENT, {"ETag": etag_of(CONTENT)})

    published.storage.script.extend([truncated, ignore_range])
    assert fetched(published, store).path.read_bytes() == CONTENT


def test_range_of_another_place_is_not_appended(published: World, store: Store) -> None:
    def other_place(handler: Handler, request: Request) -> None:
        total = len(CONTENT)
        handler.send(206, CONTENT[5:], {"Content-Range": f"bytes 5-{total - 1}/{total}"})

    published.storage.script.extend([truncated, other_place])
    assert fetched(published, store).path.read_bytes() == CONTENT


def test_file_that_changed_between_two_ranges_is_fetched_anew(
    published: World, store: Store
) -> None:
    old = safetensors_bytes(n_floats=150_000, seed=1)

    def first_half_of_old(handler: Handler, request: Request) -> None:
        send_file(handler, request, old, stop_after=100_000)

    published.storage.script.append(first_half_of_old)
    assert fetched(published, store, sha256=None).sha256 == SHA256
    assert fetched(published, store).path.read_bytes() == CONTENT


def test_wrong_first_half_is_detected_and_downloaded_again(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    published.storage.script.append(lambda handler, request: handler.send(418))
    refused(published, store)
    (part,) = parts(store)
    part.write_bytes(bytes(100_000))
    assert_completes(published, store)


def test_wrong_bytes_in_mid_stream_are_never_stored(published: World, store: Store) -> None:
    damaged = bytearray(CONTENT)
    damaged[150_000] ^= 1

    published.storage.script.append(lambda h, r: send_file(h, r, bytes(damaged)))
    error = refused(published, store)
    assert error.code == "wrong-hash" and SHA256 in str(error)
    assert_nothing_stored(store)
    assert parts(store) == []
    assert_completes(published, store)


def test_slow_download_arrives(published: World, store: Store) -> None:
    published.storage.script.append(
        lambda h, r: send_file(h, r, CONTENT, pause_seconds=0.05, piece_bytes=50_000)
    )
    assert fetched(published, store).sha256 == SHA256
    assert len(published.storage.requests) == 1


def test_stalled_download_is_cut_and_resumed(published: World, store: Store) -> None:
    published.storage.script.append(
        lambda h, r: send_file(h, r, CONTENT, pause_seconds=3.0, piece_bytes=200_000)
    )
    with published.client(timeout_seconds=0.3) as client:
        assert fetch(client, store, wanted(published)).sha256 == SHA256
    assert published.storage.requests[-1].headers["range"] == "bytes=200000-"


def test_complete_part_is_adopted_after_416(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    published.storage.script.append(lambda handler, request: handler.send(418))
    refused(published, store)
    parts(store)[0].write_bytes(CONTENT)
    assert_completes(published, store)
    assert published.storage.requests[-1].headers["range"] == f"bytes={len(CONTENT)}-"


def test_part_that_is_not_a_prefix_restarts_after_416(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    published.storage.script.append(lambda handler, request: handler.send(416))
    assert_completes(published, store)
    assert "range" not in published.storage.requests[-1].headers


def test_busy_servers_get_time(published: World, store: Store) -> None:
    published.site.script.extend(
        [
            lambda handler, request: handler.send(429),
            lambda handler, request: handler.send(503),
            lambda handler, request: handler.send(429, headers={"Retry-After": "7"}),
            lambda handler, request: handler.send(502),
        ]
    )
    assert_completes(published, store)
    assert published.pauses == [1.0, 2.0, 7.0, 8.0]


def test_servers_that_stay_busy_are_given_up(published: World, store: Store) -> None:
    published.site.reply = lambda handler, request: handler.send(429)
    assert refused(published, store).code == "busy"
    assert published.pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!DOCTYPE html><html>log in</html>", "web page"),
        (b'{"error":"Unauthorized","message":"x"}', "CIVITAI_TOKEN"),
        (b'{"error":"Too bad"}', "error message instead of the file ('Too bad')"),
        (b"PK\x03\x04" + b"archive/data.pkl" + bytes(600), "pickled torch file"),
        (b"PK\x03\x04" + b"readme.txt" + bytes(600), "zip archive"),
        (b"\x80\x02ctorch" + bytes(600), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS pointer"),
        (bytes(262) + b"nothing known" + bytes(600), "not in the safetensors format"),
        (b"", "no bytes"),
        (CONTENT[:1000], "fetch it again"),
    ],
)
def test_other_content_than_weights_is_never_stored(
    published: World, store: Store, body: bytes, message: str
) -> None:
    published.storage.script.append(lambda handler, request: handler.send(200, body))
    error = refused(published, store, sha256=None)
    assert error.code in ("not-a-plugin", "needs-token") and message in str(error)
    assert_nothing_stored(store)
    assert parts(store) == []
    assert_completes(published, store)


def test_file_of_another_size_than_locked_is_not_even_downloaded(
    published: World, store: Store
) -> None:
    error = refused(published, store, size_bytes=len(CONTENT) - 1)
    assert error.code == "changed" and "lock --update" in str(error)
    assert_nothing_stored(store)


def test_endless_file_is_cut_off(published: World, store: Store) -> None:
    def endless(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while True:
            handler.wfile.write(CONTENT)

    published.storage.script.append(endless)
    error = refused(published, store, sha256=None, declared_bytes=len(CONTENT))
    assert error.code == "too-large"
    assert_nothing_stored(store)
    assert parts(store) == []


def test_missing_version_is_requested_once_by_file_id(published: World, store: Store) -> None:
    del published.links[10, None]
    url = wanted(published).url
    assert refused(published, store).code == "missing"
    assert fetched(published, store, fallback_url=f"{url}?fileId=500010").sha256 == SHA256


def test_too_little_free_space_is_reported_before_the_download(
    published: World, store: Store, tmp_path: Path
) -> None:
    small = Store(tmp_path / "store", free=lambda folder: 1_000_000)
    error = refused(published, small)
    assert error.code == "disk" and "XBENCH_STORE" in str(error)
    assert parts(small) == []
    assert_completes(published, store)


@contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: the system's own refusal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_reported_and_a_rerun_resumes(published: World, store: Store) -> None:
    with full_disk(128 << 10):
        error = refused(published, store)
    assert error.code == "disk" and "free some space" in str(error)
    assert_nothing_stored(store)
    assert_completes(published, store)
    assert int(published.storage.requests[-1].headers["range"][6:-1]) > 0


def test_two_at_once_download_once(published: World, store: Store) -> None:
    published.storage.script.append(
        lambda h, r: send_file(h, r, CONTENT, pause_seconds=0.05, piece_bytes=50_000)
    )
    found: list[Stored] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetched(published, Store(store.folder))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len({one.path for one in found}) == 1
    assert len(published.storage.requests) == 1


def test_progress_counts_every_byte_and_what_was_there(published: World, store: Store) -> None:
    displayed: list[tuple[str, int | None, int]] = []
    counted: list[int] = []

    @contextmanager
    def progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
        displayed.append((name, total, done))
        yield counted.append

    published.storage.script.append(truncated)
    with published.client() as client:
        fetch(client, store, wanted(published), progress=progress)
    total = len(CONTENT)
    assert displayed == [("plugin 'p'", total, 0), ("plugin 'p'", total, 100_000)]
    assert sum(counted) == total


def test_state_beside_a_part_contains_only_etag_and_size(published: World, store: Store) -> None:
    published.storage.script.append(truncated)
    published.storage.script.append(lambda handler, request: handler.send(418))
    refused(published, store)
    (facts,) = (json.loads(path.read_text()) for path in store.folder.rglob("*.json"))
    assert facts == {"etag": etag_of(CONTENT), "total": len(CONTENT)}
