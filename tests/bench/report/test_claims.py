"""What a report may claim: only what a corrected test of its own table shows.

`recorded_functions.json`: functions of a run of the pocket plugins on 12 prompts, prompt by prompt;
four of its intervals of X-Adapter - SDEdit exclude 0 although the corrected test does not.
"""

import re
from pathlib import Path

import pytest

from bench.analysis.summary import Scores, arm_of
from bench.analysis.words import compared
from bench.report.blocks import Block, Bullets, Heading, Strong, Table
from bench.report.comparisons import against_sdedit
from bench.store import Row
from plugins_manifest.documents import read_json

RECORDED = read_json(Path(__file__).with_name("recorded_functions.json"))["plugins"]


def recorded_rows() -> list[Row]:
    """Return rows of `schema.SCORES`, as far as `Scores` uses them."""
    return [
        {
            **{"plugin": plugin, "kind": arm["kind"], "method": arm["method"], "t0": arm["t0"]},
            **{
                "adapter": None,
                "plugin_scale": 1.0,
                "adapter_scale": 1.0 if arm["method"] == "xadapter" else None,
            },
            **{"metric": facts["metric"], "level": "image", "recipe": "", "better": "higher"},
            **{"case_id": f"case-{i}", "seed": 0, "value": value, "n": 1},
        }
        for plugin, facts in RECORDED.items()
        for arm in facts["arms"]
        for i, value in enumerate(arm["values"])
    ]


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    rows = recorded_rows()
    scores = Scores(rows, {row["case_id"]: row["case_id"] for row in rows})
    return list(against_sdedit(scores, rows, sorted(RECORDED)))


@pytest.fixture(scope="module")
def table(blocks: list[Block]) -> list[dict[str, str]]:
    (table,) = [block for block in blocks if isinstance(block, Table)]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def claims_of(blocks: list[Block]) -> dict[tuple[str, str], str]:
    """Return what the sentences claim of each plugin and setting."""
    (bullets,) = [block for block in blocks if isinstance(block, Bullets)]
    found = {}
    for plugin, text in bullets.items:
        assert isinstance(plugin, Strong) and isinstance(text, str)
        sentence = text.split("X-Adapter ")[1].rstrip(".")
        for part in sentence.split("; "):
            claim, places = part.split(" SDEdit at ")
            found |= {(plugin.text, at): claim for at in places.split(", ")}
    return found


def test_no_sentence_claims_a_difference_whose_corrected_p_is_above_a_twentieth(
    blocks: list[Block], table: list[dict[str, str]]
) -> None:
    claims = claims_of(blocks)
    assert len(claims) == len(table) == 16
    for row in table:
        claim = claims[row["plugin"], row["at"]]
        shown = float(row["p (Holm)"].lstrip("< ")) <= 0.05
        assert (claim != "is not told apart from") == shown, row
        if shown:
            better = not row["X-Adapter - SDEdit"].startswith("-")
            assert claim == ("keeps more than" if better else "keeps less than")


def test_intervals_that_exclude_0_without_a_corrected_test_are_among_the_recorded(
    blocks: list[Block], table: list[dict[str, str]]
) -> None:
    def excludes_0(text: str) -> bool:
        low, high = (float(end) for end in re.findall(r"[\[ ]([-+.\d]+)[,\]]", text))
        return low > 0 or high < 0

    tempting = [row for row in table if excludes_0(row["X-Adapter - SDEdit"])]
    claims = claims_of(blocks)
    made = [row for row in tempting if claims[row["plugin"], row["at"]].startswith("keeps")]
    assert (len(tempting), len(made)) == (8, 4)
    # the README of an earlier version claimed hatched
    assert claims["pocket-hatched", "t0 0.9"] == "is not told apart from"


def test_directions_of_the_function_are_in_the_table(table: list[dict[str, str]]) -> None:
    assert {row["function"] for row in table} >= {"mask-iou (higher is better)"}


def test_without_sdedit_there_is_no_comparison() -> None:
    rows = [row for row in recorded_rows() if row["method"] != "sdedit"]
    scores = Scores(rows, {row["case_id"]: "p" for row in rows})
    assert [
        b for b in against_sdedit(scores, rows, ["pocket-canny"]) if isinstance(b, Heading)
    ] == []
    assert {arm_of(row).method for row in rows} == {"xadapter"}


@pytest.mark.parametrize(
    ("difference", "p", "better", "words"),
    [
        (0.2, 0.05, "higher", "keeps more than"),
        (0.2, 0.05, "lower", "keeps less than"),
        (-0.2, 0.001, "higher", "keeps less than"),
        (0.2, 0.0501, "higher", "is not told apart from"),
        (0.2, None, "higher", "is not told apart from"),
        (None, 0.001, "higher", "is not told apart from"),
    ],
)
def test_a_comparison_follows_its_corrected_test(difference, p, better: str, words: str) -> None:
    assert compared(difference, p, better=better) == words
