"""The outcome of a gate's tests, each with one sentence: what, the numbers, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from bench.gate.decision import FUTILE, Rules, VerdictName
from bench.report import number, with_ends


@dataclass(frozen=True)
class GateTest:
    """The outcome for one plugin and metric.

    `difference` is candidate - baseline in the metric's units with its own 95 % interval;
    `p_loss`, `p_margin` (a loss of the margin), `p_beyond` (no loss beyond it) and `p_collapse` are
    Holm's, over all looks so far. `n_collapsed` prompts lost `collapse` or more, `n_gained` gained
    as much; a rate of collapses up to `collapse_rate_high` is not excluded. `n_planned_prompts` are
    those of the last look; `power_to_pass` is the chance to pass there if it is still to come.
    `further_images` of the candidate are enough to decide if the difference does not change.
    """

    plugin: str
    metric: str
    better: str
    margin: float
    verdict: VerdictName
    difference: float | None
    low: float | None
    high: float | None
    n_prompts: int
    n_planned_prompts: int
    n_images: int
    spread: float | None
    p_loss: float
    p_margin: float
    p_beyond: float
    p_collapse: float
    collapse: float | None
    n_collapsed: int | None
    n_gained: int | None
    collapse_rate_high: float | None
    power_to_pass: float | None
    further_images: int | None
    reason: str | None
    sentence: str = ""


@dataclass(frozen=True)
class Judgment:
    """All tests and the verdict; `look` is the number of the look that ended the gate."""

    verdict: VerdictName
    tests: tuple[GateTest, ...]
    look: int


def sentence(test: GateTest, rules: Rules) -> str:
    """Return the verdict of a test in one sentence."""
    margin, change = number(test.margin), _change(test)
    match test.verdict:
        case "identical":
            return (
                f"all {_count(test.n_images, 'compared image')} are byte-identical to the "
                "baseline's: nothing to do"
            )
        case "pass":
            return f"a loss of {margin} is excluded, {change}{_collapses(test)}: nothing to do"
        case "real loss inside the margin":
            return (
                f"it got worse, by less than the margin of {margin}, {change}{_collapses(test)}: "
                "ship it if that is its price, else set a smaller margin"
            )
        case "regression":
            return f"{_loss(test, rules)}: the leaderboard's page Compare has its largest losses"
        case "inconclusive":
            return _open(test, rules)


def _change(test: GateTest) -> str:
    ends = with_ends(test.difference, (test.low, test.high), signed=True)
    return f"it changed by {ends} over {_count(test.n_prompts, 'prompt')}"


def _collapses(test: GateTest) -> str:
    if test.collapse is None or test.collapse_rate_high is None:
        return ""
    seen = f"{test.n_collapsed} of {test.n_prompts}" if test.n_collapsed else "none"
    return (
        f" (of single prompts {seen} lost {number(test.collapse)} or more, "
        f"up to {test.collapse_rate_high:.1%} may)"
    )


def _loss(test: GateTest, rules: Rules) -> str:
    """Say which of the rules a regression broke."""
    margin, change = number(test.margin), _change(test)
    if test.p_collapse <= rules.alpha and test.collapse is not None:
        return (
            f"{test.n_collapsed} of {_count(test.n_prompts, 'prompt')} lost "
            f"{number(test.collapse)} or more ({test.n_gained or 'none'} gained as much), beyond "
            f"the tolerated {rules.max_collapse_rate:.2g} of prompts; on average {change}"
        )
    if test.p_beyond <= rules.alpha:
        return f"it got worse by more than the margin of {margin}, {change}"
    if test.power_to_pass is not None:
        if test.n_planned_prompts < rules.min_prompts:
            why = f"a pass needs {rules.min_prompts} prompts"
        else:
            why = f"its chance to be within the margin of {margin} at the last look is below "
            why += f"{FUTILE:.0%}"
        return f"it got worse, {change}, and {why}"
    return f"it got worse, {change}, and a loss of the margin of {margin} is not excluded"


def _open(test: GateTest, rules: Rules) -> str:
    if test.difference is None:
        return f"nothing is compared yet: {test.reason}"
    if test.further_images is None:
        return f"{test.reason}, {_change(test)}: complete the run and gate again"
    n, more = test.n_prompts, _count(test.further_images, "more image")
    if test.n_planned_prompts < rules.min_prompts:
        total = round(n + test.further_images * n / test.n_images)
        return (
            f"{_count(test.n_planned_prompts, 'prompt')} are fewer than the policy's "
            f"{rules.min_prompts} for a pass, {_change(test)}: make a baseline of about "
            f"{total:,} prompts, {more} of the candidate"
        )
    if n < test.n_planned_prompts:
        is_lost = test.p_loss <= rules.alpha
        then = test.reason if is_lost else "render the others to decide it"
        return f"open after {n} of {test.n_planned_prompts} prompts, {_change(test)}: {then}"
    return f"{test.reason}, {_change(test)}: about {more} of the candidate decide"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
