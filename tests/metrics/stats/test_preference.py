"""Claims about strengths from votes; the reference is a log-linear model fitted by statsmodels."""

from itertools import combinations

import numpy as np
import pytest
import statsmodels.api as sm

from metrics.stats.preference import Comparisons, fit_davidson, more_votes, rank_methods

NAMES = ["base", "floor", "sdedit", "xadapter"]
STRENGTHS = np.array([-0.4, -0.9, 0.1, 1.2])
LOG_TIES = -0.3


def chances(gap: float) -> np.ndarray:
    """Davidson's chances of (first, second, tie), written out."""
    weights = np.array([np.exp(gap / 2), np.exp(-gap / 2), np.exp(LOG_TIES)])
    return weights / weights.sum()


def drawn_counts(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    gaps = [STRENGTHS[i] - STRENGTHS[j] for i, j in combinations(range(4), 2)]
    return np.array([rng.multinomial(n, chances(gap)) for gap in gaps], dtype=float)


def drawn_votes(
    seed: int, *, n_raters: int, n_prompts: int, rater_sd: float = 0.0, prompt_sd: float = 0.0
) -> Comparisons:
    """Votes of every rater on every prompt and pair; raters and prompts move the strengths."""
    rng = np.random.default_rng(seed)
    of_rater = rng.normal(0, rater_sd, (n_raters, 4))
    of_prompt = rng.normal(0, prompt_sd, (n_prompts, 4))
    rows = []
    for rater in range(n_raters):
        for prompt in range(n_prompts):
            strength = STRENGTHS + of_rater[rater] + of_prompt[prompt]
            for i, j in combinations(range(4), 2):
                outcome = rng.choice([1.0, 0.0, 0.5], p=chances(strength[i] - strength[j]))
                rows.append((NAMES[i], NAMES[j], outcome, f"r{rater}", f"p{prompt}"))
    return Comparisons(*(list(column) for column in zip(*rows, strict=True)))


def statsmodels_fit(counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Davidson's model as a log-linear one of Poisson counts (Fienberg and Larntz 1976)."""
    rows, target = [], []
    for pair, (i, j) in enumerate(combinations(range(4), 2)):
        for outcome in range(3):
            row = np.zeros(6 + 3 + 1)
            row[pair] = 1  # holds each pair's total
            share = {0: (1, 0, 0), 1: (0, 1, 0), 2: (0.5, 0.5, 1)}[outcome]
            for k, part in zip((i, j), share[:2], strict=True):
                if k > 0:  # the first method is the reference
                    row[6 + k - 1] += part
            row[9] = share[2]
            rows.append(row)
            target.append(counts[pair, outcome])
    fitted = sm.GLM(np.array(target), np.array(rows), family=sm.families.Poisson()).fit(tol=1e-12)
    strengths = np.concatenate([[0.0], fitted.params[6:9]])
    return strengths - strengths.mean(), float(fitted.params[9])


def test_maximum_likelihood_equals_the_log_linear_model():
    counts = drawn_counts(3, 60)
    strengths, log_ties = fit_davidson(counts[None], 4, prior_precision=0.0)
    expected, expected_ties = statsmodels_fit(counts)
    assert strengths[0] == pytest.approx(expected, abs=1e-6)
    assert log_ties[0] == pytest.approx(expected_ties, abs=1e-6)


def test_the_prior_moves_strengths_by_far_less_than_their_error():
    counts = drawn_counts(4, 60)
    plain, _ = fit_davidson(counts[None], 4, prior_precision=0.0)
    usual, _ = fit_davidson(counts[None], 4)
    assert np.abs(usual - plain).max() < 0.001


def test_many_votes_find_the_known_strengths():
    strengths, log_ties = fit_davidson(drawn_counts(5, 40_000)[None], 4)
    assert strengths[0] == pytest.approx(STRENGTHS - STRENGTHS.mean(), abs=0.03)
    assert log_ties[0] == pytest.approx(LOG_TIES, abs=0.03)


def test_many_tables_at_once_equal_one_by_one():
    tables = np.stack([drawn_counts(seed, 30) for seed in range(5)])
    together, _ = fit_davidson(tables, 4)
    for table, row in zip(tables, together, strict=True):
        assert row == pytest.approx(fit_davidson(table[None], 4)[0][0], abs=1e-8)


def test_a_method_that_won_every_vote_gets_a_finite_strength_and_the_first_rank():
    votes = Comparisons(["a"] * 9, ["b"] * 9, [1.0] * 9, list("uvwuvwuvw"), list("ppprrrsss"))
    ranking = rank_methods(votes)
    assert [s.name for s in ranking.standings] == ["a", "b"]
    assert 2 < ranking.standings[0].strength.value < 20
    assert ranking.standings[0].wins == 9 and ranking.standings[1].losses == 9


def test_the_order_in_a_pair_does_not_matter():
    votes = drawn_votes(6, n_raters=5, n_prompts=6)
    turned = Comparisons(
        votes.second, votes.first, [1 - o for o in votes.outcome], votes.raters, votes.prompts
    )
    for a, b in zip(rank_methods(votes).standings, rank_methods(turned).standings, strict=True):
        assert (a.name, a.wins, a.ties, a.losses) == (b.name, b.wins, b.ties, b.losses)
        assert a.strength.value == pytest.approx(b.strength.value, abs=1e-8)


def test_ranking_is_seeded_ordered_and_its_intervals_hold_their_values():
    votes = drawn_votes(7, n_raters=6, n_prompts=10, rater_sd=0.3, prompt_sd=0.5)
    ranking = rank_methods(votes)
    assert ranking == rank_methods(votes)
    assert ranking.standings[0].name == "xadapter"
    assert (ranking.n_raters, ranking.n_prompts, ranking.reason) == (6, 10, None)
    for standing in ranking.standings:
        for estimate in (standing.strength, standing.score):
            assert estimate.low < estimate.value < estimate.high
        assert standing.rank_low <= standing.rank <= standing.rank_high
        assert standing.wins + standing.ties + standing.losses == 3 * 6 * 10
    assert sum(s.score.value for s in ranking.standings) == pytest.approx(2.0)


def test_few_raters_give_strengths_without_an_interval_and_say_why():
    ranking = rank_methods(drawn_votes(8, n_raters=2, n_prompts=8))
    assert ranking.reason == "2 raters are too few for an interval (at least 5)"
    assert all(s.strength.low is None and s.rank_low is None for s in ranking.standings)


def test_no_vote_gives_no_standing():
    assert rank_methods(Comparisons([], [], [], [], [])).standings == []


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_claim():
    """Raters and prompts both differ; the truth is what endless raters and prompts would give."""
    endless = rank_methods(
        drawn_votes(1, n_raters=200, n_prompts=200, rater_sd=0.4, prompt_sd=0.4), n_draws=2
    )
    truth = {s.name: s.strength.value for s in endless.standings}
    held = []
    for seed in range(120):
        votes = drawn_votes(100 + seed, n_raters=10, n_prompts=12, rater_sd=0.4, prompt_sd=0.4)
        for s in rank_methods(votes, n_draws=400).standings:
            held.append(s.strength.low <= truth[s.name] <= s.strength.high)
    assert np.mean(held) >= 0.92


def test_more_votes_are_none_once_the_interval_excludes_an_even_chance():
    ranking = rank_methods(drawn_votes(3, n_raters=12, n_prompts=12))
    needed = more_votes(ranking)
    for standing in ranking.standings:
        low, high = standing.score.low, standing.score.high
        assert low is not None and high is not None
        assert (needed[standing.name] == 0) == (low > 0.5 or high < 0.5)
    assert needed["xadapter"] == 0


def test_the_votes_that_are_said_to_be_missing_tell_the_method():
    few = rank_methods(drawn_votes(5, n_raters=5, n_prompts=5))
    n_few = 5 * 5 * 6
    waiting = {name: n for name, n in more_votes(few).items() if n}
    name = min(waiting, key=lambda method: waiting[method])
    needed = waiting[name]
    assert needed < 5000
    # as many raters and prompts, in proportion, as the votes need
    side = int(np.sqrt((n_few + needed) / 6)) + 1
    told = [
        more_votes(rank_methods(drawn_votes(20 + i, n_raters=side, n_prompts=side), n_draws=200))
        for i in range(5)
    ]
    assert sum(found[name] == 0 for found in told) >= 4


def test_without_an_interval_the_missing_raters_are_counted_in_votes():
    ranking = rank_methods(drawn_votes(9, n_raters=2, n_prompts=8))
    assert set(more_votes(ranking).values()) == {3 * 8 * 6}  # three raters as busy as the two
