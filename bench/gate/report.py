"""Write a gate's outcome as aligned text, Markdown or JUnit XML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from bench.gate.decision import EXIT_CODES, VerdictName
from bench.report import aligned, number, with_ends
from plugins_manifest.outputs import markdown, one_line, xml_text

Facts = Mapping[str, Any]
_LONGEST = 500  # characters of a cell or line of a comment, which hosts bound as a whole
_GOOD = ("pass", "identical")
_HEADER = ("plugin", "metric", "verdict", "difference", "margin", "prompts", "to decide")
_MARKS: dict[VerdictName, str] = {
    "pass": "✅",
    "identical": "✅",
    "real loss inside the margin": "⚠️",
    "regression": "❌",
    "inconclusive": "❔",
}
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
    ending = [one_line(line, longest=_LONGEST) for line in _ending(facts)]
    return "\n".join([*lines, "", *ending])


def as_markdown(facts: Facts) -> str:
    """Return a comment for a pull request."""
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
        cells = [markdown(cell, longest=_LONGEST) for cell in _cells(test)]
        lines.append(f"| {_MARKS[test['verdict']]} | " + " | ".join(cells) + " |")
    ending = [f"- {markdown(line, longest=_LONGEST)}" for line in _ending(facts)]
    return "\n".join([*lines, "", *ending, "", _NOTE, ""])


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


def _ending(facts: Facts) -> Sequence[str]:
    n_looks = len(facts["looks"])
    lines = [f"verdict: {facts['verdict']} ({_SUMMARY[facts['verdict']]})"]
    lines += [test_line(test) for test in facts["tests"] if test["verdict"] not in _GOOD]
    lines += _unseen(facts["tests"])
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
