"""Claims about how the batches of a plan are dealt to shards."""

import pytest

from bench.errors import UserError
from bench.plan.cost import work_of
from bench.plan.plan import Plan
from bench.plan.shards import Shard, deal, part_of
from plugins_manifest.schema.manifest import Manifest
from tests.bench.conftest import plan_of


@pytest.fixture
def plan(manifest: Manifest) -> Plan:
    """Return a plan of 20 batches of different costs."""
    return plan_of(manifest.model_copy(update={"seeds": tuple(range(30))}))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_every_batch_is_in_exactly_one_shard_in_the_order_of_the_plan(
    plan: Plan, count: int
) -> None:
    dealt = deal(plan, count)
    order = {group.group_id: place for place, group in enumerate(plan.groups)}
    assert len(dealt) == count
    assert sorted(order[g.group_id] for part in dealt for g in part) == list(range(len(order)))
    for part in dealt:
        assert part == tuple(sorted(part, key=lambda group: order[group.group_id]))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_no_shard_has_a_batch_more_to_do_than_another(plan: Plan, count: int) -> None:
    loads = [work_of(plan, part) or 0.0 for part in deal(plan, count)]
    costliest = max(work_of(plan, [group]) or 0.0 for group in plan.groups)
    assert len({round(work_of(plan, [group]) or 0.0, 3) for group in plan.groups}) > 2
    assert max(loads) - min(loads) <= costliest * 1.001


def test_dealing_again_gives_the_same_parts(plan: Plan, manifest: Manifest) -> None:
    again = plan_of(manifest.model_copy(update={"seeds": tuple(range(30))}))
    assert deal(again, 4) == deal(plan, 4)


def test_a_part_has_its_trials_under_the_ids_of_the_whole_plan(plan: Plan) -> None:
    parts = [part_of(plan, Shard(index, 3)) for index in (1, 2, 3)]
    ids = [trial.trial_id for part in parts for trial in part.trials]
    assert sorted(ids) == sorted(trial.trial_id for trial in plan.trials)
    assert part_of(plan, None) is plan
    assert [part.title for part in parts] == [f"small, shard {i}/3" for i in (1, 2, 3)]


def test_a_shard_is_written_as_it_is_read() -> None:
    assert str(Shard.parse(" 2/8 ")) == "2/8"
    assert Shard.parse("2/8").name == "2-of-8"
    assert Shard.of_facts({"shard": "2/8"}) == Shard(2, 8)
    assert Shard.of_facts({}) is None


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1/0", "1", "1/", "-1/3", "a/b", "1/99999", "1/2/3"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"is not a shard: use I/N .* e\.g\. --shard 1/4"):
        Shard.parse(text)
