"""Which hosts and addresses are contacted, at every hop, even if a name changes its address."""

import itertools
from collections.abc import Sequence

import pytest
import trustme

from plugins_manifest.errors import FetchError
from plugins_manifest.http.download import Wanted, fetch
from plugins_manifest.http.guard import checked_addresses
from plugins_manifest.http.hosts import AllowList, HostRule, is_public
from plugins_manifest.sources.base import installed_network_sources
from plugins_manifest.store import Store
from tests.plugins_manifest.servers import SITE, World, safetensors_bytes

RULES = tuple(rule for s in installed_network_sources().values() for rule in s.hosts)
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # the metadata service of clouds
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "104.18.22.206", "2606:4700::6812:16ce", "64:ff9b::101:101"]
)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_allowed_host_with_a_private_address_is_refused(address: str) -> None:
    with pytest.raises(FetchError, match="not on the public internet") as caught:
        checked_addresses(AllowList(RULES), lambda host, port: ["1.1.1.1", address], SITE, 443)
    assert caught.value.code == "blocked-address"


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "civitai.com.evil.test",
        "notcivitai.com",
        "127.0.0.1",
        "localhost",
        "[::1]",
        "",
        "huggingface.co.",
    ],
)
def test_only_exact_names_and_dotted_suffixes_are_allowed(host: str) -> None:
    if host == "huggingface.co.":
        assert AllowList(RULES).rule(host, 443).host == "huggingface.co"
        return
    with pytest.raises(FetchError, match="--allow-host") as caught:
        AllowList(RULES).rule(host, 443)
    assert caught.value.code == "blocked-host"


def test_other_ports_of_an_allowed_host_are_refused() -> None:
    with pytest.raises(FetchError, match="port 22"):
        AllowList(RULES).rule(SITE, 22)


def test_only_civitai_gets_a_token() -> None:
    trusted = {rule.host.lstrip(".") for rule in RULES if rule.gets_token}
    assert trusted == {"civitai.com", "civitai.red", "civitai.green"}


def test_users_add_hosts_or_all_hosts_below_one_without_a_token() -> None:
    allow = AllowList().with_hosts(["Mirror.test", ".storage.test"])
    for host in ("mirror.test", "a.storage.test", "b.a.storage.test"):
        rule = allow.rule(host, 443)
        assert not rule.gets_token and not rule.allows("127.0.0.1")
    for host in ("a.mirror.test", "storage.test", "evilstorage.test"):
        with pytest.raises(FetchError, match="not on the list"):
            allow.rule(host, 443)


def attempt(world: World, store: Store, url: str, **changed: object) -> FetchError:
    with world.client(**changed) as client, pytest.raises(FetchError) as caught:
        fetch(client, store, Wanted("plugin 'p'", url))
    assert not list(store.folder.rglob("*.part"))
    return caught.value


@pytest.mark.parametrize(
    "location",
    [
        "http://files.r2.cloudflarestorage.com/x",
        "file:///etc/passwd",
        "ftp://files.r2.cloudflarestorage.com/x",
        "https://evil.test/x",
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://user:word@civitai.com/x",
        "//evil.test/x",
        "https://civitai.com:99999/x",
        "https://[::1/x",
        "https://civitai.com\\@evil.test/x",
        "https://evil.test\\@civitai.com/x",
        "https://civitai.com%00.evil.test/x",
        "javascript:alert(1)",
    ],
)
def test_every_redirect_is_checked(world: World, store: Store, location: str) -> None:
    world.site.script.append(lambda h, r: h.send(302, headers={"Location": location}))
    assert attempt(world, store, f"{world.base_url}/x").code == "blocked-host"
    assert world.storage.requests == []


def test_redirect_to_a_host_on_a_forbidden_address_is_refused(world: World, store: Store) -> None:
    world.site.script.append(lambda h, r: h.send(302, headers={"Location": world.signed("x")}))

    def moved(host: str, port: int) -> Sequence[str]:
        return world.resolve(host, port) if host == SITE else ["127.0.0.3"]

    assert attempt(world, store, f"{world.base_url}/x", resolve=moved).code == "blocked-address"
    assert world.storage.requests == []


def test_socket_goes_to_the_address_that_was_checked(world: World, store: Store) -> None:
    """DNS rebinding: the name's next answer is another one; each connection asks exactly once."""
    world.add(1, 10, safetensors_bytes())
    answers = itertools.chain([["127.0.0.1"]], itertools.repeat(["127.0.0.2"]))
    requested: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        requested.append(host)
        return next(answers)

    error = attempt(world, store, f"{world.base_url}/api/download/models/10", resolve=rebinding)
    assert error.code == "needs-token"
    assert requested == [SITE] and len(world.site.requests) == 1


@pytest.mark.parametrize("what", ["plugin 'p'", "the host"])
def test_an_error_of_a_host_names_what_was_fetched_whatever_its_name(world: World, what: str):
    with (
        world.client() as client,
        pytest.raises(FetchError) as caught,
        client.open("https://other.test/x", what=what),
    ):
        pass
    assert str(caught.value).startswith(f"{what}: the host 'other.test'")
    assert caught.value.code == "blocked-host"


def test_endless_redirects_end(world: World, store: Store) -> None:
    world.site.reply = lambda h, r: h.send(302, headers={"Location": "/x"})
    assert "more than 10 redirects" in str(attempt(world, store, f"{world.base_url}/x"))
    assert len(world.site.requests) == 11


def test_certificates_are_checked(world: World, store: Store) -> None:
    other = world.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    error = attempt(world, store, f"{world.base_url}/x", ca=other)
    assert error.code == "unreachable" and "certificate" in str(error)
    assert world.site.requests == [] and world.pauses == []


def test_certificate_must_name_the_host(world: World, store: Store) -> None:
    rule = HostRule("mirror.test", world.site.port, networks=("127.0.0.0/8",))
    error = attempt(
        world,
        store,
        f"https://mirror.test:{world.site.port}/x",
        allow=AllowList((rule,)),
        resolve=lambda host, port: ["127.0.0.1"],
    )
    assert "certificate" in str(error)


def test_unknown_host_name_is_reported_at_once(world: World, store: Store) -> None:
    allow = AllowList((HostRule("nowhere.test"),))
    error = attempt(world, store, "https://nowhere.test/x", allow=allow)
    assert error.code == "unreachable" and "cannot be found" in str(error)
    assert world.pauses == []


def test_dead_server_is_tried_some_times(world: World, store: Store) -> None:
    world.site.shutdown()
    world.site.server_close()
    error = attempt(world, store, f"{world.base_url}/x")
    assert error.code == "unreachable" and "check the network" in str(error)
    assert len(world.pauses) == 5


def test_proxies_of_the_environment_are_not_used(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.9:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.9:1")
    assert attempt(world, store, f"{world.base_url}/nothing").code == "missing"
