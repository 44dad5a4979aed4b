"""Sessions: one search, continued on demand."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk import AsyncIndex, Index
from nextk.errors import ClientError, TransportError
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.sessions.pool import MAX_OPEN, pool_of
from nextk.types import Data, QueryResult
from tests.support.local_server import LocalServer
from tests.support.searches import IDS, SHAPES, Bench, ids, open_session
from tests.support.sentence_index import QUESTION, TEXTS, open_queries, sentences
from tests.support.subprocesses import output
from tests.support.transports import Recording


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """An embedded hybrid index of 66 texts."""
    with sentences(TEXTS) as index:
        yield index


@pytest.fixture(autouse=True)
def nothing_left_open(index: Index) -> Iterator[None]:
    """After every test the index holds no open query."""
    yield
    assert 0 == open_queries(index)


AT_ONCE = SearchConfig(sleep=lambda _: None)
"""Makes a request that failed again without a pause."""


def session(index: Index, **settings: Any) -> RetrievalSession[str]:
    """A session whose rows are ids."""
    return RetrievalSession(index, SearchQuery(data=QUESTION, **settings), IDS, config=AT_ONCE)


class TestSession:
    """Sessions over an index, without any framework."""

    @settings(max_examples=25, deadline=None)
    @given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12))
    def test_pages_are_one_long_query(self, index: Index, sizes: list[int]) -> None:
        """Pages of any sizes, one after the other, are one exhaustive query: each id once, none after the end."""
        expected = ids(index.query(data=QUESTION, top_k=1_000))
        assert len(TEXTS) == len(expected)
        with session(index) as search:
            pages = [search.fetch_next(size) for size in sizes]
        served = [id_ for page in pages for id_ in page]
        assert expected[: sum(sizes)] == served
        assert len(served) == len(set(served))

    def test_it_is_lazy(self, index: Index) -> None:
        """A session that nobody pulls from asks nothing."""
        recording = Recording(index._transport)
        with session(Index._over(recording)):
            pass
        assert [] == recording.sent

    def test_the_end(self, index: Index) -> None:
        """A short page is not yet the end for the caller; after an empty pull it is, and nothing more is asked."""
        recording = Recording(index._transport)
        with session(Index._over(recording), filter="place < 3") as search:
            assert (3, True) == (len(search.fetch_next(5)), search.exhausted)
            sent = list(recording.sent)
            assert [] == search.fetch_next(5)
            assert sent == recording.sent

    def test_large_wishes_are_pulled_in_parts(self, index: Index) -> None:
        """More than an index returns at once may be asked for."""
        with session(index) as search:
            assert len(TEXTS) == len(search.fetch_next(5_000))

    def test_stopping(self, index: Index) -> None:
        """Stopping is idempotent and final."""
        search = session(index)
        search.fetch_next(1)
        search.stop()
        search.stop()
        assert repr(search).startswith("<RetrievalSession stopped")
        with pytest.raises(ClientError, match="open a new one"):
            search.fetch_next(1)
        with pytest.raises(ClientError, match="open a new one"):
            list(search)

    @pytest.mark.parametrize("count", [0, -1])
    def test_at_least_one(self, index: Index, count: int) -> None:
        """A page has at least one row."""
        with session(index) as search, pytest.raises(ClientError, match="ask for at least 1"):
            search.fetch_next(count)

    def test_iteration_stops_the_query(self, index: Index) -> None:
        """A loop sees every row, and its end stops the query; one that is left early leaves it to the next request."""
        expected = ids(index.query(data=QUESTION, top_k=1_000))
        assert expected == list(session(index))
        assert 0 == open_queries(index)
        assert (expected[0], 1) == (next(row for row in session(index)), open_queries(index))
        index.info()
        assert (expected[:3], 1) == (next(page for page in session(index).pages(3)), open_queries(index))
        index.info()
        assert 0 == open_queries(index)

    def test_a_loop_that_was_left(self, index: Index) -> None:
        """A session of which a loop was left early is stopped, and has given its slot back."""
        search = session(index)
        next(row for row in search)
        assert repr(search).startswith("<RetrievalSession stopped")
        assert pool_of(index._transport)._free == MAX_OPEN
        with pytest.raises(ClientError, match="open a new one"):
            search.fetch_next(1)
        index.info()

    @pytest.mark.parametrize("between", [False, True], ids=["at once", "after a request"])
    def test_a_loop_within_with(self, index: Index, *, between: bool) -> None:
        """Leaving a session by `with` stops the query of a loop that was left early, and stops it once."""
        recording = Recording(index._transport)
        with session(Index._over(recording)) as search:
            for _ in search.pages(3):
                break
            if between:
                index.info()
        assert 0 == open_queries(index)
        assert recording.sent == ["resumable-query-data"] + ["resumable-query-end"] * (not between)

    def test_a_failing_body_is_not_hidden(self, index: Index) -> None:
        """Leaving by an exception stops the query and lets the exception through."""

        def body() -> None:
            with session(index) as search:
                search.fetch_next(1)
                raise KeyError

        with pytest.raises(KeyError):
            body()

    def test_rows_that_convert_to_nothing_are_filled_up(self, index: Index) -> None:
        """Rows that are left out are made up for by further pulls, until the end."""
        expected = ids(index.query(data=QUESTION, top_k=1_000))[1::2]

        def convert(match: QueryResult) -> str | None:
            return match.id if match.id in expected else None

        with RetrievalSession(index, SearchQuery(data=QUESTION), RowReader(convert)) as search:
            assert expected[:5] == search.fetch_next(5)
            assert expected[5:] == search.fetch_next(500)
            assert {"no_text": len(TEXTS) - len(expected)} == search.report.dropped

    def test_rows_survive_a_later_failure(self, index: Index) -> None:
        """Where one call needs two pulls and the second fails, the first one's rows are there next time."""
        recording = Recording(index._transport)
        with session(Index._over(recording), filter="place < 3") as search:
            recording.failures["resumable-query-next"] = TransportError("not now")
            with pytest.raises(TransportError):
                search.fetch_next(5)
            recording.failures.clear()
            assert 3 == len(search.fetch_next(5))

    def test_a_namespace_that_is_absent(self, index: Index) -> None:
        """Where there is nothing, a session is exhausted at once."""
        with session(index, namespace="absent") as search:
            assert ([], True) == (search.fetch_next(3), search.exhausted)


