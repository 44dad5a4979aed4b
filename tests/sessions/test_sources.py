"""Sessions over sources other than an `Index`: going on, faults, cursors, policies, and what the report says."""

import gc
import inspect
import json
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import AsyncIndex, Index
from nextk.errors import ClientError, PageUncertain, QueryNotFound, RefusedError, TransportError
from nextk.sessions import AsyncRetrievalSession, Limits, RetrievalSession, RowReader, SearchConfig, SearchQuery
from nextk.sessions.link import MAX_PARKED
from nextk.sessions.source import Continuation, ScoreKind, SourceTraits
from nextk.types import QueryResult
from nextk.until import Accepted, MaxResults, MinScore, TokenBudget
from tests.support.list_source import NATIVE, ListSource

READER: RowReader[QueryResult] = RowReader(lambda row: row, lambda row: str(row.data))
QUERY = SearchQuery(data="a question")
REFETCH = SourceTraits(Continuation.REFETCH, ScoreKind.NEARNESS)
RANKS = SourceTraits(Continuation.REFETCH, ScoreKind.RANKS)
EXCLUSION = SourceTraits(Continuation.EXCLUSION, ScoreKind.NEARNESS)
EVERY = [NATIVE, REFETCH, EXCLUSION]


def rows(count: int, first: int = 0) -> list[QueryResult]:
    """Return `count` rows of falling scores."""
    numbers = range(first, first + count)
    return [QueryResult(f"r{number}", 1 / (1 + number), metadata={}, data=f"text {number}") for number in numbers]


def ids(found: list[QueryResult]) -> list[str]:
    """Return the ids of rows."""
    return [row.id for row in found]


