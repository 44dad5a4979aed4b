"""The repair of the order of a scan."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.postgres.read_ahead import RankedRow, ReadAhead

DISTANCES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, math.nan]), max_size=30)


def delivered(distances: list[float], sizes: list[int], window: int) -> list[str]:
    """The keys of the rows in the order in which they go out, by pages of the sizes and then by single rows."""
    coming = [RankedRow(str(number), distance) for number, distance in enumerate(distances)]
    waiting, keys, ended = ReadAhead(window), list[str](), False
    for size in [*sizes, *[1] * (len(distances) + 1)]:
        while not ended and (missing := waiting.missing(size)):
            batch, coming = coming[:missing], coming[missing:]
            waiting.add(batch)
            ended = len(batch) < missing
        keys += [row.key for row in waiting.take(size, ended=ended)]
    return keys


@given(DISTANCES, st.lists(st.integers(1, 9), max_size=5), st.integers(0, 6))
def test_page_sizes(distances: list[float], sizes: list[int], window: int) -> None:
    """Every row goes out once, and the order does not depend on the sizes of the pages."""
    keys = delivered(distances, sizes, window)
    assert sorted(keys, key=int) == [str(number) for number in range(len(distances))]
    assert keys == delivered(distances, [], window)


@given(DISTANCES)
def test_a_wide_window(distances: list[float]) -> None:
    """Rows that are all read ahead go out in the order of their distances, those without one at the end."""
    order = sorted(range(len(distances)), key=lambda number: (math.isnan(distances[number]), distances[number], number))
    nans = sum(map(math.isnan, distances))
    keys = delivered(distances, [], len(distances))
    assert keys[: len(keys) - nans] == [str(number) for number in order if not math.isnan(distances[number])]
    assert {math.isnan(distances[int(key)]) for key in keys[len(keys) - nans :]} <= {True}


@pytest.mark.parametrize(("window", "keys"), [(0, "0123"), (1, "1203"), (2, "2103")])
def test_displaced_rows(window: int, keys: str) -> None:
    """A row that the scan brings too late goes out at its place if it is within the window."""
    assert list(keys) == delivered([3.0, 2.0, 1.0, 4.0], [2], window)
