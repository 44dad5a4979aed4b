"""Sessions over stores that answer in every way: each row once, through failures, cursors and detached sessions."""

import inspect
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.errors import ClientError, TransportError
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchConfig
from nextk.stores import Continuation
from nextk.testing.blocking import AwaitableSession
from nextk.types import QueryResult
from nextk.until import Accepted, DistinctBy
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
SOURCES: dict[str, Any] = {"refetch": lambda store: HostileSource(store, len(store.rows)), "exclusion": ExcludingSource}
COMPLETE = sorted(ANSWERS.keys() - {"filtered_afterwards", "missing_some", "other_rows"})
"""The answers of which exclusion, too, finds every row."""
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
STEPS = st.lists(
    st.tuples(st.sampled_from(["go on", "cursor", "detach", "cursor elsewhere"]), st.integers(1, 40)), max_size=6
)


def session(source: Any, colour: str, cursor: Any = None, **config: Any) -> Any:
    """Open a session of a colour, whose methods are awaited."""
    chosen = SearchConfig(**config)
    if colour == "asynchronous":
        return AsyncRetrievalSession(source, QUERY, READER, texts=["q"], config=chosen, cursor=cursor)
    return AwaitableSession(RetrievalSession(source, QUERY, READER, texts=["q"], config=chosen, cursor=cursor))


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
@pytest.mark.parametrize("kind", COMPLETE)
@pytest.mark.parametrize("way", SOURCES)
@settings(max_examples=30)
@given(size=st.integers(1, 200), steps=STEPS, faults=st.sets(st.integers(0, 12), max_size=4))
async def test_each_row_once(
    colour: str, kind: str, way: str, size: int, steps: list[tuple[str, int]], faults: set[int]
) -> None:
    """However a search is interrupted and resumed, every row comes once, unless failures look like a limit.

    A store that fails several times in a row, and only for a larger k, cannot be told from one that has a limit. The
    report says so then.
    """
    store = HostileStore(size, ANSWERS[kind], faults=sorted(faults))
    source, found = SOURCES[way](store), list[str]()
    search = session(source, colour)
    for step, count in steps:
        found += await fetch(search, count)
        if step == "go on":
            continue
        cursor = json.loads(json.dumps(await search.detach() if step == "detach" else search.cursor()))
        here = SOURCES[way](store) if step == "cursor elsewhere" else source
        search = session(here, colour, cursor)
    found += await drain(search)
    report = search.report
    assert len(found) == len(set(found))
    assert (report.kept, report.pulled, report.exhausted) == (len(found), len(found), True)
    if report.complete:
        assert {row.id for row in store.rows} == set(found)
    else:
        assert len(faults) > 1
        assert report.limit is not None
    await search.stop()


async def fetch(search: Any, count: int) -> list[str]:
    """Fetch the next rows, and call again after each failure of the store."""
    while True:
        try:
            return [row.id for row in await search.fetch_next(count)]
        except (StoreDown, ConnectionResetError):
            continue


async def drain(search: Any, count: int = 50) -> list[str]:
    """Fetch the rest."""
    found: list[str] = []
    while page := await fetch(search, count):
        found += page
    return found