class Both:
    """A session of either colour, whose methods are awaited in both."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = getattr(self.session, name)(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        return call

    @property
    def report(self) -> Any:
        """The report of the session."""
        return self.session.report


@pytest.fixture(params=["blocking", "asynchronous"])
def open_session(request: pytest.FixtureRequest) -> Callable[..., Both]:
    """A function that opens a session of one colour over a source."""
    colour: Any = RetrievalSession if request.param == "blocking" else AsyncRetrievalSession

    def opened(source: ListSource, query: SearchQuery = QUERY, *, cursor: Any = None, **config: Any) -> Both:
        chosen = SearchConfig(sleep=lambda _: None, **config)
        return Both(colour(source, query, READER, texts=["a question"], config=chosen, cursor=cursor))

    return opened


@pytest.mark.parametrize("traits", EVERY, ids=str)
class TestEverySource:
    """Promises that hold however a source goes on."""

    async def test_each_row_once(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """Every row comes once, in order; after the last one the session is exhausted and the source let go."""
        source = ListSource(rows(23), traits)
        search = open_session(source)
        found = [row for size in (1, 7, 3, 20, 5) for row in await search.fetch_next(size)]
        assert ids(found) == ids(source.rows)
        assert search.session.exhausted
        assert search.report.complete
        assert search.report.limit is None
        assert search.report.continuation is traits.continuation
        assert source.stopped == 1

    async def test_large_pages(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A page of more results than one pull may ask for is made of several pulls."""
        source = ListSource(rows(2_500), traits)
        search = open_session(source)
        found = [row for size in (3, 1_040, 1_400) for row in await search.fetch_next(size)]
        assert ids(found) == ids(source.rows[:2_443])
        assert max(source.requests) <= 1_000

    async def test_lost_replies_are_repeated(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A request that fails by a fault is made again, and no row is lost or repeated."""
        source = ListSource(rows(30), traits)
        away, busy, lost = TransportError("away"), RefusedError("busy", 503), PageUncertain("lost")
        source.failures = [away, None, busy, lost, None, QueryNotFound("gone", 404)]
        search = open_session(source)
        found = [row for size in (4, 6, 5, 30) for row in await search.fetch_next(size)]
        assert ids(found) == ids(source.rows)
        assert search.report.recovery.faults == 4

    async def test_exceptions_of_a_store(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """An exception that is none of nextk's reaches the caller unchanged and decides nothing."""
        source = ListSource(rows(9), traits)
        search = open_session(source)
        first = await search.fetch_next(2)
        source.failures = [KeyError("inside the store")]
        with pytest.raises(KeyError, match="inside the store"):
            await search.fetch_next(3)
        assert ids(first + await search.fetch_next(7)) == ids(source.rows)

    @given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), at=st.integers(1, 3), skipped=st.booleans())
    async def test_cursors(self, traits: SourceTraits, sizes: list[int], at: int, *, skipped: bool) -> None:
        """A session that resumes a cursor, which went through JSON, brings the rows that the first had not brought."""
        source = ListSource(rows(30), traits)
        config = SearchConfig()
        first = RetrievalSession(source, QUERY, READER, texts=["q"], config=config)
        found = [row for size in sizes for row in first.fetch_next(size)]
        if skipped:  # rows that do not fit are set aside
            found += first.fetch_until(TokenBudget(at, count=lambda row: 1 if row.endswith("3") else 9))
        cursor = json.loads(json.dumps(first.cursor()))
        for _ in range(2):  # any number of times
            again = RetrievalSession(ListSource(rows(30), traits), QUERY, READER, config=config, cursor=cursor)
            rest = again.fetch_next(100)
            assert sorted(ids(found + rest)) == sorted(ids(source.rows))
            assert again.exhausted
            assert again.report.pulled == 30

    async def test_a_cursor_of_another_store(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A cursor is refused by a source of another identity, and with another filter of the store's kind."""
        source, query = ListSource(rows(5), traits), SearchQuery(data="q", store_filter=is_even)
        cursor = await open_session(source, query).cursor()
        with pytest.raises(ClientError, match="another index or store"):
            open_session(ListSource(rows(5), traits, "another"), query, cursor=cursor)
        with pytest.raises(ClientError, match="another filter"):
            open_session(source, cursor=cursor)
        assert ids(await open_session(source, query, cursor=cursor).fetch_next(9)) == ["r0", "r2", "r4"]

    async def test_policies(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A policy is applied as over an index, and a cursor pins it."""
        until = Accepted(4, are_even)
        search = open_session(ListSource(rows(40), traits), until=until)
        assert ids(await search.fetch_until()) == ["r0", "r2", "r4", "r6"]
        cursor = await search.cursor()
        with pytest.raises(ClientError, match="policy accepted"):
            open_session(ListSource(rows(40), traits), cursor=cursor)
        again = open_session(ListSource(rows(40), traits), cursor=cursor, until=until)
        assert ids(await again.fetch_until()) == ["r8", "r10", "r12", "r14"]

    async def test_widening(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """Widening the filter goes on with the same query and repeats no row; a mode is refused where there is none."""
        search = open_session(ListSource(rows(10), traits), SearchQuery(data="q", store_filter=is_even))
        found = await search.fetch_next(3)
        await search.widen(filter=is_anything)
        found += await search.fetch_next(20)
        assert ids(found[:3]) == ["r0", "r2", "r4"]
        assert sorted(ids(found)) == sorted(ids(rows(10)))
        with pytest.raises(ClientError, match="takes no retrieval_mode"):
            await search.widen(retrieval_mode="sparse")


@pytest.mark.parametrize("traits", [REFETCH, EXCLUSION], ids=str)
class TestNothingKeptOpen:
    """Sources that keep nothing open between two pages."""

    async def test_a_fault_starts_nothing_anew(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A lost reply costs its request once more, and nothing that came before it."""
        source = ListSource(rows(30), traits)
        search = open_session(source)
        await search.fetch_next(4)
        source.failures = [PageUncertain("lost")]
        assert ids(await search.fetch_next(3)) == ["r4", "r5", "r6"]
        assert source.requests == [4, 3, 3]
        assert search.report.recovery.replays == search.report.recovered == 0

    async def test_a_cursor_costs_no_recovery(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """Going on from a cursor behind more rows than `max_recovery` is allowed, since nothing is replayed."""
        source = ListSource(rows(60), traits)
        search = open_session(source, max_recovery=5)
        await search.fetch_next(40)
        again = open_session(source, max_recovery=5, cursor=await search.cursor())
        assert ids(await again.fetch_next(30)) == ids(rows(20, 40))
        assert source.requests[:2] == [40, 30]
        assert again.report.recovered == 1

    async def test_many_rows_wait(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A cursor with more waiting rows than a pull may ask for goes on by several pulls, and can be taken again."""
        source = ListSource(rows(2_400), traits)
        search = open_session(source, guards=Limits())
        await search.fetch_until(TokenBudget(1, count=len))  # nothing fits, so all is set aside
        assert search.report.kept == 0
        assert search.report.waiting == 2_400
        again = open_session(source, cursor=await search.cursor())
        found = await again.fetch_next(5)
        third = open_session(source, cursor=await again.cursor())
        found += [row for _ in range(4) for row in await third.fetch_next(900)]
        assert sorted(ids(found)) == sorted(ids(source.rows))

    async def test_detached(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A cursor that was detached in this process finds the same search again, once, and only over its source."""
        source = ListSource(rows(30), traits)
        cursor = await open_session(source).detach()
        search = open_session(source, cursor=cursor)
        await search.fetch_next(6)
        cursor = await search.detach()
        other = ListSource(rows(30), traits)
        assert ids(await open_session(other, cursor=cursor).fetch_next(2)) == ["r6", "r7"]
        assert ids(await open_session(source, cursor=cursor).fetch_next(2)) == ["r6", "r7"]
        assert ids(await open_session(source, cursor=cursor).fetch_next(2)) == ["r6", "r7"]
        assert source.stopped == 0

    async def test_parked_searches_keep_nothing_alive(
        self, open_session: Callable[..., Both], traits: SourceTraits, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A source whose session was detached is freed with its owner, and what was parked too long is asked anew."""
        source = ListSource(rows(30), traits)
        search = open_session(source)
        await search.fetch_next(3)
        cursor = await search.detach()
        source.rows = source.rows[10:]
        monkeypatch.setattr("nextk.sessions.link.MAX_PARKED_SECONDS", -1.0)
        assert ids(await open_session(source, cursor=cursor).fetch_next(2)) == ["r10", "r11"]
        gone = weakref.ref(source)
        del source, search
        gc.collect()
        assert gone() is None

    async def test_many_detached(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """Of many detached sessions the oldest ones are forgotten here; their cursors go on all the same."""
        source = ListSource(rows(30), traits)
        cursors = []
        for count in range(1, MAX_PARKED + 3):
            search = open_session(source)
            await search.fetch_next(count % 20 + 1)
            cursors.append(await search.detach())
        for count, cursor in enumerate(cursors, start=1):
            assert ids(await open_session(source, cursor=cursor).fetch_next(1)) == [f"r{count % 20 + 1}"]

    async def test_without_a_hash(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """A source that cannot be hashed, as a dataclass that is compared cannot, is resumed by asking it anew."""

        class Compared(ListSource):
            __hash__ = None  # type: ignore[assignment]

        source = Compared(rows(9), traits)
        search = open_session(source)
        await search.fetch_next(4)
        assert ids(await open_session(source, cursor=await search.detach()).fetch_next(9)) == ids(rows(5, 4))

    async def test_changed_data(self, open_session: Callable[..., Both], traits: SourceTraits) -> None:
        """Rows that are written or deleted between two pages never make another row come twice or be left out."""
        source = ListSource(rows(20), traits)
        search = open_session(source)
        found = await search.fetch_next(5)
        source.rows = [*rows(3, 100), *source.rows[7:], *source.rows[:5]]
        found += await search.fetch_next(50)
        assert len(set(ids(found))) == len(found)
        assert set(ids(found)) == {*ids(rows(5)), *ids(rows(13, 7)), *ids(rows(3, 100))}


async def test_a_limit_of_the_store(open_session: Callable[..., Both], caplog: pytest.LogCaptureFixture) -> None:
    """A call with a policy that ends because the store gives no more says so: in the report, and in the log."""
    source = ListSource(rows(6), REFETCH)
    source.limit = 6
    search = open_session(source)
    with caplog.at_level(logging.WARNING, "nextk.sessions"):
        assert len(await search.fetch_until(MaxResults(10))) == 6
    report = search.report
    assert (report.exhausted, report.complete, report.limit) == (True, False, 6)
    assert report.shortfall.reason == "store_limit"
    assert report.shortfall.bound == 6
    assert ["store_limit=6 ended a search before it had enough"] == [
        one.getMessage().split(":")[0] for one in caplog.records
    ]
    again = open_session(source, cursor=await search.cursor())
    assert (again.report.complete, again.report.limit) == (False, 6)


async def test_policies_of_scores(open_session: Callable[..., Both]) -> None:
    """Policies of scores are refused where scores are made of ranks, and hold where they say how near a row is."""
    with pytest.raises(ClientError, match="min_score compares scores, and this store gives none"):
        await open_session(ListSource(rows(9), RANKS)).fetch_until(MinScore(0.2))
    near = open_session(ListSource(rows(9), REFETCH))
    assert ids(await near.fetch_until(MinScore(0.2))) == ids(rows(5))


async def test_a_source_without_filters(open_session: Callable[..., Both]) -> None:
    """A filter is refused in words by a session over a source that takes none."""
    search = open_session(ListSource(rows(3), SourceTraits(Continuation.REFETCH, filters=False)))
    with pytest.raises(ClientError, match="takes no filter"):
        await search.widen(filter=is_even)


@pytest.mark.parametrize(("colour", "wrong"), [(RetrievalSession, AsyncIndex), (AsyncRetrievalSession, Index)])
def test_something_else(colour: Any, wrong: Any) -> None:
    """A session is over an index of its colour or a source, and refuses anything else by name."""
    index = wrong("http://localhost:1", "token")
    for wrong_one in (index, object(), None):
        with pytest.raises(ClientError, match="source="):
            colour(wrong_one, QUERY, READER)


async def test_stop_reasons_are_those_of_an_index(open_session: Callable[..., Both]) -> None:
    """A call over a source ends for the reasons that a call over an index has."""
    search = open_session(ListSource(rows(9), REFETCH))
    assert len(await search.fetch_until(MaxResults(4))) == 4
    assert search.report.stop_reason == "max_results"
    assert len(await search.fetch_until(MaxResults(9))) == 5
    assert search.report.stop_reason == "exhausted"


def is_even(row: QueryResult) -> bool:
    """Pass every second row."""
    return int(row.id[1:]) % 2 == 0


def is_anything(row: QueryResult) -> bool:
    """Pass every row."""
    return bool(row.id)


def are_even(found: list[QueryResult]) -> list[bool]:
    """Permit every second row."""
    return [is_even(row) for row in found]
