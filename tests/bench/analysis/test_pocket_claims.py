"""scripts/pocket-claims: each claim is a test that is corrected over all claims."""

from types import ModuleType

import numpy as np
import pytest

from bench.analysis import Scores
from metrics.stats import Estimate
from tests.bench.analysis.recorded import (
    arm,
    image_rows,
    scores_of,
    set_row,
    spread_out,
)
from tests.scripts import load_script

PLUGINS = ("pocket-canny", "pocket-mask", "pocket-outline", "pocket-hatched")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("pocket-claims")


def twelve(script: ModuleType, p_values: dict[tuple[str, str], tuple[float, float]]) -> list:
    """Return comparisons of four plugins and three claims; p is 1 where none is given."""
    found = []
    for plugin in PLUGINS:
        for what in (script.MORE, script.LOST, script.BETTER):
            ps = p_values.get((plugin, what), (1.0, 1.0))
            for t0, p in zip(script.CLAIMED_T0, ps, strict=True):
                difference = Estimate(np.sign(p) * 0.1, None, None, 128, 64)
                found.append(script.Comparison(plugin, "m", t0, what, difference, 1, abs(p)))
    return found


def outcome(script: ModuleType, p: tuple[float, float], *, others: float = 1.0) -> str:
    key = ("pocket-outline", script.MORE)
    known = {("pocket-hatched", script.MORE): (others, others), key: p}
    found = script.claims(twelve(script, known))
    assert len(found) == 12
    return next(c.outcome for c in found if (c.plugin, c.what) == key)


def test_the_better_of_two_plugins_does_not_carry_a_claim(script: ModuleType):
    # each interval excludes 0 (p .03), and with twelve claims nothing is shown
    assert outcome(script, (0.03, 0.03)) == "not shown"
    assert outcome(script, (0.003, 0.003)) == "shown"
    assert outcome(script, (0.0045, 0.0045)) == "not shown"
    assert outcome(script, (0.0045, 0.0045), others=0.0001) == "shown"  # Holm: eleven are left


def test_both_t0_have_to_show_it(script: ModuleType):
    assert outcome(script, (0.0001, 0.2)) == "not shown"
    assert outcome(script, (0.0001, -0.0001)) == "not shown"
    assert outcome(script, (-0.0001, -0.0002)) == "the opposite is shown"


def test_delta_is_compared_with_both_at_every_t0(
    script: ModuleType,
):
    n, rows = 32, []
    values = {"sdedit": (0.4, 0.9), "xadapter": (0.6, 0.9), "delta": (0.75, 0.7)}
    for method, (function, caption) in values.items():
        for t0 in script.DELTA_T0:
            of, seed = arm("pocket-canny", "controlnet", method, t0), sum(map(ord, method))
            rows += image_rows(of, "edge-f1-1px", spread_out(function, 0.1, n=n, seed=seed))
            rows += image_rows(of, "pocket-oracle", spread_out(caption, 0.1, n=n, seed=seed + 1))
            rows += set_row(of, "pocket-rest", 0.2, 0.3, n=n, seed=seed)
    scores = scores_of(rows, n)
    found = list(script.delta_comparisons(scores))
    assert len(found) == 3 * 2 * 3
    outcomes = {c.what: c.outcome for c in script.claims(found, script.DELTA_T0)}
    for rival in ("X-Adapter", "SDEdit"):
        assert outcomes[f"keeps more than {rival}"] == "shown"
        assert outcomes[f"is truer to captions than {rival}"] == "the opposite is shown"
        assert outcomes[f"looks better than {rival}"] == "not shown"
    text = script.report(scores, [], found)
    row = "| pocket-canny, edge-f1-1px | 0.9 | 0.400 | 0.600 | 0.750 | **+0.150** ["
    assert row in text and "**-0.200** [" in text
    assert "| pocket-canny | edge-f1-1px | 1 | delta - SDEdit | 0.35" in text


def run_of(gain: float, *, n: int = 64) -> Scores:
    """Return the canny ControlNet alone: X-Adapter ahead of SDEdit by a gain, behind base."""
    plugin, metric = "pocket-canny", "edge-f1-1px"
    rows = []
    means = {"base": 0.91, "sdedit": 0.6, "xadapter": 0.6 + gain}
    for method, mean in means.items():
        for t0 in (None,) if method == "base" else (0.7, 0.9):
            of = arm(plugin, "controlnet", method, t0)
            seed = sum(map(ord, method)) + int(10 * (t0 or 0))
            rows += image_rows(of, metric, spread_out(mean, 0.1, n=n, seed=seed))
            q = 0.25 if method == "base" else 0.02
            rows += set_row(of, "pocket-rest", q, 0.3, n=n, seed=seed)
    return scores_of(rows, n)


def test_claims_of_scores_are_shown_where_the_effect_is_large_alone(
    script: ModuleType,
):
    for gain, expected in ((0.1, "shown"), (0.01, "not shown"), (-0.1, "the opposite is shown")):
        scores = run_of(gain)
        found = list(script.comparisons(scores))
        outcomes = {c.what: c.outcome for c in script.claims(found)}
        assert outcomes == {script.MORE: expected, script.LOST: "shown", script.BETTER: "shown"}
        text = script.report(scores, found, [])
        assert f"| pocket-canny | {script.MORE} |" in text and f"| {expected} |" in text
        values = f"0.910 | - | 0.600 | {0.6 + gain:.3f} |"
        assert f"| pocket-canny, edge-f1-1px | 0.9 | {values}" in text
