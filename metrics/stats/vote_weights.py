"""Weights of votes under which no rater and no network of raters can turn a ranking (ours).

A visitor who drops the cookie becomes a new rater, so raters of one network may be one person.
Three rules, for the votes on one question:

1. Gold pairs: a rater who disagrees with most others is left out. A pair is gold for a rater where
   at least `GOLD_NETWORKS` other networks have a winner and `GOLD_SHARE` of them the same one; each
   network has one voice, its majority. Left out are raters who answered at least `MIN_GOLD` gold
   pairs with a winner and chose the gold one on fewer than `MIN_AGREEMENT` of them.
2. A rater counts for at most `MAX_RATER` typical raters, where the typical number of votes u is the
   median over networks of the mean number of votes of a rater.
3. A network counts for at most `MAX_NETWORK` typical raters.

The weight of a vote of rater r in network w, with n_r votes, is
    w_r = min(1, MAX_RATER u / n_r),  W_w = sum over r in w of w_r n_r,
    weight = w_r min(1, MAX_NETWORK u / W_w),
divided by the largest weight, so that votes from one network alone count fully.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

GOLD_NETWORKS = 5
GOLD_SHARE = 0.8
MIN_GOLD = 5
MIN_AGREEMENT = 0.5
MAX_RATER = 2.0
MAX_NETWORK = 3.0


@dataclass(frozen=True)
class Ballots:
    """Votes on one question, one entry each; `winners` is None where a vote has none (a tie)."""

    items: Sequence[str]
    winners: Sequence[str | None]
    raters: Sequence[str]
    networks: Sequence[str]


@dataclass(frozen=True)
class Weighting:
    """The weight of each vote (0: left out), and what the rules did."""

    weights: list[float]
    gold: Mapping[str, tuple[int, int]]  # rater -> gold pairs chosen right, answered
    left_out: frozenset[str]  # raters
    capped: frozenset[str]  # networks


def weigh_votes(votes: Ballots) -> Weighting:
    """Return the weight of each vote by the three rules."""
    gold = _gold_agreement(votes)
    left_out = frozenset(
        rater for rater, (right, n) in gold.items() if n >= MIN_GOLD and right < MIN_AGREEMENT * n
    )
    kept = [r for r in votes.raters if r not in left_out]
    counts = Counter(kept)
    network_of = dict(zip(votes.raters, votes.networks, strict=True))
    by_network: dict[str, list[str]] = defaultdict(list)
    for rater in counts:
        by_network[network_of[rater]].append(rater)
    if not counts:
        return Weighting([0.0] * len(votes.raters), gold, left_out, frozenset())
    typical = median(mean(counts[r] for r in raters) for raters in by_network.values())
    own = {rater: min(1.0, MAX_RATER * typical / n) for rater, n in counts.items()}
    totals = {w: sum(own[r] * counts[r] for r in raters) for w, raters in by_network.items()}
    factor = {w: min(1.0, MAX_NETWORK * typical / total) for w, total in totals.items()}
    weight = {rater: own[rater] * factor[network_of[rater]] for rater in counts}
    largest = max(weight.values())
    return Weighting(
        [weight.get(rater, 0.0) / largest for rater in votes.raters],
        gold,
        left_out,
        frozenset(w for w, share in factor.items() if share < max(factor.values())),
    )


def _gold_agreement(votes: Ballots) -> dict[str, tuple[int, int]]:
    """Return how many gold pairs each rater chose right, and answered with a winner."""
    cast: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for item, winner, network in zip(votes.items, votes.winners, votes.networks, strict=True):
        if winner is not None:
            cast[item][network][winner] += 1
    voices = {item: _voices(networks) for item, networks in cast.items()}
    totals = {item: Counter(found.values()) for item, found in voices.items()}
    right: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    for item, winner, rater, network in zip(
        votes.items, votes.winners, votes.raters, votes.networks, strict=True
    ):
        if winner is None:
            continue
        others = totals[item].copy()
        if network in voices[item]:
            others[voices[item][network]] -= 1
        ((gold, n_gold),) = others.most_common(1) or [("", 0)]
        n = others.total()
        if n >= GOLD_NETWORKS and n_gold >= GOLD_SHARE * n:
            answered[rater] += 1
            right[rater] += winner == gold
    return {rater: (right[rater], n) for rater, n in answered.items()}


def _voices(networks: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Return the winner of each network's majority; networks without one are left out."""
    found = {}
    for network, winners in networks.items():
        (first, n), *rest = winners.most_common(2)
        if not rest or rest[0][1] < n:
            found[network] = first
    return found
