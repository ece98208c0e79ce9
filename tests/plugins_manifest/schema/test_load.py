"""A manifest is read whole or refused with every problem, file and line."""

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import reduce
from operator import getitem
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from plugins_manifest.errors import UserError
from plugins_manifest.schema.load import load_manifest, parse_manifest, shipped_manifests
from plugins_manifest.schema.manifest import json_schema

GOOD = """\
schema: 1
name: mine
family: pocket
plugins:
  - id: a
    kind: lora
    source: pocket:lora-outline
cases:
  - prompt: a red circle
methods:
  - name: base
  - name: xadapter
    t0: [0.7]
"""
KNOWN = {"family": ("pocket",), "method": ("base", "sdedit", "xadapter"), "metric": ("edge-f1",)}


PAIRS = list(zip("abcdefghij", "bcdefghijk", strict=True))  # 9^10 items, written as aliases


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        parse_manifest(text, Path("mine.yaml"), known=KNOWN)
    return caught.value.problems


def test_every_shipped_manifest_loads() -> None:
    assert {"pocket", "pocket-smoke"} <= set(shipped_manifests())
    for name in shipped_manifests():
        assert load_manifest(name).name == name


def test_good_manifest_keeps_its_values_and_fills_in_defaults() -> None:
    manifest = parse_manifest(GOOD, Path("mine.yaml"), known=KNOWN)
    assert manifest.plugin("a").weight == 1.0
    assert manifest.methods[1].t0 == (0.7,)
    assert manifest.seeds == (0,)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("name: base", "name: bose", 11, "unknown method 'bose': use base"),
        ("family: pocket", "family: poket", 3, "unknown family 'poket': use pocket"),
        ("kind: lora", "kind: lor", 6, "unknown kind 'lor': use lora"),
        ("kind: lora", "kind: lora\n    triger: x", 7, "unknown key 'triger': use trigger"),
        ("t0: [0.7]", "t0: [0.7, 1.5]", 13, "t0 is 1.5"),
        ("t0: [0.7]", "t0: [0]", 13, "use 0 < t0 <= 1"),
        ("kind: lora", "kind: controlnet", 5, "a controlnet needs a condition"),
        ("kind: lora", "kind: lora\n    sha256: abc", 7, "64 hexadecimal digits"),
        ("schema: 1", "schema: 1\nsettings: {base_size: [63, 64]}", 2, "multiple of 8: use 64"),
        ("schema: 1", "schema: 1\nmetrics: [edge-f2]", 2, "unknown metric 'edge-f2': use edge-f1"),
        ("schema: 1", "schema: 2", 1, "schema: use 1 (it is 2)"),
        ("schema: 1", "schema: 1\nschema: 1", 2, "comes twice"),
    ],
)
def test_each_mistake_is_reported_with_its_line(
    old: str, new: str, line: int, message: str
) -> None:
    (problem,) = problems_of(GOOD.replace(old, new, 1))
    assert problem.startswith(f"mine.yaml:{line}: ")
    assert message in problem


def test_all_mistakes_are_reported_together() -> None:
    text = GOOD.replace("lora\n", "lor\n").replace("0.7", "7").replace("name: base", "name: bas")
    assert len(problems_of(text + "stepps: 3\n")) == 4


MANY = """\
schema: 1
name: my manifest
famly: pocket
plugins:
  - {id: a, kind: lorra, source: "urn:air:sd1:lora:civitai:82098"}
  - {id: a, kind: lora, source: "ftp://host/x.safetensors", weight: heavy, condition: canny}
  - {id: b, kind: controlnet, source: "https://civitai.com/x?token=abc", sha256: 12}
cases: {source: pocket, seed: 5, n: 0}
methods: [{name: bse}, {name: xadapter, t0: 0.7}]
metrics: [edge-f2]
settings: {steps: 0, dtype: float8}
stacks: [{id: s, plugins: [{id: c}]}]
"""


def test_every_mistake_of_a_manifest_is_reported_from_top_to_bottom() -> None:
    known = {**KNOWN, "source": ("pocket", "urn", "hf", "https")}
    with pytest.raises(UserError) as caught:
        parse_manifest(MANY, Path("m.yaml"), known=known)
    starts = [
        "m.yaml:1: family is missing: add it",
        "m.yaml:2: name: use letters, digits, '.', '_' and '-', with a letter or digit in front "
        "(it is 'my manifest')",
        "m.yaml:3: unknown key 'famly': use family",
        "m.yaml:5: plugins[0].kind: unknown kind 'lorra': use lora",
        "m.yaml:5: plugins[0].source: 'urn:air:sd1:lora:civitai:82098' names no version, so it",
        "m.yaml:6: plugins[1].source: unknown source 'ftp': use ",
        "m.yaml:6: plugins[1].weight: write a number (it is 'heavy')",
        "m.yaml:6: plugins[1]: a lora takes no condition",
        "m.yaml:6: plugins[1].id: 'a' is listed twice: remove one",
        "m.yaml:7: plugins[2].source: the address on civitai.com contains a secret (token)",
        "m.yaml:7: plugins[2].sha256: write a text, in quotes if it looks like a number (it is 12)",
        "m.yaml:7: plugins[2]: a controlnet needs a condition",
        "m.yaml:8: cases.n: use 1 or more (it is 0)",
        "m.yaml:9: methods[0].name: unknown method 'bse': use base",
        "m.yaml:9: methods[1].t0: write a list, [...] (it is 0.7)",
        "m.yaml:10: metrics: unknown metric 'edge-f2': use edge-f1",
        "m.yaml:11: settings.steps: use 1 or more (it is 0)",
        "m.yaml:11: settings.dtype: use 'float32', 'float16' or 'bfloat16' (it is 'float8')",
        "m.yaml:12: stacks[0].plugins: give at least 2 (it has 1)",
        "m.yaml:12: stacks[0].plugins[0].id: unknown plugin 'c': use a, b",
    ]
    problems = caught.value.problems
    assert len(problems) == len(starts)
    for problem, start in zip(problems, starts, strict=True):
        assert problem.startswith(start)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("urn:air:sd1:lora:civitai:1", "names no version"),
        ("urn:air:sd1:lora:civitai:one@two", "the id 'one' is not a number: Civitai's are"),
        ("http://host/x", "is not encrypted: only https"),
        ("hf://owner", "is not an address on the Hub: write hf://OWNER/REPOSITORY@COMMIT/FILE"),
        ("https://me:pw@host/x", "contains a secret (a user name)"),
    ],
)
def test_a_wrong_source_is_reported_with_its_line_and_no_secret(source: str, message: str) -> None:
    (problem,) = problems_of(GOOD.replace("pocket:lora-outline", source))
    assert problem.startswith("mine.yaml:7: plugins[0].source: ")
    assert message in problem and "pw" not in problem


