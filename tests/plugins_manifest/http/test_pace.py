"""A server that sends a byte now and then is given up; a slow download that advances is not."""

import time
from pathlib import Path

import pytest

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http.client import Client
from plugins_manifest.http.download import Wanted, download
from plugins_manifest.http.pace import Limits, limits_of_environment
from plugins_manifest.http.ranged import Mirror
from plugins_manifest.store import Store
from tests.plugins_manifest.http.slow_server import (
    BEHAVIORS,
    DRIPS,
    IDLE_SECONDS,
    LIMITS,
    OK,
    Connection,
    hasty_client,
    slow_server,
)


@pytest.mark.parametrize("name", DRIPS)
def test_an_endless_drip_is_given_up(name: str) -> None:
    started = time.monotonic()
    with (
        slow_server(BEHAVIORS[name]) as address,
        hasty_client() as client,
        pytest.raises(FetchError, match="the connection fails"),
    ):
        client.get(address, what="x", most_bytes=1 << 20)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("name", ["body dripped", "chunks dripped"])
def test_a_dripped_download_is_given_up(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with slow_server(BEHAVIORS[name]) as address, hasty_client() as client:
        wanted = Wanted("x", address)
        with store.download(wanted.key) as partial, pytest.raises(FetchError, match="per second"):
            download(client, store, wanted, partial, lambda part: part)


def test_tls_that_stalls_is_given_up() -> None:
    def drip(to: Connection) -> None:
        to.drip(b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc\x03\x03" * 100)

    with (
        slow_server(drip, reads_request=False) as address,
        hasty_client() as client,
        pytest.raises(FetchError, match="the connection fails"),
    ):
        client.get(address.replace("http:", "https:"), what="x", most_bytes=100)


def test_a_slow_download_that_advances_completes() -> None:
    def slowly(to: Connection) -> None:
        to.send(OK + b"Content-Length: 10000\r\n\r\n")
        for _ in range(20):  # 10,000 bytes/s over two windows, the least is 4,000
            to.send(b"x" * 500)
            time.sleep(0.05)

    with slow_server(slowly) as address, hasty_client() as client:
        assert client.get(address, what="x", most_bytes=20_000) == b"x" * 10_000


def test_a_consumer_that_pauses_is_not_a_slow_server() -> None:
    def at_once(to: Connection) -> None:
        to.send(OK + b"Content-Length: 400000\r\n\r\n")
        for _ in range(4):
            to.send(b"x" * 100_000)

    with slow_server(at_once) as address, hasty_client() as client:
        n_bytes = 0
        with client.open(address, what="x") as opened:
            for chunk in opened.chunks:
                n_bytes += len(chunk)
                time.sleep(0.2)
    assert n_bytes == 400_000


def test_a_small_answer_has_a_total_deadline() -> None:
    with (
        slow_server(BEHAVIORS["fast enough and endless"]) as address,
        hasty_client() as client,
        pytest.raises(FetchError, match=r"not complete after 1.5 s"),
    ):
        client.get(address, what="x", most_bytes=1 << 20)


def test_retry_after_of_years_is_a_pause_of_half_a_minute() -> None:
    pauses: list[float] = []
    with (
        slow_server(BEHAVIORS["busy for years"]) as address,
        hasty_client(max_tries=4, sleep=pauses.append) as client,
        pytest.raises(FetchError, match="too many requests"),
    ):
        client.get(address, what="x", most_bytes=100)
    assert pauses[:2] == [30, 30] and max(pauses) <= 30


def test_a_file_that_changes_with_every_attempt_ends(tmp_path: Path) -> None:
    def changing(to: Connection) -> None:
        if to.n_before % 2:  # another version than the part's
            head = b'HTTP/1.1 206 Partial\r\nContent-Range: bytes 9-300000/300001\r\nETag: "b"\r\n'
            to.send(head + b"Content-Length: 1\r\n\r\nx")
        else:
            to.send(OK + b'Content-Length: 300000\r\nETag: "a"\r\n\r\n' + b"x" * 100_000)

    store, wanted = Store(tmp_path), None
    with slow_server(changing) as address:
        client = Client(allow=None, limits=LIMITS, sleep=lambda seconds: None)
        wanted = Wanted("x", address)
        with client, store.download(wanted.key) as partial, pytest.raises(FetchError) as caught:
            download(client, store, wanted, partial, lambda part: part)
    assert caught.value.code == "changed"


def test_the_end_of_a_file_is_not_read_beyond_the_request() -> None:
    def endless(to: Connection) -> None:
        head = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 900-999/1000\r\n\r\n"
        to.send(head)
        to.for_ever(b"x" * 1000)

    with (
        slow_server(endless) as address,
        Mirror(address, setting="X", max_tries=1) as mirror,
        pytest.raises(FetchError, match="more than the 100 bytes"),
    ):
        mirror.read_end("a.zip", 100)


def test_the_environment_sets_the_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XBENCH_FETCH_RATE", raising=False)
    assert limits_of_environment() == Limits()
    monkeypatch.setenv("XBENCH_FETCH_RATE", "0")
    assert limits_of_environment().bytes_per_second == 0
    for text in ("fast", "-1", "1e3", "9" * 50):
        monkeypatch.setenv("XBENCH_FETCH_RATE", text)
        with pytest.raises(UserError, match="XBENCH_FETCH_RATE is"):
            limits_of_environment()


def test_rate_zero_accepts_every_rate() -> None:
    def slowly(to: Connection) -> None:
        to.send(OK + b"Content-Length: 12\r\n\r\n")
        to.drip(b"x" * 12, pause=0.1)

    limits = Limits(bytes_per_second=0, window_seconds=0.2)
    with slow_server(slowly) as address, hasty_client(limits=limits) as client:
        assert client.get(address, what="x", most_bytes=20) == b"x" * 12


def test_a_proxy_of_the_environment_is_used_and_may_be_excepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def proxy(to: Connection) -> None:
        to.send(OK + b"Content-Length: 5\r\n\r\nproxy")

    with slow_server(proxy) as address, hasty_client(timeout_seconds=IDLE_SECONDS) as client:
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("no_proxy", "")
        assert client.get("http://site.test/x", what="x", most_bytes=9) == b"proxy"
        monkeypatch.setenv("no_proxy", "site.test")
        with pytest.raises(FetchError):
            client.get("http://site.test/x", what="x", most_bytes=9)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
        with pytest.raises(UserError, match="name an http proxy"):
            client.get("http://site.test/x", what="x", most_bytes=9)
