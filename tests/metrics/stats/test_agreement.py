"""Claims about agreement; the numbers are those of Krippendorff's own example."""

import numpy as np
import pytest

from metrics.stats.agreement import agreement

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example D: 4 observers, 12 units
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)


def example() -> tuple[list[str], list[int], list[str]]:
    rows = [(u, a) for row in OBSERVERS for u, a in enumerate(row) if a is not None]
    return [f"u{u}" for u, _ in rows], [a for _, a in rows], [f"p{u}" for u, _ in rows]


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_equals_the_published_example(level, expected):
    found = agreement(*example(), domain=[1, 2, 3, 4, 5], level=level)
    assert found.value == pytest.approx(expected, abs=5e-4)
    assert found.low < found.value < found.high
    assert found.n == 11  # the twelfth unit has one answer


def test_full_agreement_is_one_and_guessing_is_about_zero():
    units = [f"u{i // 3}" for i in range(900)]
    prompts = [f"p{i // 9}" for i in range(900)]
    equal = ["first" if i // 3 % 2 else "tie" for i in range(900)]
    guessed = np.random.default_rng(2).choice(["first", "second", "tie"], 900).tolist()
    domain = ["first", "second", "tie"]
    assert agreement(units, equal, prompts, domain=domain, level="nominal").value == 1
    chance = agreement(units, guessed, prompts, domain=domain, level="nominal")
    assert chance.low < 0 < chance.high and abs(chance.value) < 0.06


def test_nothing_to_compare_gives_null_with_a_reason():
    alone = agreement(["a", "b"], [1, 2], ["p", "q"], domain=[1, 2], level="nominal")
    assert (alone.value, alone.n, alone.reason) == (None, 0, "no unit has two answers")
    same = agreement(["a", "a"], [1, 1], ["p", "p"], domain=[1, 2], level="nominal")
    assert (same.value, same.reason) == (None, "all answers are equal")
    none = agreement([], [], [], domain=[1, 2], level="nominal")
    assert none.value is None and none.n == 0