@pytest.mark.parametrize(
    "text",
    [
        "plugins: &a [*a]",
        "a: &a {b: *a}",
        "a: &a [x]\n" + "".join(f"{c}: &{c} [{', '.join(['*' + b] * 9)}]\n" for b, c in PAIRS),
        "[" * 1000,
    ],
)
def test_aliases_and_brackets_without_end_are_refused_at_once(text: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith("mine.yaml") and len(problem) < 300


WILD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**70, float("nan"), "", "x", "a" * 300, b"x", [], {}, [[]]),
    *({"id": []}, {1: 2}, ["x", None], "hf://a", "urn:air:x", "controlnet", "upgraded"),
)
STACKED = """\
schema: 1
name: mine
family: pocket
plugins:
  - {id: a, kind: lora, source: "pocket:x", native: c, weight: 0.5}
  - {id: b, kind: controlnet, source: "pocket:y", condition: canny, seeds: [1]}
  - {id: c, kind: lora, source: "pocket:z", side: upgraded}
stacks: [{id: s, plugins: [{id: a}, {id: b, scale: 0.5}]}]
cases: {source: pocket, seed: 1, n: 2}
methods: [{name: base}, {name: xadapter, t0: [0.7]}]
settings: {steps: 3, base_size: [64, 64]}
"""


def places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def damaged(rng: Random) -> str:
    """Return a good manifest with a few values replaced or removed, sometimes with a wrong sign."""
    data = yaml.safe_load(STACKED)
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice(list(places(data)))
        here = reduce(getitem, way, data)
        if rng.random() < 0.3:
            del here[last]
        else:
            here[last] = deepcopy(rng.choice(WILD))
    text = yaml.safe_dump(data)
    at = rng.randrange(len(text))
    return text if rng.random() < 0.8 else text[:at] + rng.choice("{}[]:&*!|\t'") + text[at + 1 :]


def test_any_damage_is_reported_with_its_line() -> None:
    reported = []
    for seed in range(150):
        try:
            parse_manifest(damaged(Random(seed)), Path("mine.yaml"), known=KNOWN)
        except UserError as error:
            reported.append(error.problems)
    assert len(reported) > 120 and all(reported)
    lines = re.compile(r"mine\.yaml(:\d+: .| is not a manifest)")
    assert [text for problems in reported for text in problems if not lines.match(text)] == []


def test_missing_key_is_named() -> None:
    assert problems_of(GOOD.replace("family: pocket\n", "")) == (
        "mine.yaml:1: family is missing: add it",
    )


def test_unknown_case_source_names_the_valid_ones() -> None:
    text = GOOD.replace("cases:\n  - prompt: a red circle", "cases: {source: coco, n: 3}")
    assert "coco-val2017" in problems_of(text)[0]


@pytest.mark.parametrize("text", ["", "- a\n- b", "a: [", "just words"])
def test_other_content_than_a_manifest_is_refused_in_one_message(text: str) -> None:
    assert len(problems_of(text)) == 1


def test_unknown_manifest_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown manifest 'pockt': use pocket"):
        load_manifest("pockt")
    with pytest.raises(UserError, match=r"no manifest file .no/such\.yaml."):
        load_manifest("no/such.yaml")


def test_fingerprint_depends_on_content_and_not_on_layout() -> None:
    one = parse_manifest(GOOD, Path("one.yaml"))
    two = parse_manifest("# a comment\n" + GOOD.replace("[0.7]", "\n      - 0.70"), Path("b.yaml"))
    other = parse_manifest(GOOD.replace("0.7", "0.8"), Path("one.yaml"))
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()


def test_written_out_manifest_reads_back_the_same(tmp_path: Path) -> None:
    manifest = load_manifest("pocket")
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(manifest.as_data()))
    assert load_manifest(path).fingerprint() == manifest.fingerprint()


def test_json_schema_knows_every_key() -> None:
    assert {"schema", "plugins", "cases", "methods"} <= set(json_schema()["properties"])
