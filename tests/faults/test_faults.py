"""A sample of every kind of faults is survived; `scripts/break-it` tries the rest."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

import pytest

from tests.faults import kinds
from tests.faults.base import Fault

pytestmark = pytest.mark.system

SAMPLE = [
    pytest.param(fault, id=f"{kind.name}: {fault.name}")
    for kind in kinds()
    for fault in islice(kind.faults(Random(0)), kind.sample)
]


@pytest.mark.parametrize("fault", SAMPLE)
def test_fault_is_survived(fault: Fault, tmp_path: Path) -> None:
    fault.provoke(tmp_path)


def test_same_seed_draws_same_faults() -> None:
    for kind in kinds():
        first, second = (
            [fault.name for fault in islice(kind.faults(Random(7)), 20)] for _ in range(2)
        )
        assert first == second, kind.name
