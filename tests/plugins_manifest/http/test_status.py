"""Every row of the table of statuses (status -> action and message), as the servers send them.

A server over TLS sends each row; the test checks what the downloader does next.
"""

from datetime import UTC, datetime

import pytest

from plugins_manifest.errors import FetchError
from plugins_manifest.http.download import Wanted, fetch
from plugins_manifest.http.hosts import Token
from plugins_manifest.http.status import Response, interpret_response, retry_after
from plugins_manifest.store import Store
from tests.plugins_manifest.servers import TOKEN, Reply, World, etag_of, safetensors_bytes

CONTENT = safetensors_bytes(n_floats=500)
HTML = {"Content-Type": "text/html; charset=utf-8"}


def replies(status: int, data: object = None, **headers: str) -> Reply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler, request: handler.send_json(status, data, named)


def attempt(
    world: World, store: Store, *, token: str | None = TOKEN, fallback: bool = False
) -> FetchError:
    """Return the error after the downloader did all that the row prescribes."""
    world.add(1, 10, CONTENT)
    url = f"{world.base_url}/api/download/models/10"
    wanted = Wanted(
        "plugin 'p'",
        url,
        fallback_url=f"{url}?fileId=500010" if fallback else None,
        token=Token(token) if token else None,
    )
    with world.client() as client, pytest.raises(FetchError) as caught:
        fetch(client, store, wanted)
    assert not list(store.folder.rglob("*.safetensors"))
    return caught.value


def test_400_of_the_site_is_an_error_of_the_manifest(world: World, store: Store) -> None:
    world.site.script.append(replies(400, {"error": "Invalid id"}))
    error = attempt(world, store)
    assert error.code == "bad-request"
    assert "'Invalid id'" in str(error) and "in the manifest" in str(error)


def test_400_of_the_storage_is_our_bug(world: World, store: Store) -> None:
    world.storage.script.append(replies(400))
    error = attempt(world, store)
    assert error.code == "our-bug" and "bug of xbench" in str(error)


def test_storage_answers_400_to_a_token(world: World) -> None:
    seen = Response("p", 400, "files.test", {}, on_storage=True, sent_token=True)
    error = interpret_response(seen)
    assert error is not None and "a token reached the storage host files.test" in str(error)


def test_401_requires_a_token(world: World, store: Store) -> None:
    error = attempt(world, store, token=None)
    assert error.code == "needs-token" and "set CIVITAI_TOKEN" in str(error)


def test_401_with_a_token_reports_that_it_is_refused(world: World, store: Store) -> None:
    error = attempt(world, store, token="old-token-1")
    assert error.code == "needs-token" and "does not accept the token" in str(error)
    assert "old-token-1" not in str(error)


def test_redirect_to_the_login_page_requires_a_token(world: World, store: Store) -> None:
    def to_login(handler, request):
        handler.send(307, headers={"Location": "/login?returnUrl=/x&reason=download-auth"})

    world.site.script.append(to_login)
    error = attempt(world, store, token=None)
    assert error.code == "needs-token" and "set CIVITAI_TOKEN" in str(error)


def test_redirect_to_the_join_page_is_early_access(world: World, store: Store) -> None:
    world.site.script.append(lambda h, r: h.send(302, headers={"Location": "/en/join?x=1"}))
    error = attempt(world, store)
    assert error.code == "gated" and "early access" in str(error)


def test_403_early_access_is_skipped_as_gated_with_its_deadline(world: World, store: Store) -> None:
    world.site.script.append(replies(403, {"error": "Early Access", "deadline": "2026-12-24"}))
    error = attempt(world, store)
    assert error.code == "gated"
    assert "skipped:gated" in str(error) and "until 2026-12-24" in str(error)
    assert world.pauses == []


def test_403_forbidden_is_skipped_as_gated(world: World, store: Store) -> None:
    world.site.script.append(replies(403, {"error": "Forbidden"}))
    error = attempt(world, store)
    assert error.code == "gated" and "'Forbidden'" in str(error)


