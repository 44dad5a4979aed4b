"""Sources that are asked anew without the rows that have come: each row once, and none moved twice without need."""

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.sessions import SearchQuery
from nextk.stores import Continuation, ScoreKind
from nextk.testing import AsyncSourceCompliance, SourceCompliance
from tests.support.hostile_stores import (
    ANSWERS,
    QUERY,
    ExcludingSource,
    HostileStore,
    Pages,
    StoreDown,
    in_order,
    under_filled,
)

COLOURS = ["blocking", "asynchronous"]
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)
EXACT = sorted(ANSWERS.keys() - {"filtered_afterwards", "other_rows", "missing_some"})
"""The answers that hold a row whenever there is one. An approximate one may hold none, and a search end before it."""


class TestCompliance(SourceCompliance):
    """The suite for sources, blocking."""

    def source(self) -> ExcludingSource:
        """Return a source of eleven rows."""
        return ExcludingSource(HostileStore(11, under_filled))

    def query(self) -> SearchQuery:
        """Return the query that the store knows."""
        return QUERY

    def expected(self) -> list[str]:
        """Return the ids of the eleven rows."""
        return [f"r{number}" for number in range(11)]


class TestAsyncCompliance(AsyncSourceCompliance):
    """The suite for sources, asynchronous; the ids are named for two pages only."""

    def source(self) -> ExcludingSource:
        """Return a source of eleven rows."""
        return ExcludingSource(HostileStore(11, in_order), max_excluded=5)

    def query(self) -> SearchQuery:
        """Return the query that the store knows."""
        return QUERY

    def expected(self) -> list[str]:
        """Return the ids of the eleven rows."""
        return [f"r{number}" for number in range(11)]


@pytest.mark.parametrize("colour", COLOURS)
class TestProperties:
    """Over kinds of answers, and any sizes of pages."""

    @pytest.mark.parametrize("kind", EXACT)
    @pytest.mark.parametrize("obeys", [True, False], ids=["obeys", "ignores"])
    @settings(max_examples=40)
    @given(
        size=st.integers(0, 300),
        sizes=SIZES,
        seen=st.sets(st.integers(0, 30), max_size=20),
        bound=st.sampled_from([0, 25, 10_000]),
    )
    def test_each_row_once(
        self, colour: str, kind: str, size: int, sizes: list[int], seen: set[int], bound: int, *, obeys: bool
    ) -> None:
        """Every row comes once, in sorted pages, whether the store excludes or not and wherever the bound lies."""
        store = HostileStore(size, ANSWERS[kind])
        source = ExcludingSource(store, max(bound, len(seen)), obeys=obeys)
        pages, before = Pages(source, colour), [f"r{number}" for number in sorted(seen)]
        found = [pages.first(sizes[0], before), *(pages.next(count) for count in sizes[1:]), *pages.rest(50)]
        delivered = [row.id for page in found for row in page]
        assert len(set(delivered)) == len(delivered)
        assert {row.id for row in store.rows} - set(before) == set(delivered)
        assert all(len(page) <= count for page, count in zip(found, sizes, strict=False))
        assert all(sorted(page, key=lambda row: -row.score) == page for page in found)
        assert store.moved == pages.search.refetched + len(store.came - set(before))

    def test_only_new_rows_are_moved(self, colour: str) -> None:
        """A store that leaves rows out is asked for no row twice, however deep the search goes."""
        store = HostileStore(910)
        pages = Pages(ExcludingSource(store), colour)
        assert [row.id for row in store.rows] == pages.everything(10)
        assert (910, 0, None) == (store.moved, pages.search.refetched, pages.search.limit)

    def test_failures(self, colour: str) -> None:
        """A request that raises has brought and skipped nothing, and is made again with the same ids."""
        store = HostileStore(30, faults=[0, 2])
        pages = Pages(ExcludingSource(store), colour)
        with pytest.raises(StoreDown):
            pages.first(4)
        assert ["r0", "r1"] == [row.id for row in pages.first(2)]
        with pytest.raises(StoreDown):
            pages.next(3)
        assert ["r2", "r3", "r4"] == [row.id for row in pages.next(3)]

    def test_a_store_with_a_limit(self, colour: str) -> None:
        """A store that refuses large numbers of rows is served to its end, and an outage there is not the end."""
        store = HostileStore(30, limit=100)
        pages = Pages(ExcludingSource(store), colour)
        assert [row.id for row in store.rows] == pages.everything(10)
        store.rows.append(store.row(40))
        assert ["r40"] == [row.id for row in pages.next(10)]
        store = HostileStore(10, limit=100, faults=[3])
        pages = Pages(ExcludingSource(store), colour)
        assert 10 == len(pages.first(10))
        with pytest.raises(StoreDown):
            pages.next(10)
        assert [] == pages.next(10)

    def test_the_bound(self, colour: str, caplog: pytest.LogCaptureFixture) -> None:
        """Above the bound rows are fetched again, which the count and one line in the log say."""
        store = HostileStore(200)
        pages = Pages(ExcludingSource(store, max_excluded=20), colour)
        with caplog.at_level(logging.INFO, "nextk.stores"):
            assert [row.id for row in store.rows] == pages.everything(10)
        assert pages.search.refetched == store.moved - 200 > 0
        assert 1 == len(caplog.records)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("bound", [4, 10_000])
def test_ranks(colour: str, bound: int) -> None:
    """Scores that are ranks are 1/position in the order of delivery, not in that of each answer."""
    source = ExcludingSource(HostileStore(12), bound)
    source.scores = ScoreKind.RANKS
    pages = Pages(source, colour)
    found = [*pages.first(3, ["r5"]), *pages.next(2), *pages.next(4)]
    assert [1 / position for position in range(2, 11)] == [row.score for row in found]


def test_traits() -> None:
    """The traits say that the source goes on by exclusion."""
    assert ExcludingSource(HostileStore(1)).traits.continuation is Continuation.EXCLUSION


async def test_cancelled() -> None:
    """A cancelled call has delivered nothing: the next one brings the rows."""
    source = ExcludingSource(HostileStore(40))
    search = source.asearch()
    delivered = await search.fetch_first(QUERY, 15)
    task = asyncio.create_task(search.fetch_next(15))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while page := await search.fetch_next(15):
        delivered += page
    assert [row.id for row in source.store.rows] == [row.id for row in delivered]
