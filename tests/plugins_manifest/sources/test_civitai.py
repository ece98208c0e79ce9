"""Civitai's API as the lock reads it: one version, one file, the license, and nothing guessed."""

from typing import Any

import pytest

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http.hosts import Token
from plugins_manifest.schema.air import pinned_air
from plugins_manifest.sources.civitai import (
    Civitai,
    CivitaiFile,
    split_words,
    token_from_environment,
)
from tests.plugins_manifest.servers import TOKEN, World, safetensors_bytes

CONTENT = safetensors_bytes(n_floats=100)
AIR = "urn:air:sd1:lora:civitai:1@10"


def find(world: World, air: str = AIR, token: str | None = None) -> CivitaiFile:
    with world.client() as client:
        site = Civitai(client, base_url=world.base_url, token=Token(token) if token else None)
        return site.find(pinned_air(air), what="plugin 'p'")


def refused(world: World, air: str = AIR) -> UserError:
    with pytest.raises(UserError) as caught:
        find(world, air)
    return caught.value


def test_version_is_pinned_to_its_file(world: World) -> None:
    row = world.add(1, 10, CONTENT)
    found = find(world)
    assert str(found.air) == f"{AIR}+500010"
    assert (found.model_id, found.version_id, found.file_id) == (1, 10, 500010)
    assert found.sha256 == row["files"][0]["hashes"]["SHA256"].lower()
    assert found.declared_bytes == len(CONTENT)
    assert found.declared_base_model == "SD 1.5"
    assert found.url == f"{world.base_url}/api/download/models/10"
    assert found.license.allow_commercial_use == ("Image", "RentCivit")


def test_metadata_is_requested_without_the_token(world: World) -> None:
    world.add(1, 10, CONTENT)
    find(world, token=TOKEN)
    assert not any("authorization" in request.headers for request in world.site.requests)


def test_metadata_that_needs_a_login_is_requested_with_it(world: World) -> None:
    world.add(1, 10, CONTENT)
    world.site.script.append(lambda h, r: h.send_json(401, {"error": "Unauthorized"}))
    assert find(world, token=TOKEN).version_id == 10
    assert world.site.requests[1].headers["authorization"] == f"Bearer {TOKEN}"


def test_trigger_words_are_split_at_commas() -> None:
    assert split_words(["full body, chibi,", " chibi ", "a\x1b[31mb"]) == (
        "full body",
        "chibi",
        "a [31mb",
    )


@pytest.mark.parametrize("url", ["//{host}/api/download/models/10", "/api/download/models/10"])
def test_addresses_without_scheme_are_understood(world: World, url: str) -> None:
    row = world.add(1, 10, CONTENT)
    host = world.base_url.removeprefix("https://")
    row["files"][0]["downloadUrl"] = url.format(host=host) + "?type=Model&token=x&format=SafeTensor"
    expected = f"{world.base_url}/api/download/models/10?type=Model&format=SafeTensor"
    assert find(world).url == expected


def test_addresses_of_other_hosts_are_not_believed(world: World) -> None:
    row = world.add(1, 10, CONTENT)
    row["files"][0]["downloadUrl"] = "https://evil.test/x"
    assert find(world).url == f"{world.base_url}/api/download/models/10?fileId=500010"


def more_files(row: dict[str, Any], world: World, **changed: Any) -> None:
    row["files"].append({**world.file_entry(10, 7, CONTENT), **changed})


def test_several_files_ask_for_a_file_id(world: World) -> None:
    row = world.add(1, 10, CONTENT)
    more_files(row, world, name="pruned.safetensors", primary=False)
    error = refused(world)
    assert "has 2 files" in str(error) and f"e.g. {AIR}+500010" in str(error)
    assert find(world, f"{AIR}+7").file_name == "pruned.safetensors"


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "Training Data", "name": "images.zip", "metadata": {"format": "Other"}},
        {"type": "Config", "name": "c.yaml"},
        {"name": "same.pt", "metadata": {"format": "PickleTensor"}},
    ],
)
def test_other_files_than_weights_are_not_counted(world: World, changed: dict[str, Any]) -> None:
    more_files(world.add(1, 10, CONTENT), world, **changed)
    assert find(world).file_id == 500010


def test_pickle_alone_is_refused_with_the_way_out(world: World) -> None:
    row = world.add(1, 10, CONTENT)
    row["files"][0] |= {"name": "bad.pt", "metadata": {"format": "PickleTensor"}}
    assert "plugins convert FILE NEW" in str(refused(world))


def test_file_id_of_another_version_is_reported(world: World) -> None:
    world.add(1, 10, CONTENT)
    assert "names no file of its version (it has +500010" in str(refused(world, f"{AIR}+3"))


def test_version_of_another_model_is_reported(world: World) -> None:
    world.add(2, 10, CONTENT)
    error = refused(world)
    assert "belongs to model 2, not to 1: write urn:air:sd1:lora:civitai:2@10" in str(error)


def test_missing_version_is_reported(world: World) -> None:
    error = refused(world)
    assert isinstance(error, FetchError) and error.code == "missing"


@pytest.mark.parametrize("mode", ["Archived", "TakenDown"])
def test_archived_model_is_gone(world: World, mode: str) -> None:
    world.add(1, 10, CONTENT)
    world.models[1]["mode"] = mode
    error = refused(world)
    assert isinstance(error, FetchError) and error.code == "gone" and mode in str(error)


def test_file_for_use_on_the_site_only_is_gated(world: World) -> None:
    world.add(1, 10, CONTENT, usageControl="InternalGeneration")
    error = refused(world)
    assert isinstance(error, FetchError) and error.code == "gated"


def test_response_of_another_shape_is_reported(world: World) -> None:
    world.versions[10] = {"id": "ten"}
    assert "unexpected response of Civitai (id, modelId)" in str(refused(world))


@pytest.mark.parametrize("body", [b"[]", b"not json", b"\xff", b"[" * 200_000])
def test_response_that_is_not_an_object_is_reported(world: World, body: bytes) -> None:
    world.site.script.append(lambda h, r: h.send(200, body))
    assert "not a JSON object" in str(refused(world))


def test_endless_response_is_cut_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins_manifest.http.client.MAX_JSON_BYTES", 10_000)
    world.site.script.append(lambda h, r: h.send(200, b" " * 50_000))
    assert "more than 0 MiB" in str(refused(world))


def test_same_bytes_are_found_in_another_version(world: World) -> None:
    world.add(1, 10, CONTENT)
    world.add(2, 20, CONTENT)
    with world.client() as client:
        site = Civitai(client, base_url=world.base_url)
        sha256 = find(world).sha256
        assert sha256 is not None
        assert site.same_file(sha256, but_not=10, what="p") is None  # the hash finds itself
        del world.versions[10]
        found = site.same_file(sha256, but_not=10, what="p")
    assert found == f"{world.base_url}/api/download/models/20?fileId=500020"


@pytest.mark.parametrize("name", ["CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_API_KEY"])
def test_token_is_read_from_all_names_in_use(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in ("CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_API_KEY"):
        monkeypatch.delenv(other, raising=False)
    assert token_from_environment() is None
    monkeypatch.setenv(name, " abc ")
    token = token_from_environment()
    assert token is not None and token.value == "abc"
    assert "abc" not in repr(token)
