"""Write a gate's outcome as aligned text, Markdown or JUnit XML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from bench.analysis.glossary import method_name
from bench.gate.decision import EXIT_CODES, VerdictName
from bench.report import aligned, number, with_ends
from plugins_manifest.outputs import markdown, one_line, xml_text

Facts = Mapping[str, Any]
_LONGEST = 500  # characters of a cell or line of a comment, which hosts bound as a whole
_LONGEST_NAME = 120  # of a cell with names of others
MAX_ROWS, MAX_SENTENCES = 15, 4  # of a comment
_GOOD = ("pass", "identical")
_HEADER = ("plugin", "metric", "verdict", "difference", "margin", "prompts", "to decide")
_MARKS: dict[VerdictName, str] = {
    "pass": "✅",
    "identical": "✅",
    "real loss inside the margin": "⚠️",
    "regression": "❌",
    "inconclusive": "❔",
}
_WORST_FIRST: tuple[VerdictName, ...] = (
    *("regression", "inconclusive", "real loss inside the margin"),
    *("pass", "identical"),
)
_SUMMARY: dict[VerdictName, str] = {
    "pass": "no loss beyond the margins",
    "identical": "all compared images are byte-identical to the baseline's",
    "real loss inside the margin": "something got worse, by less than its margin",
    "regression": "the candidate is worse than the baseline",
    "inconclusive": "the images are not enough to decide",
}


def as_text(facts: Facts) -> str:
    """Return an aligned table with the verdict below."""
    lines = aligned([_HEADER, *(_cells(test) for test in facts["tests"])])
    verdict = facts["verdict"]
    ending = [f"verdict: {verdict} ({_SUMMARY[verdict]})"]
    ending += [test_line(test) for test in facts["tests"] if test["verdict"] not in _GOOD]
    ending += _facts_below(facts)
    ending = [one_line(line, longest=_LONGEST) for line in ending]
    return "\n".join([*lines, "", *ending])


def as_markdown(facts: Facts, links: Sequence[Mapping[str, str]] = ()) -> str:
    """Return a comment for a pull request, of less than 60 lines for any number of tests.

    `links` are the addresses of the worst pairs' pictures, as `worst.link_pictures` returns them.
    """
    tests = sorted(facts["tests"], key=lambda test: _WORST_FIRST.index(test["verdict"]))
    lines = [
        f"## {_MARKS[facts['verdict']]} xbench gate: {facts['verdict']}",
        "",
        f"{headline(facts)}",
        "",
        *_markdown_table(("", *_HEADER), [(_MARKS[t["verdict"]], *_cells(t)) for t in tests]),
        *_markdown_pairs(facts.get("worst_pairs") or (), links),
    ]
    bad = [test_line(test) for test in tests if test["verdict"] not in _GOOD]
    more = [f"{len(bad) - MAX_SENTENCES:,} more such sentences are in gate.json"]
    bad = bad[:MAX_SENTENCES] + (more if len(bad) > MAX_SENTENCES else [])
    ending = [f"- {markdown(line, longest=_LONGEST)}" for line in (*bad, *_facts_below(facts))]
    return "\n".join([*lines, "", *ending, "", _NOTE, ""])


def headline(facts: Facts) -> str:
    """Return the outcome in one sentence, with how many tests it is of."""
    verdict, tests = facts["verdict"], facts["tests"]
    n = sum(test["verdict"] == verdict for test in tests)
    total = f"{len(tests):,} {'test' if len(tests) == 1 else 'tests'}"
    count = f"{total}" if verdict in _GOOD else f"{n:,} of {total}"
    return f"{_SUMMARY[verdict].capitalize()} ({count})."


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table of the first rows, and below it where the others are."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row in rows[:MAX_ROWS]:
        lines.append("| " + " | ".join(markdown(c, longest=_LONGEST_NAME) for c in row) + " |")
    if len(rows) > MAX_ROWS:
        left = f"{len(rows) - MAX_ROWS:,} more tests, none of them worse, are in the run's"
        lines += ["", f"{left} gate.json and in the JUnit file."]
    return lines


def _markdown_pairs(pairs: Sequence[Facts], links: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a table of the worst pairs: pictures where they have an address, else scores."""
    if not pairs:
        return []
    lines = [
        "",
        "The largest losses of single images, baseline and candidate at the same prompt and seed:",
        "",
        "| plugin and metric | prompt | baseline | candidate |",
        "|---|---|---|---|",
    ]
    for i, pair in enumerate(pairs):
        found = links[i] if i < len(links) else {}
        setting = method_name(pair["method"])
        setting += "" if pair["t0"] is None else f", t0 {pair['t0']:g}"
        cells = [
            markdown(f"{pair['plugin']}, {pair['metric']} ({setting})", longest=_LONGEST_NAME),
            markdown(f"{pair['prompt']} (seed {pair['seed']})", longest=_LONGEST_NAME),
        ]
        for side in ("baseline", "candidate"):
            alt = markdown(f"{side}: {pair['prompt']}", longest=_LONGEST_NAME)
            picture = f"![{alt}]({found[side]}) " if side in found else ""
            cells.append(picture + markdown(number(pair[side])))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def as_junit(facts: Facts) -> str:
    """Return JUnit XML: a case for each test; regressions are failures, undecided tests errors."""
    tests = facts["tests"]
    verdicts = [test["verdict"] for test in tests]
    suite = ElementTree.Element(
        "testsuite",
        name="xbench gate",
        tests=str(len(tests)),
        failures=str(verdicts.count("regression")),
        errors=str(verdicts.count("inconclusive")),
        timestamp=facts["created"].replace("+00:00", ""),
    )
    for test in tests:
        case = ElementTree.SubElement(
            suite, "testcase", classname=one_line(test["plugin"]), name=one_line(test["metric"])
        )
        text = "; ".join(f"{k}: {v}" for k, v in zip(_HEADER[2:], _cells(test)[2:], strict=True))
        if EXIT_CODES[test["verdict"]]:
            kind = "failure" if test["verdict"] == "regression" else "error"
            node = ElementTree.SubElement(case, kind, type=test["verdict"], message=one_line(text))
            node.text = xml_text(test["sentence"])
        else:
            ElementTree.SubElement(case, "system-out").text = xml_text(
                f"{text}; {test['sentence']}"
            )
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def test_line(test: Facts) -> str:
    """Return the sentence of a test with its names."""
    return f"{test['plugin']}, {test['metric']}: {test['sentence']}"


