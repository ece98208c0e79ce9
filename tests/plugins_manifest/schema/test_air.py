"""AIR names: Civitai's grammar, both spellings of its ecosystem, and no floating versions."""

import pytest

from plugins_manifest.errors import UserError
from plugins_manifest.schema.air import Air, parse_air, pinned_air

FULL = "urn:air:sd1:lora:civitai:82098@87153"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        (FULL, FULL),
        ("air:sd1:lora:civitai:82098@87153", FULL),
        ("sd1:lora:civitai:82098@87153", FULL),
        ("URN:AIR:SD1:LORA:Civitai:82098@87153", FULL),
        ("urn:air:sd15:lora:civitai:82098@87153", FULL),
        ("urn:air:sd1:LoCon:civitai:1@2", "urn:air:sd1:lycoris:civitai:1@2"),
        ("urn:air:sd1:TextualInversion:civitai:1@2", "urn:air:sd1:embedding:civitai:1@2"),
        (
            "urn:air:other:embedding:civitai:16993@20068",
            "urn:air:other:embedding:civitai:16993@20068",
        ),
        ("civitai:1@2", "urn:air:other:unknown:civitai:1@2"),
        ("lora:civitai:1@2", "urn:air:other:lora:civitai:1@2"),
        (f"{FULL}+99", f"{FULL}+99"),
        (f"{FULL}.safetensors", f"{FULL}.safetensors"),
        (f"{FULL}+99.safetensors", f"{FULL}+99.safetensors"),
        (
            "urn:air:sd1:controlnet:huggingface:lllyasviel/sd-v1.5@abc",
            "urn:air:sd1:controlnet:huggingface:lllyasviel/sd-v1.5@abc",
        ),
    ],
)
def test_every_spelling_has_one_full_form(text: str, full: str) -> None:
    assert str(parse_air(text)) == full
    assert parse_air(full) == parse_air(text) or "other" in full


def test_parts_are_parsed() -> None:
    assert parse_air(f"{FULL}+99.pt") == Air("civitai", "82098", "sd1", "lora", "87153", "99", "pt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("urn:air:sd1:lora:civitai:82098", "names no version, so it floats"),
        ("urn:air:sd1:lora:civitai:82098@", "the version '' is empty"),
        ("urn:air:sd1:lora:civitai:abc@def", "the id 'abc' is not a number"),
        ("urn:air:sd1:lora:civitai:1@2+x", "the file id 'x' is not a number"),
        ("urn:air:sd1:lora:civitai:\uff11@2", "is not a number"),
        ("urn:air:sd1:lora:civitai:1@2@3", "is not an AIR"),
        ("urn:air:sd1:lora:civitai:../x@2", "is not an AIR"),
        ("urn:air:a:b:c:d:e@1", "is not an AIR"),
        ("82098@87153", "is not an AIR"),
        ("", "is not an AIR"),
        ("urn:air:sd 1:lora:civitai:1@2", "the ecosystem 'sd 1'"),
        ("urn:air:sd1:lora:huggingface:noowner@abc", "the id 'noowner'"),
    ],
)
def test_other_text_than_a_pinned_air_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"write urn:air|add one, e\.g\.|is not a number") as caught:
        pinned_air(text)
    assert message in str(caught.value)


def test_all_problems_come_together() -> None:
    with pytest.raises(UserError) as caught:
        pinned_air("urn:air:sd1:lora:civitai:a@b")
    assert len(caught.value.problems) == 2
