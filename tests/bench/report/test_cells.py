"""Claims about numbers, intervals and columns as people read them."""

import pytest

from bench.report.cells import aligned, number, with_ends
from leaderboard.ui.numbers import DASH, interval
from leaderboard.ui.numbers import number as page_number


@pytest.mark.parametrize(
    ("value", "report", "page"),
    [
        (0.5, "0.500", "0.50"),
        (0.004, "0.004", "0.004"),
        (0.0123, "0.012", "0.01"),
        (-0.00071, "-0.00071", "-0.0007"),
        (0.0, "0.000", "0.00"),
        (1234.56, "1234.6", "1234.6"),
        (None, "-", DASH),
    ],
)
def test_reports_and_pages_write_numbers_by_the_same_rules(value, report: str, page: str) -> None:
    assert number(value) == report
    assert page_number(value) == page


def test_a_missing_number_on_a_page_may_be_nan() -> None:
    assert page_number(float("nan")) == DASH
    assert interval(float("nan"), 0.1, 0.2) == DASH
    assert interval(0.9, None, 0.95) == "0.90"


def test_an_interval_follows_its_number() -> None:
    assert with_ends(0.86, (0.8, 0.94), digits=2) == "0.86 [0.80, 0.94]"
    assert with_ends(0.86, (None, 0.94), digits=2) == "0.86"
    assert interval(0.5, -0.001, 1, signed=True) == "+0.50 [-0.001, +1.00]"


def test_a_sign_is_never_that_of_zero() -> None:
    assert (number(-0.0, signed=True), page_number(0.0, signed=True)) == ("0.000", "0.00")
    assert number(-0.0004, digits=2) == "0.00"


def test_columns_are_two_spaces_apart_without_spaces_at_the_end() -> None:
    lines = [("a", "bb", "c"), ("aaa", "b", "")]
    assert aligned(lines) == ["a    bb  c", "aaa  b"]
    assert aligned(lines, n_left=1, indent="  ") == ["  a    bb  c", "  aaa   b"]
    assert aligned([]) == []
