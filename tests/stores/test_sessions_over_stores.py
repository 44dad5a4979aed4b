"""Sessions over stores that answer in all the ways in which real stores do: each row once, whatever goes wrong."""

import inspect
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.errors import PolicyMismatch, TransportError
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchConfig
from nextk.stores import Continuation, Source
from nextk.types import QueryResult
from nextk.until import Accepted, MaxResults
from tests.support.hostile_stores import (
    ANSWERS,
    QUERY,
    ExcludingSource,
    HostileSource,
    HostileStore,
    StoreDown,
    windowed,
)

READER: RowReader[QueryResult] = RowReader(lambda row: row, lambda row: str(row.data))
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
COLOURS = {"blocking": RetrievalSession, "asynchronous": AsyncRetrievalSession}
SOURCES = {"refetch": HostileSource, "exclusion": ExcludingSource}
NEVER_EMPTY = sorted(ANSWERS.keys() - {"filtered_afterwards", "other_rows", "missing_some"})
"""The answers that hold a row whenever there is one, without which a search by exclusion may end too early."""

colours = pytest.mark.parametrize("colour", COLOURS)
every_store = pytest.mark.parametrize(
    ("way", "kind"), [("refetch", kind) for kind in ANSWERS] + [("exclusion", kind) for kind in NEVER_EMPTY]
)


def opened(colour: str, source: Source, *, cursor: Any = None, **config: Any) -> Any:
    """Open a session, which pauses nowhere."""
    chosen = SearchConfig(sleep=lambda _: None, **config)
    return COLOURS[colour](source, QUERY, READER, texts=["the sky"], config=chosen, cursor=cursor)


async def call(session: Any, method: str, *arguments: Any) -> Any:
    """Call a method of a session of either colour."""
    answer = getattr(session, method)(*arguments)
    return await answer if inspect.isawaitable(answer) else answer


async def drain(session: Any, count: int = 50) -> list[str]:
    """Fetch the rest. Returns the ids."""
    found: list[str] = []
    while page := await call(session, "fetch_next", count):
        found += [row.id for row in page]
    return found


def everything(store: HostileStore, kind: str) -> set[str]:
    """The ids of all rows that a store gives of a search, however many are asked for."""
    return {row.id for row in ANSWERS[kind](store.rows, 10_000)}


@colours
class TestExactlyOnce:
    """Each row comes once."""

    @every_store
    @settings(max_examples=20)
    @given(size=st.integers(0, 200), sizes=SIZES)
    async def test_however_a_store_answers(self, colour: str, way: str, kind: str, size: int, sizes: list[int]) -> None:
        """Every row comes once, and the report says how the search went on and what that has moved in vain."""
        store = HostileStore(size, ANSWERS[kind])
        session = opened(colour, SOURCES[way](store))
        found = [row.id for count in sizes for row in await call(session, "fetch_next", count)]
        found += await drain(session)
        assert len(set(found)) == len(found)
        assert everything(store, kind) == set(found)
        report = session.report
        assert (True, report.limit is None) == (report.exhausted, report.complete)
        assert Continuation(way) is report.continuation
        assert store.moved == report.refetched + len(store.came)

    @pytest.mark.parametrize("way", SOURCES)
    @settings(max_examples=40)
    @given(faults=st.sets(st.integers(0, 12), max_size=6), sizes=SIZES)
    async def test_lost_connections(self, colour: str, way: str, faults: set[int], sizes: list[int]) -> None:
        """Requests that fail on their way are repeated by the session, and no row is lost or repeated."""
        store = HostileStore(150, faults=sorted(faults), fault=TransportError)
        session = opened(colour, SOURCES[way](store))
        found = [row.id for count in sizes for row in await call(session, "fetch_next", count)]
        found += await drain(session)
        assert [row.id for row in store.rows] == found
        assert session.report.complete

    @pytest.mark.parametrize("way", SOURCES)
    @pytest.mark.parametrize("fault", [StoreDown, ConnectionResetError])
    @settings(max_examples=40)
    @given(faults=st.sets(st.integers(0, 12), max_size=6), count=st.integers(1, 40))
    async def test_exceptions_of_the_store(
        self, colour: str, way: str, fault: type[Exception], faults: set[int], count: int
    ) -> None:
        """An exception of the store reaches the caller, who calls again: no row twice, and no hole that is not told.

        Failures at each attempt to get more rows than before cannot be told from a limit, and the report then says so.
        """
        store = HostileStore(150, faults=sorted(faults), fault=fault)
        session = opened(colour, SOURCES[way](store))
        found: list[str] = []
        for _ in range(200):
            try:
                page = await call(session, "fetch_next", count)
            except fault:
                continue
            found += [row.id for row in page]
            if not page:
                break
        assert session.report.exhausted
        expected = [row.id for row in store.rows]
        assert expected[: len(found)] == found
        if fault is ConnectionResetError or way == "exclusion":
            assert expected == found
        assert session.report.complete or session.report.limit >= len(found)
        assert expected == found or not session.report.complete

    @pytest.mark.parametrize("way", SOURCES)
    @settings(max_examples=40)
    @given(deleted=st.sets(st.integers(0, 79)), added=st.sets(st.integers(80, 120)), count=st.integers(1, 30))
    async def test_writes_between_pages(
        self, colour: str, way: str, deleted: set[int], added: set[int], count: int
    ) -> None:
        """Rows that are there from the start to the end come once, whatever is deleted or added meanwhile."""
        store = HostileStore(80)
        session = opened(colour, SOURCES[way](store))
        found = [row.id for row in await call(session, "fetch_next", count)]
        gone = {f"r{number}" for number in deleted}
        store.rows = [store.row(number) for number in added] + [row for row in store.rows if row.id not in gone]
        found += await drain(session, count)
        assert len(set(found)) == len(found)
        assert {f"r{number}" for number in set(range(80)) - deleted} <= set(found)


