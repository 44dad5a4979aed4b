"""Filter expressions: what a filter spells is what was meant."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextk.engine.filter.syntax import parse
from nextk.engine.filter.tree import Compare
from nextk.retrievers.filter_expressions import literal

NUMBERS = st.integers(1 - 2**63, 2**63 - 1) | st.floats(-(2.0**62), 2.0**62)


@given(NUMBERS)
@example(2.0**62)
@example(5e-324)
@example(-0.0)
def test_a_number_is_spelled_with_all_of_its_digits(number: float) -> None:
    """Every number that an index compares exactly is spelled so that the index reads that very number."""
    node = parse(f"a = {literal(number)}")
    assert isinstance(node, Compare)
    assert node.value == number


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_spelled(number: float) -> None:
    """No filter can spell a number that is not finite."""
    assert literal(number) is None