def _unseen(tests: Sequence[Facts]) -> list[str]:
    """Return what the tests that passed do not exclude."""
    rates = [
        rate
        for test in tests
        if test["verdict"] == "pass" and (rate := test["collapse_rate_high"]) is not None
    ]
    if not rates:
        return []
    seen = sum(test["n_collapsed"] or 0 for test in tests if test["verdict"] == "pass")
    return [
        f"single prompts that collapsed in tests that passed: {seen or 'none'}; up to "
        f"{max(rates):.1%} of the prompts may collapse unseen"
    ]


def _cells(test: Facts) -> tuple[str, ...]:
    further = test["further_images"]
    return (
        test["plugin"],
        test["metric"],
        test["verdict"],
        with_ends(test["difference"], (test["low"], test["high"]), signed=True),
        number(test["margin"]),
        str(test["n_prompts"]),
        "-" if further is None else f"{further} more images",
    )


def _facts_below(facts: Facts) -> list[str]:
    """Return what holds for the whole gate: collapses, limits, looks, the planned number."""
    n_looks = len(facts["looks"])
    lines = _unseen(facts["tests"])
    if facts.get("stopped"):
        lines.append(f"stopped by {facts['stopped']}: run the same command again to go on")
    how = "open after" if facts["verdict"] == "inconclusive" else "decided by"
    lines.append(f"{how} look {facts['look']} of {n_looks}; {facts['candidate']['folder']}")
    if facts["planned_prompts"] is not None:
        power = facts["policy"]["power"]
        lines.append(
            f"planned: {facts['planned_prompts']} prompts let all tests pass in {power:.0%} of "
            "gates without a loss (from the spread measured here)"
        )
    return lines


_NOTE = (
    "Differences are candidate - baseline, paired by prompt and seed, each with its own 95 % "
    "interval; verdicts are corrected by Holm over all tests and for early looks."
)
