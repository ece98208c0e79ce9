"""README shows the end of the default run: every plugin, in the words that the command prints."""

import re
from pathlib import Path

from bench.analysis.words import MEANINGS, WORDS, verb_of
from plugins_manifest.schema import load_manifest

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"^```text\n(.*?)^```$", README, re.M | re.S)
*TABLES, SENTENCES, _ = BLOCK.split("\n\n")
MANIFEST = load_manifest("pocket")
PLUGINS = [spec.id for spec in MANIFEST.plugins if spec.side == "base"]


def word_of(plugin: str) -> str:
    """Return the word of a plugin's sentence: the longest verb that it begins with."""
    (rest,) = re.findall(rf"^  {plugin} (.*)", SENTENCES, re.M)
    found = [word for word in WORDS if rest.startswith(verb_of(word).split(" on the ")[0])]
    assert found, rest
    return found[0]


def test_every_plugin_of_the_default_run_has_a_sentence_and_a_table() -> None:
    assert sorted(re.findall(r"^  (pocket-\w+) ", SENTENCES, re.M)) == sorted(PLUGINS)
    assert sorted(table.split(" (")[0] for table in TABLES[:-1]) == sorted(PLUGINS)
    assert "..." not in BLOCK
    assert max(map(len, BLOCK.splitlines())) <= 100


def test_every_setting_of_the_default_run_is_in_each_table() -> None:
    planned = [
        (spec.name, f"{t0:g}" if t0 is not None else "-")
        for spec in MANIFEST.methods
        for t0 in (spec.t0 or [None])
    ]
    for table in TABLES[:-1]:
        rows = re.findall(r"^[*= ] (\w+)\s+([\d.]+|-)  ", table, re.M)
        assert sorted(rows) == sorted(planned), table


def test_the_worst_plugin_comes_first_and_the_tables_have_the_same_order() -> None:
    order = re.findall(r"^  (pocket-\w+) ", SENTENCES, re.M)
    ranks = [WORDS.index(word_of(plugin)) for plugin in order]  # type: ignore[arg-type]
    assert ranks == sorted(ranks)
    assert [table.split(" (")[0] for table in TABLES[:-1]] == order
    (n,) = re.findall(r"^(\d+) of \d+ plugins? (?:is|are) shown", SENTENCES)
    assert int(n) == sum(word_of(plugin) == "works" for plugin in order)


def test_every_word_of_a_verdict_is_explained() -> None:
    prose = README.replace(BLOCK, "")
    for word in MEANINGS:
        assert f"**{word.capitalize()}**" in prose, word
    for word in ("Keeps", "Distance"):
        assert f"**{word}**" in prose


def test_retired_numbers_are_not_shown() -> None:
    lowered = README.lower()
    for word in ("quality gain", "split half", "compatibility score"):
        assert word not in lowered
    assert "docs/verdicts.md" in README
