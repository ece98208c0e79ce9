"""YAML and JSON mean one thing or are refused with file and line, before they fill the memory."""

import ast
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins_manifest.documents import (
    MAX_BYTES,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
    read_yaml,
)
from plugins_manifest.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "leaderboard", "metrics", "plugins_manifest", "pocket", "runners", "xadapter")
# file -> why it reads JSON by itself
EXCEPTIONS = {
    "bench/publish/comparison.py": "lists instead of tuples in data of this process",
    "plugins_manifest/documents.py": "the parser itself",
}
PAIRS = list(zip("abcdefghij", "bcdefghijk", strict=True))
LAUGHS = "a: &a [x]\n" + "".join(
    f"{c}: &{c} [{', '.join(['*' + b] * 9)}]\n" for b, c in PAIRS
)  # 9^10 values
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [[[[*a{i - 1}]]]]\n" for i in range(1, 40))


def refusal(parse: Any, content: bytes | str) -> str:
    with pytest.raises(UserError) as caught:
        parse(content, name="m.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "NO",
        "on",
        "Off",
        "y",
        "010",
        "0x1F",
        "1_000",
        "1:30",
        "2024-01-01",
        "1e5",
        "=",
        "12e03",
    ],
)
def test_plain_yaml_scalars_that_two_versions_of_yaml_read_differently_stay_text(text: str) -> None:
    assert parse_yaml(f"a: {text}\n{text}: b", name="m.yaml") == {"a": text, text: "b"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("true", True), ("False", False), ("~", None), ("", None), ("12", 12), ("-0", 0)),
        *(("1.5", 1.5), ("-.5", -0.5), ("1.0e-05", 1e-5), ("'12'", "12"), ("!!str 12", "12")),
        *(("! 12", "12"), ('"\\u00e9"', "é"), ("|\n  12", "12"), ("[1, {b: 2}]", [1, {"b": 2}])),
    ],
)
def test_yaml_values_have_their_usual_types(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}", name="m.yaml")["a"]
    assert found == value and type(found) is type(value)


def test_what_pyyaml_writes_is_read_back_as_it_was() -> None:
    texts = [
        "1e5",
        "no",
        "010",
        "1:30",
        "2024-01-01",
        "a: b",
        "~",
        "",
        "é\n",
        "12",
        ".5",
        "1_0",
        "<<",
    ]
    data = {
        "texts": texts,
        "numbers": [0, -1, 2**63, 1e-5, 1e20, -0.0, 0.1],
        "others": [None, True],
    }
    for options in ({}, {"allow_unicode": True}, {"default_flow_style": True}):
        assert parse_yaml(yaml.safe_dump(data, **options), name="m.yaml") == data


def test_a_few_anchors_and_merges_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [{y: 5}, *a]}\nd: [*a, *a]"
    found = parse_yaml(text, name="m.yaml")
    assert found["b"] == {"x": 3, "y": 2} and found["c"] == {"y": 5, "x": 1}
    assert found["d"] == [{"x": 1, "y": 2}] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3", "m.yaml:3: the key 'a' comes twice: the first is in line 1"),
        ("a: 1\n2: 3", "m.yaml:2: a key is not text"),
        ("a: 1\n? [b]\n: 2", "m.yaml:2: a key is not text"),
        ("a: 1\nb: [", "m.yaml:3: not valid YAML at column 1"),
        ("a: 1\n\tb: 2", "m.yaml:2: not valid YAML at column 1"),
        ("a: 1\n--- 2", "m.yaml:2: a second document begins"),
        ("a: !!python/object/apply:os.system [id]", "m.yaml:1: the tag '!!python/object/apply:os"),
        ("a: !!timestamp 2024-01-01", "m.yaml:1: the tag '!!timestamp' is not supported"),
        ("a: !!binary aaaa", "the tag '!!binary' is not supported"),
        ("a:\n- .nan", "m.yaml:2: '.nan' is not a finite number"),
        ("a: 1.0e+999", "m.yaml:1: '1.0e+999' is not a finite number"),
        ("a: 36893488147419103232", "too large an integer"),
        ("a: " + "9" * 10_000, "too large an integer"),
        ("a: &a [*a]", "m.yaml:1: the alias 'a' is within its own anchor"),
        ("a: *b", "m.yaml:1: the alias 'b' has no anchor"),
        ("a: {<<: [1]}", "m.yaml:1: '<<' merges mappings alone"),
        (LAUGHS, "m.yaml:7: too many YAML aliases"),
        ("a: &a x\nb: [" + "*a, " * 1001 + "]", "too many YAML aliases"),
        (CHAIN, "m.yaml is too deep or too large"),
        ("[" * 100_000, "m.yaml is too deep or too large"),
        ("? " * 100_000, "m.yaml is too deep or too large"),
        ("[" + "1," * 400_001 + "]", "m.yaml is too deep or too large"),
        ('a: "\\0"', "m.yaml:1: a text contains the character NUL"),
        ("a: 1\nb: \x07", "m.yaml:2: not valid YAML: unacceptable character #x0007"),
        ("a: 1".encode("utf-16"), "m.yaml is in UTF-16: save it in UTF-8"),
        ("a: 1".encode("utf-32"), "m.yaml is in UTF-32: save it in UTF-8"),
        ("a: 1\nb: é".encode("latin-1"), "m.yaml:2: not in UTF-8"),
        ("a" * (MAX_BYTES + 1), "m.yaml has more than 16,777,216 bytes"),
    ],
    ids=range(28),
)
def test_yaml_is_refused_with_its_line(content: bytes | str, message: str) -> None:
    text = refusal(parse_yaml, content)
    assert message in text and len(text) < 300


