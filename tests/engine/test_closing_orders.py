"""Orders that hold something, such as a connection, until their query has ended."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nextk.engine.open_queries import OpenQueries
from nextk.engine.open_query import QueryStart
from nextk.engine.ranking import LazyRanking, Ranked
from nextk.engine.values import Match
from nextk.errors import QueryNotFound
from tests.engine.test_open_queries import ManualClock


class HoldingOrder(LazyRanking):
    """Rows from 0, and something that has to be closed."""

    def __init__(self, rows: int = 9) -> None:
        super().__init__(np.arange(rows), np.zeros(rows, np.float32))
        self.closed = 0

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


class FailingOrder(HoldingOrder):
    """An order whose rows cannot be read."""

    def take(self, count: int) -> Ranked:
        """Fail."""
        raise OSError


def load(rows: Sequence[int], limit: int) -> dict[int, Match]:
    """The records of numbers."""
    return {row: Match(str(row)) for row in rows}


def opened(queries: OpenQueries, order: HoldingOrder | None = None) -> tuple[str, HoldingOrder]:
    """Start a query that may be idle for 10 seconds."""
    held = order or HoldingOrder()
    uuid, _ = queries.start(QueryStart(lambda: (lambda: held, load), 10, 1))
    return uuid, held


def stopped(queries: OpenQueries, uuid: str, clock: ManualClock) -> None:
    """Stop the query."""
    queries.stop(uuid)


def expired(queries: OpenQueries, uuid: str, clock: ManualClock) -> None:
    """Let the query expire, and be swept."""
    clock.now += 11
    queries.sweep()


def closed(queries: OpenQueries, uuid: str, clock: ManualClock) -> None:
    """Close the engine."""
    queries.close()


@pytest.mark.parametrize("end", [stopped, expired, closed])
def test_an_order_is_closed_with_its_query(end: Callable[[OpenQueries, str, ManualClock], None]) -> None:
    """However a query ends, its order is closed once, and not before."""
    clock = ManualClock()
    queries = OpenQueries(2, clock)
    uuid, held = opened(queries)
    assert ["1"] == [match.id for match in queries.fetch_next(uuid, 1)]
    assert 0 == held.closed
    end(queries, uuid, clock)
    assert 1 == held.closed
    with pytest.raises(QueryNotFound):
        queries.fetch_next(uuid, 1)


def test_an_evicted_order_is_closed_before_the_new_one_is_made() -> None:
    """A query that makes room has released what it holds before the new query is ranked, which may need that."""
    clock = ManualClock()
    queries = OpenQueries(1, clock)
    uuid, held = opened_for(queries, 100)
    clock.now += 61
    found: list[int] = []

    def rank() -> HoldingOrder:
        found.append(held.closed)
        return HoldingOrder()

    queries.start(QueryStart(lambda: (rank, load), 10, 1))
    assert [1] == found
    with pytest.raises(QueryNotFound):
        queries.require(uuid)


def opened_for(queries: OpenQueries, max_idle: float) -> tuple[str, HoldingOrder]:
    """Start a query that may be idle for so many seconds."""
    held = HoldingOrder()
    uuid, _ = queries.start(QueryStart(lambda: (lambda: held, load), max_idle, 1))
    return uuid, held


def test_an_order_that_fails_is_closed() -> None:
    """An order that fails at its first page is closed, and no query is open."""
    queries, held = OpenQueries(1, ManualClock()), FailingOrder()
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        opened(queries, held)
    assert (1, 0) == (held.closed, len(queries))


def test_an_order_is_never_closed_while_it_is_read() -> None:
    """A query that is closed with its engine releases its order once the page that is being read is finished."""
    queries, held = OpenQueries(1, ManualClock()), HoldingOrder()
    reading, go_on = threading.Event(), threading.Event()

    def slow(rows: Sequence[int], limit: int) -> dict[int, Match]:
        if 0 not in rows:
            reading.set()
            assert go_on.wait(10)
        return load(rows, limit)

    uuid, _ = queries.start(QueryStart(lambda: (lambda: held, slow), 10, 1))
    with ThreadPoolExecutor(2) as threads:
        page = threads.submit(queries.fetch_next, uuid, 1)
        assert reading.wait(10)
        closing = threads.submit(queries.close)
        assert 0 == held.closed
        go_on.set()
        assert ["1"] == [match.id for match in page.result()]
        closing.result()
    assert 1 == held.closed


@pytest.mark.parametrize("moment", ["snapshot", "ranking"])
def test_a_close_during_a_start(moment: str) -> None:
    """A start during which the engine is closed opens nothing, and what it has made is released."""
    queries, held = OpenQueries(1, ManualClock()), HoldingOrder()

    def rank() -> HoldingOrder:
        if moment == "ranking":
            queries.close()
        return held

    def take_snapshot() -> tuple[Callable[[], HoldingOrder], Callable[..., dict[int, Match]]]:
        if moment == "snapshot":
            queries.close()
        return rank, load

    with pytest.raises(QueryNotFound):
        queries.start(QueryStart(take_snapshot, 10, 1))
    assert 0 == len(queries)
    assert ({"snapshot": 0, "ranking": 1}[moment]) == held.closed
