"""Sources that are asked anew for more rows: each row once, whatever the store does."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.errors import ClientError
from nextk.sessions import SearchQuery
from nextk.stores import Continuation, RefetchSource, ScoreKind, StoreRow
from tests.support.hostile_stores import ANSWERS, QUERY, HostileSource, HostileStore, Pages

COLOURS = ["blocking", "asynchronous"]
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


class TestProperties:
    """Over every kind of answer, and any sizes of pages."""

    @pytest.mark.parametrize("colour", COLOURS)
    @pytest.mark.parametrize("kind", ANSWERS)
    @settings(max_examples=40)
    @given(size=st.integers(0, 300), sizes=SIZES, seen=st.sets(st.integers(0, 30), max_size=20))
    def test_each_row_once(self, kind: str, colour: str, size: int, sizes: list[int], seen: set[int]) -> None:
        """Every row that the store gives is delivered once, and every row that was moved in vain is counted."""
        store = HostileStore(size, ANSWERS[kind])
        pages = Pages(HostileSource(store), colour)
        before = {f"r{number}" for number in seen}
        found = [pages.first(sizes[0], sorted(before)), *(pages.next(count) for count in sizes[1:]), *pages.rest(50)]
        delivered = [row.id for page in found for row in page]
        assert len(set(delivered)) == len(delivered)
        assert {row.id for row in ANSWERS[kind](store.rows, 10_000)} - before == set(delivered)
        assert all(len(page) <= count for page, count in zip(found, sizes, strict=False))
        assert store.moved == pages.search.refetched + len(store.came - before)
        assert all(sorted(page, key=lambda row: -row.score) == page for page in found)


class TestSource:
    """A source of one's own."""

    def test_as_small_as_documented(self) -> None:
        """An identity and a query are enough, and the asynchronous search then uses a thread."""

        class Notes(RefetchSource):
            identity = "notes"

            def query(self, query: SearchQuery, count: int) -> list[StoreRow]:
                return [StoreRow(str(number), 1 - number / 50, data=query.data) for number in range(50)][:count]

        traits = Notes().traits
        assert (Continuation.REFETCH, ScoreKind.NEARNESS) == (traits.continuation, traits.scores)
        assert (False, True, False, False) == (traits.stable_order, traits.filters, traits.modes, traits.keeps_open)
        assert [str(number) for number in range(50)] == Pages(Notes(), "asynchronous").everything(9)

    def test_searches_are_apart(self) -> None:
        """Two searches of one source do not know of each other's rows."""
        source = HostileSource(HostileStore(30))
        one, other = Pages(source, "blocking"), Pages(source, "asynchronous")
        assert [row.id for row in one.first(5)] == [row.id for row in other.first(5)]
        assert [row.id for row in one.next(5)] == [row.id for row in other.next(5)]

    @pytest.mark.parametrize("colour", COLOURS)
    def test_not_begun(self, colour: str) -> None:
        """A search that has not begun, or was stopped, says what to call."""
        pages = Pages(HostileSource(HostileStore(3)), colour)
        with pytest.raises(ClientError, match="call fetch_first"):
            pages.next(1)
        assert 3 == len(pages.first(5))
        for _ in range(2):
            stopped = pages.search.stop()
            if stopped is not None:
                asyncio.run(stopped)
        with pytest.raises(ClientError, match="call fetch_first"):
            pages.next(1)

    @pytest.mark.parametrize("colour", COLOURS)
    def test_begun_again(self, colour: str) -> None:
        """A search that begins again brings the same rows again."""
        pages = Pages(HostileSource(HostileStore(30)), colour)
        assert pages.first(5) == pages.first(5)

    async def test_cancelled(self) -> None:
        """A cancelled call has delivered nothing: the next one brings the rows."""
        source = HostileSource(HostileStore(100))
        search = source.asearch()
        delivered = await search.fetch_first(QUERY, 15)
        delivered += await search.fetch_next(15)
        task = asyncio.create_task(search.fetch_next(15))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while page := await search.fetch_next(15):
            delivered += page
        assert [row.id for row in source.store.rows] == [row.id for row in delivered]
