"""Syntax of web UIs in prompts: found where it stands, and never in ordinary text."""

import pytest

from plugins_manifest.prompt_syntax import find_syntax, plain_words, weighted_words


@pytest.mark.parametrize(
    ("prompt", "kinds"),
    [
        ("a portrait, (outline:1.3)", ["weight"]),
        ("a (b (c) d: .5 )", ["weight"]),
        ("((red)) hat", ["emphasis"]),
        ("a [red] hat", ["square"]),
        ("a [cat:dog:0.5]", ["editing"]),
        ("a [cat|dog] and [red] hat", ["editing", "square"]),
        ("a [hat:0.3]", ["editing"]),
        ("a portrait <lora:moxin:0.8>", ["lora"]),
        ("a <lyco:x:1> b", ["lora"]),
        ("a <hypernet:x:1> b", ["lora"]),
        ("a portrait BREAK a square", ["break"]),
        ("a cat AND a dog", ["and"]),
        ("{red|blue} hat", ["braces"]),
        ("{{red}} hat", ["braces"]),
        ("a __color__ hat", ["wildcard"]),
        ("a (red)1.3 hat", ["compel"]),
        ("a hat++", ["compel"]),
        ("embedding:easynegative", ["embedding"]),
    ],
)
def test_syntax_is_found(prompt: str, kinds: list[str]) -> None:
    assert [found.kind for found in find_syntax(prompt)] == kinds


@pytest.mark.parametrize(
    "prompt",
    [
        "2 people (a tall person and a short man) in the rain",
        "a clock (at 10:30) on a wall [1]",
        "MAN AND WOMAN AT A COFFEE BREAK",
        "a sign that says FIRST AVENUE AND 7th street",
        "a C++ book, ratio 4:3; hat -- red",
        r"hatsune miku \(vocaloid\)",
        "a < b and b > c",
        "",
    ],
)
def test_ordinary_text_has_none(prompt: str) -> None:
    assert find_syntax(prompt) == []


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("plain", [("plain", 1.0)]),
        ("", [("", 1.0)]),
        ("(a (b:2) c)", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),
        ("((a", [("a", 1.21)]),
        ("a) b]", [("a) b]", 1.0)]),
        (r"\(a\) (b:-1)", [("(a) ", 1.0), ("b", -1.0)]),
        ("(a:x) b", [("a:x", 1.1), (" b", 1.0)]),
        ("[a BREAK b]", [("a", 1 / 1.1), ("BREAK", None), ("b", 1 / 1.1)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
    ],
)
def test_emphasis_is_parsed_by_its_rules(
    prompt: str, parts: list[tuple[str, float | None]]
) -> None:
    found = weighted_words(prompt)
    assert [part.text for part in found] == [text for text, _ in parts]
    for part, (_, weight) in zip(found, parts, strict=True):
        assert part.weight == (None if weight is None else pytest.approx(weight))


def test_plain_words_have_no_syntax() -> None:
    assert plain_words("a ((red)) (car:1.3), BREAK, [old] wheel") == "a red car, old wheel"
    assert plain_words("a red car") == "a red car"
