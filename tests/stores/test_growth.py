"""The growth of k: how many rows it moves, how it meets limits and windows of a store, and when it ends."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.errors import RefusedError, TransportError
from nextk.stores.growth import KNOWN_LIMITS, may_be_limit
from tests.support.hostile_stores import (
    HostileSource,
    HostileStore,
    Pages,
    StoreDown,
    StoreRefuses,
    filtered_afterwards,
    windowed,
)

COLOURS = ["blocking", "asynchronous"]
pytestmark = pytest.mark.parametrize("colour", COLOURS)


def pulled(store: HostileStore, colour: str, sizes: list[int]) -> Pages:
    """Fetch pages of these sizes. Returns the search."""
    pages = Pages(HostileSource(store), colour)
    found = [pages.first(sizes[0]), *(pages.next(count) for count in sizes[1:])]
    assert [len(page) for page in found] == sizes
    return pages


class TestCost:
    """The rows that are moved, against those of one request that knew the depth beforehand."""

    @pytest.mark.parametrize("sizes", [[10] * 10, [10, *[100] * 9], [4] * 25, [50] * 20], ids=str)
    def test_rows_moved(self, colour: str, sizes: list[int]) -> None:
        """Paging moves at most 3.1 times the rows, and counts each that it moves again."""
        store = HostileStore(10_000)
        pages = pulled(store, colour, sizes)
        assert store.moved <= 3.1 * sum(sizes)
        assert pages.search.refetched == store.moved - max(store.requests)

    def test_a_page_from_what_waits(self, colour: str) -> None:
        """Rows that came beyond the page are handed out without a request."""
        store = HostileStore(10_000)
        pulled(store, colour, [10, 10, 5, 5, 10])
        assert store.requests == [20, 40]

    @pytest.mark.parametrize("size", [0, 3, 30, 150])
    def test_small_stores(self, colour: str, size: int) -> None:
        """The end of a small store costs at most two requests beyond those that brought its rows."""
        store = HostileStore(size)
        everything = Pages(HostileSource(store), colour).everything(10)
        needed = 1 + sum(20 * 2**doublings < size for doublings in range(10))
        assert size == len(everything)
        assert len(store.requests) <= needed + 2


class TestTheEnd:
    """Answers that look like the end, and are none."""

    def test_filtered_after_the_search(self, colour: str) -> None:
        """Answers without a row do not end a search while a larger k may bring some."""
        store = HostileStore(300, filtered_afterwards)
        assert [f"r{number}" for number in range(51, 300, 3)] == Pages(HostileSource(store), colour).everything(5)

    def test_rows_written_meanwhile(self, colour: str) -> None:
        """A search that has ended stays at its end, though rows were written."""
        store = HostileStore(5)
        pages = Pages(HostileSource(store), colour)
        assert 5 == len(pages.everything(3))
        store.rows.append(store.row(7))
        assert [] == pages.next(3)


class TestLimits:
    """Stores that give only so many rows of one search."""

    @pytest.mark.parametrize("limit", [*KNOWN_LIMITS[1:8], 137, 999])
    def test_a_refused_k(self, colour: str, limit: int, caplog: pytest.LogCaptureFixture) -> None:
        """The rows below a limit are handed out, and then the search says that it ended there, once, in the log."""
        store = HostileStore(limit + 500, limit=limit)
        pages = Pages(HostileSource(store), colour)
        with caplog.at_level(logging.WARNING, "nextk.stores"):
            found = pages.everything(40)
        assert found == [f"r{number}" for number in range(len(found))]
        assert limit * 31 / 32 - 1 <= len(found) <= limit
        assert len(found) == pages.search.limit
        assert 1 == len(caplog.records)

    def test_below_the_limit(self, colour: str) -> None:
        """A store that refuses large numbers and holds few rows is served to its end without a limit being claimed."""
        store = HostileStore(301, limit=10_000)
        pages = Pages(HostileSource(store), colour)
        assert 301 == len(pages.everything(40))
        assert pages.search.limit is None

    @pytest.mark.parametrize(
        ("rows", "size", "limit"),
        [(5_000, None, 100), (100, None, 100), (5_000, 5_000, 100), (100, 100, None), (77, 77, None), (77, None, None)],
    )
    def test_a_window(self, colour: str, rows: int, size: int | None, limit: int | None) -> None:
        """A store that gives 100 rows whatever is asked for has a window: by its size, else because many stores do."""
        pages = Pages(HostileSource(HostileStore(rows, windowed), size), colour)
        assert min(rows, 100) == len(pages.everything(30))
        assert limit == pages.search.limit

    def test_a_size_that_fails(self, colour: str) -> None:
        """A store that fails to say how many rows it holds ends like one that does not say."""
        pages = Pages(HostileSource(HostileStore(20), -1), colour)
        assert 20 == len(pages.everything(10))
        assert pages.search.limit is None

    def test_a_failure_that_passes(self, colour: str) -> None:
        """A single failure that looks like a limit hides no row: the larger number is asked for again."""
        store = HostileStore(2_000, faults=[3])
        pages = Pages(HostileSource(store), colour)
        assert [row.id for row in store.rows] == pages.everything(10)
        assert pages.search.limit is None

    @given(first=st.integers(0, 12), length=st.integers(1, 12))
    def test_an_outage(self, colour: str, first: int, length: int) -> None:
        """An outage of any length raises until it is over, and then every row has come once."""
        store = HostileStore(401, faults=range(first, first + length))
        pages, found = Pages(HostileSource(store), colour), list[str]()
        begun = False
        for _ in range(60):
            try:
                page = pages.next(15) if begun else pages.first(15)
            except StoreDown:
                begun = begun or bool(found)
                continue
            begun = True
            found += [row.id for row in page]
            if not page:
                break
        assert [row.id for row in store.rows] == found
        assert length > 1 or pages.search.limit is None  # an outage at the very end may look like a limit


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreRefuses(), True),
        (ValueError("k must be below 10,000"), True),
        (RefusedError("too many", 422), True),
        (RefusedError("busy", 429), False),
        (RefusedError("broken", 500), False),
        (TransportError("lost"), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
    ],
    ids=repr,
)
def test_which_errors_may_be_a_limit(colour: str, error: Any, expected: bool) -> None:
    """A refusal may be a limit; a lost connection and a server in trouble are none."""
    assert expected is may_be_limit(error)