async def fetch_until(search: Any) -> list[QueryResult]:
    """Fetch rows until the policy of a session has enough."""
    found = search.fetch_until()
    rows: list[QueryResult] = await found if inspect.isawaitable(found) else found
    return rows


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
@pytest.mark.parametrize("way", SOURCES)
async def test_policies_are_pinned(colour: str, way: str) -> None:
    """A search over a store does not go on from a cursor without the check that it had."""
    source = SOURCES[way](HostileStore(100))
    until = Accepted(3, odd_ones) | DistinctBy(by_id, 50)
    search = session(source, colour, until=until)
    assert [row.id for row in await fetch_until(search)] == ["r1", "r3", "r5"]
    cursor = search.cursor()
    with pytest.raises(ClientError, match="accepted"):
        session(source, colour, cursor, until=DistinctBy(by_id, 50))
    again = session(source, colour, cursor, until=until)
    assert [row.id for row in await fetch_until(again)] == ["r7", "r9", "r11"]


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
@pytest.mark.parametrize(
    ("way", "kind"), [("refetch", kind) for kind in ANSWERS] + [("exclusion", kind) for kind in COMPLETE]
)
@settings(max_examples=20)
@given(size=st.integers(0, 200), sizes=SIZES)
async def test_however_a_store_answers(colour: str, way: str, kind: str, size: int, sizes: list[int]) -> None:
    """Every row that a store gives comes once, and the report says how the search went on and what it moved in vain."""
    store = HostileStore(size, ANSWERS[kind])
    search = session(SOURCES[way](store), colour)
    found = [id_ for count in sizes for id_ in await fetch(search, count)]
    found += await drain(search)
    assert len(found) == len(set(found))
    assert {row.id for row in ANSWERS[kind](store.rows, 10_000)} == set(found)
    assert search.report.continuation is Continuation(way)
    assert store.moved == search.report.refetched + len(store.came)


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
@pytest.mark.parametrize("kind", ANSWERS)
@settings(max_examples=20)
@given(size=st.integers(0, 150), sizes=SIZES)
async def test_a_cursor_after_each_page(colour: str, kind: str, size: int, sizes: list[int]) -> None:
    """A search that is resumed after each page brings each row once, even if the store answers as by chance."""
    store, found = HostileStore(size, ANSWERS[kind]), list[str]()
    search = session(HostileSource(store), colour)
    for count in sizes:
        found += await fetch(search, count)
        cursor = json.loads(json.dumps(search.cursor()))
        await search.stop()
        search = session(HostileSource(store), colour, cursor)
    found += await drain(search)
    assert len(found) == len(set(found))
    assert {row.id for row in ANSWERS[kind](store.rows, 10_000)} == set(found)


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
@pytest.mark.parametrize("way", SOURCES)
@pytest.mark.parametrize("fault", [ConnectionResetError, TransportError])
@settings(max_examples=30)
@given(faults=st.sets(st.integers(0, 12), max_size=6), sizes=SIZES)
async def test_lost_connections(
    colour: str, way: str, fault: type[Exception], faults: set[int], sizes: list[int]
) -> None:
    """Connections that are lost are never taken for a limit: every row comes once, in order."""
    store = HostileStore(150, faults=sorted(faults), fault=fault)
    search = session(SOURCES[way](store), colour, sleep=lambda _: None)
    found = [id_ for count in sizes for id_ in await fetch(search, count)]
    found += await drain(search)
    assert [row.id for row in store.rows] == found
    assert search.report.complete


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
@pytest.mark.parametrize("way", SOURCES)
@settings(max_examples=30)
@given(deleted=st.sets(st.integers(0, 79)), added=st.sets(st.integers(80, 120)), count=st.integers(1, 30))
async def test_writes_between_pulls(colour: str, way: str, deleted: set[int], added: set[int], count: int) -> None:
    """Rows that are there from the start to the end come, and none comes twice, whatever is deleted and added."""
    store = HostileStore(80)
    search = session(SOURCES[way](store), colour)
    found = await fetch(search, count)
    gone = {f"r{number}" for number in deleted}
    store.rows = [store.row(number) for number in added] + [row for row in store.rows if row.id not in gone]
    found += await drain(search, count)
    assert len(found) == len(set(found))
    assert {f"r{number}" for number in set(range(80)) - deleted} <= set(found)


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
async def test_the_report_of_a_window(colour: str) -> None:
    """A store that gives 100 rows, whatever is asked for, is served up to there, and the report says so."""
    store = HostileStore(500, windowed)
    search = session(HostileSource(store, len(store.rows)), colour)
    assert [f"r{number}" for number in range(100)] == await drain(search, 30)
    assert (search.report.limit, search.report.complete, search.report.exhausted) == (100, False, True)


@pytest.mark.parametrize("colour", ["blocking", "asynchronous"])
async def test_the_report_of_a_limit(colour: str) -> None:
    """A store that refuses more than 1,000 rows is served up to there, and the report says that it may hold more."""
    search = session(HostileSource(HostileStore(3_000, limit=1_000)), colour)
    served = 0
    while page := await fetch(search, 90):
        served += len(page)
    assert (served, search.report.limit, search.report.complete) == (1_000, 1_000, False)


def odd_ones(rows: list[QueryResult]) -> list[bool]:
    """Permit every second row."""
    return [int(row.id[1:]) % 2 == 1 for row in rows]


def by_id(row: QueryResult) -> str:
    """Return the id of a row."""
    return row.id