def test_403_of_the_web_firewall_backs_off_and_saves_nothing(world: World, store: Store) -> None:
    world.site.reply = lambda h, r: h.send(403, b"<html>blocked</html>", HTML | {"CF-Ray": "8f-X"})
    error = attempt(world, store)
    assert error.code == "cloudflare" and "web firewall" in str(error)
    assert world.pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_404_is_retried_once_by_file_id(world: World, store: Store) -> None:
    world.site.reply = replies(404, {"error": "File not found"})
    error = attempt(world, store, fallback=True)
    assert error.code == "missing" and "unpublished" in str(error)
    first, second = world.site.requests
    assert first.query == {} and second.query == {"fileId": ["500010"]}


def test_410_is_gone_and_a_copy_is_the_advice(world: World, store: Store) -> None:
    message = "Model archived, not available for download"
    world.site.script.append(replies(410, {"message": message}))
    error = attempt(world, store)
    assert (error.code, error.remedy) == ("gone", "mirror")
    assert message in str(error)


def test_416_restarts_a_part_that_is_not_complete(world: World, store: Store) -> None:
    world.add(1, 10, CONTENT)
    wanted = Wanted("p", f"{world.base_url}/api/download/models/10", token=Token(TOKEN))
    with store.download(wanted.key) as partial:
        partial.part.write_bytes(CONTENT + b"longer than the file")
        partial.remember({"etag": etag_of(CONTENT), "total": None})
    with world.client() as client:
        assert fetch(client, store, wanted).path.read_bytes() == CONTENT
    assert ["range" in r.headers for r in world.storage.requests] == [True, False]


def test_416_of_a_complete_part_hashes_it(world: World, store: Store) -> None:
    world.add(1, 10, CONTENT)
    wanted = Wanted("p", f"{world.base_url}/api/download/models/10", token=Token(TOKEN))
    with store.download(wanted.key) as partial:
        partial.part.write_bytes(CONTENT)
        partial.remember({"etag": etag_of(CONTENT), "total": len(CONTENT)})
    with world.client() as client:
        assert fetch(client, store, wanted).path.read_bytes() == CONTENT
    assert len(world.storage.requests) == 1


def test_429_backs_off_from_1_to_30_seconds(world: World, store: Store) -> None:
    world.site.reply = replies(429)
    world.add(1, 10, CONTENT)
    wanted = Wanted("p", f"{world.base_url}/api/download/models/10")
    with world.client(max_tries=8) as client, pytest.raises(FetchError) as caught:
        fetch(client, store, wanted)
    assert caught.value.code == "busy"
    assert world.pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_200_with_a_web_page_is_refused_before_anything_is_written(
    world: World, store: Store
) -> None:
    world.storage.script.append(lambda h, r: h.send(200, b"<html>log in</html>", HTML))
    error = attempt(world, store)
    assert error.code == "not-a-plugin" and "web page" in str(error)
    assert not list(store.folder.rglob("*.part"))


def test_200_with_a_json_error_requires_a_token(world: World, store: Store) -> None:
    world.site.script.append(replies(200, {"error": "Unauthorized", "message": "The creator says"}))
    error = attempt(world, store)
    assert error.code == "needs-token"


def test_206_without_a_request_for_a_range_is_judged_like_200(world: World, store: Store) -> None:
    world.storage.script.append(lambda h, r: h.send(206, b"<!DOCTYPE html>"))
    assert attempt(world, store).code == "not-a-plugin"


def test_compressed_answers_are_refused(world: World, store: Store) -> None:
    world.storage.script.append(lambda h, r: h.send(200, b"\x1f\x8b", {"Content-Encoding": "gzip"}))
    assert "compresses" in str(attempt(world, store))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524])
def test_failing_servers_are_retried(status: int) -> None:
    error = interpret_response(Response("p", status, "civitai.com", {}))
    assert error is not None and (error.code, error.remedy) == ("busy", "back-off")


def test_statuses_of_no_row_stop_with_a_message() -> None:
    error = interpret_response(Response("p", 402, "civitai.com", {}, b'{"error": "\x1b[31mPay"}'))
    assert error is not None and error.code == "refused"
    assert "status 402" in str(error) and "\x1b" not in str(error)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("9999", 30.0),
        ("Sun, 22 Nov 2026 10:00:05 GMT", 5.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert retry_after({"retry-after": text}, now=now) == seconds