class TestAsyncSession:
    """The same in the other colour."""

    @pytest.fixture
    def native(self, index: Index) -> AsyncIndex:
        """The asynchronous client of the index."""
        return index.to_async()

    async def test_pages_are_one_long_query(self, index: Index, native: AsyncIndex) -> None:
        """Pages, one after the other, are one exhaustive query."""
        expected = ids(index.query(data=QUESTION, top_k=1_000))
        async with AsyncRetrievalSession(native, SearchQuery(data=QUESTION), IDS) as search:
            served = await search.fetch_next(3)
            while page := await search.fetch_next(17):
                served += page
            assert search.exhausted
        assert expected == served
        await search.stop()
        with pytest.raises(ClientError, match="open a new one"):
            await search.fetch_next(1)

    async def test_iteration_stops_the_query(self, index: Index, native: AsyncIndex) -> None:
        """A loop sees every row, and its end is the session's: exhausted, and still to be asked."""
        search = AsyncRetrievalSession(native, SearchQuery(data=QUESTION), IDS)
        assert ids(index.query(data=QUESTION, top_k=1_000)) == [row async for row in search]
        assert repr(search).startswith("<AsyncRetrievalSession exhausted")
        assert [] == await search.fetch_next(1)

    async def test_leaving_by_an_exception(self, native: AsyncIndex) -> None:
        """Leaving by an exception stops the query and lets the exception through."""

        async def body() -> None:
            async with AsyncRetrievalSession(native, SearchQuery(data=QUESTION), IDS) as search:
                await search.fetch_next(1)
                raise KeyError

        with pytest.raises(KeyError):
            await body()

    async def test_rows_survive_a_later_failure(self, index: Index) -> None:
        """Where one call needs two pulls and the second fails, the first one's rows are there next time."""
        recording = Recording(index._transport)
        question = SearchQuery(data=QUESTION, filter="place < 3")
        async with AsyncRetrievalSession(AsyncIndex._over(recording), question, IDS, config=AT_ONCE) as search:
            recording.failures["resumable-query-next"] = TransportError("not now")
            with pytest.raises(TransportError):
                await search.fetch_next(5)
            recording.failures.clear()
            assert 3 == len(await search.fetch_next(5))


@pytest.mark.parametrize("order", ["hybrid", "hybrid-batch"])
def test_first_page_and_plain_query(order: str) -> None:
    """A first page is what a plain query of its size gives; where every page is fused by itself, it may differ."""
    bench = Bench.build(SHAPES[order])
    same = []
    for size in range(1, 12):
        with open_session(bench.index, bench.shape.question) as search:
            page = search.fetch_next(size)
        same.append(ids(bench.index.query(top_k=size, **bench.shape.question.parameters())) == page)
    assert all(same) == (order == "hybrid")
    bench.index.close()


FORKED = """
import os, sys
from nextk import Index
from nextk.sessions import SearchQuery, RowReader, RetrievalSession

index = Index(sys.argv[1], sys.argv[2])
search = RetrievalSession(index, SearchQuery(data="sky"), RowReader(lambda match: match.id))
search.fetch_next(3)
receive, send = os.pipe()
if os.fork() == 0:
    os.write(send, " ".join(search.fetch_next(3)).encode())
    search.stop()
    os._exit(0)
os.wait()
childs = os.read(receive, 1_000).decode().split()
print(childs == search.fetch_next(3), search.report.recovered, search.fetch_next(3) != childs)
search.stop()
index.close()
"""


def test_a_fork(local_server: LocalServer) -> None:
    """A search that a forked child goes on with costs its parent no page: the child asks anew, and gets the same."""
    url = local_server.add("forked", embedding="static", type="dense")
    with Index(url, local_server.token) as served:
        served.upsert([Data(str(number), text) for number, text in enumerate(TEXTS[:20])])
    assert "True 0 True" == output(FORKED, url, local_server.token)
    assert 0 == local_server.engines["forked"].open_queries()
