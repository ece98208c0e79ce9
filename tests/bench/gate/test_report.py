"""Claims about a gate's outcome as text, Markdown and JUnit XML when its texts are hostile."""

import copy
import json
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from bench.gate import as_junit, as_markdown, as_text, compare, load_policy
from tests.bench.gate.gate_runs import POLICY, write_run
from tests.plugins_manifest.test_outputs import HOSTILE


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the facts of an inconclusive gate: images are missing."""
    root = tmp_path_factory.mktemp("gate")
    write_run(root / "baseline")
    write_run(root / "few", noise_seed=3, mapper="d" * 64, failed=3)
    (root / "policy.yaml").write_text(json.dumps(POLICY))
    return compare(root / "baseline", root / "few", load_policy(root / "policy.yaml")).facts


def with_text(facts: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the facts with every text that others wrote replaced."""
    changed = copy.deepcopy(facts)
    for test in changed["tests"]:
        test |= {"plugin": text, "metric": text, "reason": text, "sentence": text}
    changed["candidate"]["folder"] = text
    return changed


def outline(markdown: str) -> list[tuple[str, str]]:
    """Return the types of all tokens, headings with their text."""
    tokens = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(markdown)
    found = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        is_title = before is not None and before.type == "heading_open"
        found.append((token.type, token.content if is_title else ""))
        found += [(child.type, "") for child in token.children or ()]
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_text_changes_neither_headline_nor_structure(facts: dict, text: str) -> None:
    plain, hostile = (outline(as_markdown(with_text(facts, words))) for words in ("x", text))
    assert hostile == plain
    titles = [title for _, title in hostile if title]
    assert titles == ["\u2754 xbench gate: inconclusive"]


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_text_adds_no_line_to_the_table(facts: dict, text: str) -> None:
    plain, hostile = (as_text(with_text(facts, words)).splitlines() for words in ("x", text))
    assert len(hostile) == len(plain)
    assert [line for line in hostile if line.startswith("verdict:")] == [
        line for line in plain if line.startswith("verdict:")
    ]
    assert all(line.isprintable() for line in hostile)


@pytest.mark.parametrize("text", HOSTILE)
def test_junit_is_well_formed_whatever_the_texts(facts: dict, text: str) -> None:
    changed = with_text(facts, text)
    root = ElementTree.fromstring(as_junit(changed).encode())
    cases = root.findall(".//testcase")
    assert len(cases) == len(changed["tests"])
    assert [len(case) for case in cases] == [1] * len(cases)


def test_a_comment_stays_short(facts: dict) -> None:
    long = as_markdown(with_text(facts, "a|b\n" * 100_000))
    assert len(long.encode()) < 60_000