def test_all_doubled_keys_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml("a: [{x: 1}]\na: {x: 2}\nb: 1\nb: 2\n1: 1", name="m.yaml")
    assert [problem[:9] for problem in caught.value.problems] == [
        "m.yaml:2:",
        "m.yaml:4:",
        "m.yaml:5:",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"a": 1,\n"b": {"c": 1,\n"c": 2}}',
            "m.yaml:3: the key 'c' comes twice: the first is in line 2",
        ),
        ('{"a": 1, "\\u0061": 2}', "m.yaml:1: the key 'a' comes twice"),
        ('{"a": NaN}', "m.yaml:1: 'NaN' is not a finite number"),
        ("[1,\n-Infinity]", "m.yaml:2: '-Infinity' is not a finite number"),
        ("[1,\n1e999]", "m.yaml:2: '1e999' is not a finite number"),
        ("[" + "9" * 5_000 + "]", "too large an integer"),
        ('{"a": 1,}', "m.yaml:1: not valid JSON at column 9"),
        ("", "m.yaml:1: not valid JSON at column 1"),
        ('["\x07"]', "m.yaml:1: not valid JSON at column 3"),
        ('["\\u0000"]', "a text contains the character NUL"),
        ('{"\\ud800": 1}', "a text contains half a character"),
        ("[" * 100_000, "m.yaml is too deep or too large"),
        ('{"a":' * 100_000, "m.yaml is too deep or too large"),
        ("[" + "[]," * 2_000_000 + "1]", "m.yaml is too deep or too large"),
        ("{}".encode("utf-16"), "m.yaml is in UTF-16"),
        ('["é"]'.encode("latin-1"), "m.yaml:1: not in UTF-8"),
        ("1" * (MAX_BYTES + 1), "m.yaml has more than 16,777,216 bytes"),
    ],
    ids=range(17),
)
def test_json_is_refused_with_its_line(content: bytes | str, message: str) -> None:
    text = refusal(parse_json, content)
    assert message in text and len(text) < 300


def test_json_of_every_kind_is_read() -> None:
    text = (
        '\ufeff{"a": [1, -1.5, 1e3, true, null, "\\ud83d\\ude00 , [ {"], "b": 18446744073709551615}'
    )
    found = parse_json(text.encode(), name="m.json")
    assert found == {"a": [1, -1.5, 1000.0, True, None, "😀 , [ {"], "b": 2**64 - 1}


def test_text_full_of_quotes_is_refused_in_linear_time() -> None:
    assert "not valid JSON" in refusal(parse_json, '"' + '\\"' * 4_000_000)


@pytest.mark.parametrize("read", [read_yaml, read_json, read_text])
def test_only_regular_files_are_read(tmp_path: Path, read: Any) -> None:
    fifo, loop, server = tmp_path / "fifo", tmp_path / "loop", tmp_path / "socket"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind(str(server))
        for path in (
            fifo,
            loop,
            server,
            tmp_path,
            tmp_path / "none",
            Path("/dev/zero"),
            Path("a\0b"),
        ):
            with pytest.raises(UserError, match="cannot be read"):
                read(path)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(path) == {"a": 1, "b": 2}
    assert read_text(path).startswith("a: 1")


def test_every_document_goes_through_the_one_parser() -> None:
    found = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    name = (node.value.id, node.attr)
                    is_json = name in {("json", "load"), ("json", "loads"), ("tomllib", "loads")}
                    is_yaml = name[0] == "yaml" and ("load" in name[1] or name[1] == "compose")
                    if is_json or is_yaml:
                        found.add(str(path.relative_to(ROOT)))
    assert found == set(EXCEPTIONS)
