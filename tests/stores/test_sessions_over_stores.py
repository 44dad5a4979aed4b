"""Sessions over stores that answer in every way: each row once, through failures, cursors and detached sessions."""

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.errors import ClientError
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, RowReader, SearchConfig
from nextk.testing.blocking import AwaitableSession
from nextk.types import QueryResult
from nextk.until import Accepted, DistinctBy
from tests.support.hostile_stores import ANSWERS, QUERY, ExcludingSource, HostileSource, HostileStore, StoreDown

READER: RowReader[QueryResult] = RowReader(lambda row: row, lambda row: str(row.data))
SOURCES: dict[str, Any] = {"refetch": lambda store: HostileSource(store, len(store.rows)), "exclusion": ExcludingSource}
COMPLETE = sorted(ANSWERS.keys() - {"filtered_afterwards", "missing_some", "other_rows"})
"""The answers of which exclusion, too, finds every row."""
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
    while page := await fetch(search, 50):
        found += page
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
        except StoreDown:
            continue


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
async def test_deleted_between_pulls(colour: str) -> None:
    """A store whose rows are deleted between two pulls gives no row twice, and those that are left."""
    store = HostileStore(60)
    search = session(HostileSource(store), colour)
    found = await fetch(search, 10)
    store.rows = store.rows[5:9] + store.rows[40:]
    found += await fetch(search, 100)
    assert len(found) == len(set(found))
    assert {row.id for row in store.rows} <= set(found)


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