@colours
class TestCursors:
    """Searches that are interrupted and go on elsewhere."""

    @every_store
    @settings(max_examples=20)
    @given(size=st.integers(0, 150), sizes=SIZES, rest=st.integers(1, 50))
    async def test_each_row_once(
        self, colour: str, way: str, kind: str, size: int, sizes: list[int], rest: int
    ) -> None:
        """A search that is resumed from its cursor after each page, through JSON, brings each row once."""
        store = HostileStore(size, ANSWERS[kind])
        session, found = opened(colour, SOURCES[way](store)), list[str]()
        for count in sizes:
            found += [row.id for row in await call(session, "fetch_next", count)]
            cursor = json.loads(json.dumps(session.cursor()))
            await call(session, "stop")
            session = opened(colour, SOURCES[way](store), cursor=cursor)
        found += await drain(session, rest)
        assert len(set(found)) == len(found)
        assert everything(store, kind) == set(found)

    @pytest.mark.parametrize("way", SOURCES)
    async def test_rows_that_wait(self, colour: str, way: str) -> None:
        """Rows that were pulled and not decided when a policy had enough come after the cursor, each once."""
        store = HostileStore(60)
        session = opened(colour, SOURCES[way](store))
        found = [row.id for row in await call(session, "fetch_until", MaxResults(7))]
        cursor = json.loads(json.dumps(session.cursor()))
        await call(session, "stop")
        assert [row.id for row in store.rows] == found + await drain(opened(colour, SOURCES[way](store), cursor=cursor))

    @pytest.mark.parametrize("way", SOURCES)
    async def test_policies_are_pinned(self, colour: str, way: str) -> None:
        """A cursor is refused without the check that decides who sees what, and goes on with it."""
        source, until = SOURCES[way](HostileStore(90)), Accepted(5, thirds)
        session = opened(colour, source, until=until)
        found = [row.id for row in await call(session, "fetch_until")]
        cursor = json.loads(json.dumps(session.cursor()))
        await call(session, "stop")
        with pytest.raises(PolicyMismatch, match="accepted"):
            opened(colour, source, cursor=cursor)
        session = opened(colour, source, until=until, cursor=cursor)
        while page := await call(session, "fetch_until"):
            found += [row.id for row in page]
        assert [f"r{number}" for number in range(0, 90, 3)] == found


@colours
@pytest.mark.parametrize("store", [HostileStore(500, windowed), HostileStore(500, limit=100)], ids=["window", "limit"])
async def test_less_than_there_is(colour: str, store: HostileStore) -> None:
    """A session over a store that gives only so many rows ends there, and says that there may be more."""
    session = opened(colour, HostileSource(store))
    assert [f"r{number}" for number in range(100)] == await drain(session, 30)
    assert (100, False, True) == (session.report.limit, session.report.complete, session.report.exhausted)


def thirds(rows: list[QueryResult]) -> list[bool]:
    """Permit every third row."""
    return [int(row.id[1:]) % 3 == 0 for row in rows]
