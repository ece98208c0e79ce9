"""The examples in public docstrings run and return what they show."""

from __future__ import annotations

import doctest
from types import ModuleType
from typing import Any

import pytest

from tests.xadapter.conftest import new_mapper
from xadapter import XAdapter, load, mapper, solvers


@pytest.mark.parametrize("module", [load, mapper, solvers])
def test_examples_of_functions_and_mapper_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_example_of_xadapter_runs(base_pipe: Any, upgraded_pipe: Any) -> None:
    given = {"base_pipe": base_pipe, "upgraded_pipe": upgraded_pipe, "mapper": new_mapper()}
    found = doctest.DocTestFinder().find(XAdapter, globs={"XAdapter": XAdapter, **given})
    (example,) = [test for test in found if test.examples]
    result = doctest.DocTestRunner().run(example)
    assert result.attempted == 3 and result.failed == 0
