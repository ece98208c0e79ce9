"""A gate's outcome for people and machines: aligned text, Markdown, JUnit XML. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from bench.report.text import number

Facts = Mapping[str, Any]
_HEADER = ("plugin", "metric", "verdict", "difference", "margin", "prompts", "to decide")
_MARKS = {"pass": "✅", "regression": "❌", "inconclusive": "❔"}
_SUMMARY = {
    "pass": "nothing is lost beyond the margins",
    "regression": "the candidate is worse than the baseline",
    "inconclusive": "the images do not decide it",
}


def as_text(facts: Facts) -> str:
    """An aligned table with the verdict below."""
    rows = [_HEADER, *(_cells(test) for test in facts["tests"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, "", *_ending(facts)])


def as_markdown(facts: Facts) -> str:
    """A comment for a pull request."""
    verdict = facts["verdict"]
    lines = [
        f"## {_MARKS[verdict]} xbench gate: {verdict}",
        "",
        f"{_SUMMARY[verdict].capitalize()}.",
        "",
        "| | " + " | ".join(_HEADER) + " |",
        "|---" * (len(_HEADER) + 1) + "|",
    ]
    for test in facts["tests"]:
        cells = [cell.replace("|", "\\|") for cell in _cells(test)]
        lines.append(f"| {_MARKS[test['verdict']]} | " + " | ".join(cells) + " |")
    told = [line for line in _ending(facts) if line]
    return "\n".join([*lines, "", *(f"- {line}" for line in told), "", _NOTE, ""])


def as_junit(facts: Facts) -> str:
    """JUnit XML: one case a test, a regression is a failure, an undecided one an error."""
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
            suite, "testcase", classname=test["plugin"], name=test["metric"]
        )
        told = "; ".join(f"{k}: {v}" for k, v in zip(_HEADER[2:], _cells(test)[2:], strict=True))
        if test["verdict"] != "pass":
            kind = "failure" if test["verdict"] == "regression" else "error"
            node = ElementTree.SubElement(case, kind, type=test["verdict"], message=told)
            node.text = test["reason"]
        else:
            ElementTree.SubElement(case, "system-out").text = told
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cells(test: Facts) -> tuple[str, ...]:
    further = test["further_images"]
    return (
        test["plugin"],
        test["metric"],
        test["verdict"],
        _interval(test),
        number(test["margin"]),
        str(test["n_prompts"]),
        "-" if further is None else f"{further} more images",
    )


def _interval(test: Facts) -> str:
    if test["difference"] is None:
        return "-"
    told = number(test["difference"], signed=True)
    if test["low"] is None:
        return told
    return f"{told} [{number(test['low'], signed=True)}, {number(test['high'], signed=True)}]"


def _ending(facts: Facts) -> Sequence[str]:
    n_looks = len(facts["looks"])
    lines = [f"verdict: {facts['verdict']} ({_SUMMARY[facts['verdict']]})"]
    lines += [
        f"{test['plugin']}, {test['metric']}: {test['reason']}"
        for test in facts["tests"]
        if test["reason"] is not None
    ]
    lines.append(f"decided by look {facts['look']} of {n_looks}; {facts['candidate']['folder']}")
    if facts["planned_prompts"] is not None:
        power = facts["policy"]["power"]
        lines.append(
            f"planned: {facts['planned_prompts']} prompts let all tests pass in {power:.0%} of "
            "gates where nothing is lost (from the spread measured here)"
        )
    return lines


_NOTE = (
    "Differences are candidate - baseline, paired by prompt and seed, with 95 % intervals of their "
    "own; verdicts are corrected by Holm over all tests and for early looks."
)
