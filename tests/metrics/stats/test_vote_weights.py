"""Claims about the weights of votes: nobody counts for much more than others."""

import pytest

from metrics.stats.preference import Comparisons, rank_methods
from metrics.stats.vote_weights import MAX_NETWORK, MAX_RATER, Ballots, weigh_votes


def ballots(*given: tuple[str, str, int], winner: str = "first") -> Ballots:
    """Build the ballots of (rater, network, number of votes), all for the same winner."""
    rows = [(f"pair-{i}", rater, network) for rater, network, n in given for i in range(n)]
    items, raters, networks = zip(*rows, strict=True)
    return Ballots(items, [winner] * len(rows), raters, networks)


def total(votes: Ballots, weights: list[float], *, network: str) -> float:
    return sum(w for w, at in zip(weights, votes.networks, strict=True) if at == network)


def test_equal_raters_of_networks_of_their_own_count_fully():
    votes = ballots(*((f"r{n}", f"w{n}", 8) for n in range(6)))
    found = weigh_votes(votes)
    assert set(found.weights) == {1.0} and not found.left_out and not found.capped


def test_raters_of_one_network_alone_count_fully():
    assert set(weigh_votes(ballots(*((f"r{n}", "w", 8) for n in range(9)))).weights) == {1.0}


def test_a_network_counts_for_three_typical_raters_however_many_it_has():
    votes = ballots(
        *((f"r{n}", f"w{n}", 10) for n in range(9)), *((f"x{n}", "x", 10) for n in range(100))
    )
    found = weigh_votes(votes)
    assert total(votes, found.weights, network="x") == pytest.approx(MAX_NETWORK * 10)
    assert total(votes, found.weights, network="w0") == 10 and found.capped == {"x"}


def test_a_rater_counts_for_two_typical_raters_however_much_they_answer():
    votes = ballots(*((f"r{n}", f"w{n}", 10) for n in range(9)), ("x", "x", 500))
    found = weigh_votes(votes)
    assert total(votes, found.weights, network="x") == pytest.approx(MAX_RATER * 10)


def test_a_rater_against_nearly_all_others_is_left_out_and_one_with_too_few_answers_is_not():
    honest = ballots(*((f"r{n}", f"w{n}", 8) for n in range(6)))
    for n_false, is_left_out in ((8, True), (4, False)):
        other = ballots(("x", "x", n_false), winner="second")
        both = [(*getattr(honest, f), *getattr(other, f)) for f in vars(honest)]
        found = weigh_votes(Ballots(*both))
        assert (found.left_out == {"x"}) is is_left_out
        assert (found.weights[-1] == 0) is is_left_out
        assert found.gold["x"] == (0, n_false) and found.gold["r0"] == (8, 8)


def test_one_network_cannot_make_a_pair_gold():
    votes = ballots(
        *((f"x{n}", "x", 8) for n in range(100)), *((f"r{n}", f"w{n}", 8) for n in range(4))
    )
    assert weigh_votes(votes).gold == {}


def test_without_votes_there_are_no_weights():
    assert weigh_votes(Ballots([], [], [], [])).weights == []


def test_a_vote_of_weight_two_counts_as_two_votes():
    first, second = ["a", "a", "b"], ["b", "c", "c"]
    outcome, raters, prompts = [1.0, 0.5, 1.0], ["r", "s", "t"], ["p", "q", "p"]
    weighted = Comparisons(first, second, outcome, raters, prompts, weights=[2.0, 1.0, 1.0])
    doubled = Comparisons(
        *([values[0], *values] for values in (first, second, outcome, raters, prompts))
    )
    for one, other in zip(
        rank_methods(weighted).standings, rank_methods(doubled).standings, strict=True
    ):
        assert one.strength.value == pytest.approx(other.strength.value)
