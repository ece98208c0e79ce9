"""Deal the batches of a plan to shards: processes or machines that each render a part of it.

Every shard computes the same dealing from the plan alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from bench.errors import UserError
from bench.plan.cost import work_of
from bench.plan.plan import Group, Plan

MOST_SHARDS = 9999
_SHARD = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")
_UNITS = 10**6  # costs are whole numbers of this part of the plan's, alike on every machine


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of a plan that is dealt to `count` shards."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard of a text such as 2/8; raise `UserError` for anything else."""
        found = _SHARD.fullmatch(text.strip())
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.index <= shard.count:
            raise UserError(
                f"{text!r} is not a shard: use I/N with I from 1 to N and N up to {MOST_SHARDS}, "
                "e.g. --shard 1/4 to --shard 4/4"
            )
        return shard

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """Return the shard that run.json names; None for a whole run."""
        text = facts.get("shard")
        return None if text is None else cls.parse(str(text))

    @property
    def name(self) -> str:
        """The name of the shard's folder."""
        return f"{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def deal(plan: Plan, count: int) -> tuple[tuple[Group, ...], ...]:
    """Return the batches of each of `count` shards, each in the plan's order.

    Longest processing time first: each batch, the costliest first, goes to the shard with the
    least to do (Graham 1969, "Bounds on Multiprocessing Timing Anomalies": at most 4/3 of the
    shortest time).
    """
    costs = _costs(plan)
    loads, dealt = [0] * count, [[] for _ in range(count)]
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        least = loads.index(min(loads))
        loads[least] += costs[place]
        dealt[least].append(place)
    return tuple(tuple(plan.groups[place] for place in sorted(places)) for places in dealt)


def part_of(plan: Plan, shard: Shard | None) -> Plan:
    """Return the plan with the batches of one shard alone; the whole plan for None."""
    if shard is None:
        return plan
    return replace(plan, groups=deal(plan, shard.count)[shard.index - 1], shard=str(shard))


def _costs(plan: Plan) -> list[int]:
    """Return the cost of each batch; its images count where the family's cost is not known.

    Rounded, as the last bits of a logarithm differ between machines.
    """
    work = [work_of(plan, [group]) for group in plan.groups]
    known = [len(g.trials) if w is None else w for g, w in zip(plan.groups, work, strict=True)]
    total = sum(known) or 1
    return [round(_UNITS * cost / total) for cost in known]
