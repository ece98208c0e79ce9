"""What a manifest's source names."""

import pytest

from plugins_manifest.errors import UserError
from plugins_manifest.schema.air import Air
from plugins_manifest.schema.references import is_network, parse_reference
from plugins_manifest.sources.hub import HubReference
from plugins_manifest.sources.web import WebFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        (f"hf://a/b@{COMMIT}/x/y.safetensors", HubReference("a/b", COMMIT, "x/y.safetensors")),
        (f"hf://a/b@{COMMIT}/x/", HubReference("a/b", COMMIT, "x/")),
        (f"hf://a/b.c@{COMMIT}", HubReference("a/b.c", COMMIT, "")),
        ("hf://a/b@main/x", HubReference("a/b", "main", "x")),
        ("hf://a/b/x", HubReference("a/b", None, "x")),
        (f"urn:air:sd1:controlnet:huggingface:a/b@{COMMIT}", HubReference("a/b", COMMIT, "")),
        ("https://host.test/x?download=1", WebFile("https://host.test/x?download=1")),
        ("urn:air:sd1:lora:civitai:1@2", Air("civitai", "1", "sd1", "lora", "2")),
        ("pocket:lora-x", None),
        ("folder/file.safetensors", None),
    ],
)
def test_sources_are_parsed(source: str, meant: object) -> None:
    assert parse_reference(source) == meant
    assert is_network(source) == (meant is not None)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("http://host.test/x", "not encrypted"),
        ("hf://a", "not an address on the Hub"),
        ("hf://a/b@c d/x", "not an address on the Hub"),
        ("hf://a/b/../c", "not an address on the Hub"),
        ("hf://a/b//c", "not an address on the Hub"),
        ("hf://a/b/x\\..\\y", "not an address on the Hub"),
        ("urn:air:sd1:lora:civitai:1", "floats"),
        ("urn:air:sd1:lora:somewhere:1@2", "use civitai or huggingface"),
    ],
)
def test_invalid_sources_are_refused(source: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        parse_reference(source)


@pytest.mark.parametrize(
    "source",
    [
        "https://civitai.com/api/download/models/1?token=abc123",
        "https://s.r2.cloudflarestorage.com/x?X-Amz-Signature=abc123&X-Amz-Expires=5",
        "https://user:abc123@host.test/x",
    ],
)
def test_secrets_in_a_manifest_are_refused_without_repeating_them(source: str) -> None:
    with pytest.raises(UserError, match="contains a secret") as caught:
        parse_reference(source)
    assert "abc123" not in str(caught.value)
