"""Searches that nobody waits for any more: the engine gives up the filter that it reads values for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import pytest

from nextk import AsyncIndex
from nextk.engine.abandonment import is_abandoned
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.filter.columns import Cells, Field
from nextk.engine.filter.timer import FilterTimer
from nextk.errors import RefusedError
from nextk.server import turns
from nextk.transport.in_process import InProcessTransport
from tests.support.local_server import TOKEN, LocalServer
from tests.support.small_arrays import small_arrays

RECORDS = [(f"r{number}", [1.0, number], {"n": number}) for number in range(20)]


class SlowReads:
    """The reads of an engine for its filters, each of which waits for its caller to leave, for ten seconds at most.

    Args:
        engine: The engine.
        patch: That by which the engine is changed.

    Attributes:
        begun: Whether a read has begun.
        given_up: Whether a filter was given up.
        count: The number of reads.
    """

    def __init__(self, engine: EmbeddedEngine, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.given_up, self.count = threading.Event(), threading.Event(), 0
        self._cells, self._check = engine._storage.cells, FilterTimer.check
        patch.setattr(engine._storage, "cells", self._read)
        patch.setattr(FilterTimer, "check", lambda timer: self._checked(timer))

    def _read(self, fields: Sequence[Field], rows: Sequence[int]) -> list[Cells]:
        self.count += 1
        self.begun.set()
        for _ in range(1_000):
            if is_abandoned():
                break
            threading.Event().wait(0.01)
        return self._cells(fields, rows)

    def _checked(self, timer: FilterTimer) -> None:
        try:
            self._check(timer)
        except RefusedError:
            self.given_up.set()
            raise


Opened = tuple[AsyncIndex, EmbeddedEngine]


@asynccontextmanager
async def in_process() -> AsyncIterator[Opened]:
    """Open an index in this process, and its engine."""
    async with AsyncIndex.embedded(type="dense", dimension=2) as index:
        transport = cast("InProcessTransport", index._transport)
        yield index, cast("EmbeddedEngine", transport._open().engine)


@asynccontextmanager
async def over_http() -> AsyncIterator[Opened]:
    """Open an index on a server, and its engine."""
    with LocalServer() as server:
        async with AsyncIndex(server.add("docs", type="dense", dimension=2), TOKEN) as index:
            yield index, cast("EmbeddedEngine", server.engines["docs"])


def query(index: AsyncIndex) -> Coroutine[Any, Any, object]:
    """Send a plain query."""
    return index.query([1.0, 1.0], top_k=3, filter="n < 5")


def resumable_query(index: AsyncIndex) -> Coroutine[Any, Any, object]:
    """Send the start of a resumable query."""
    return index.resumable_query([1.0, 1.0], top_k=3, filter="n < 5")


@pytest.mark.parametrize(
    ("opened", "search"),
    # Over HTTP a client that is cancelled waits for the reply to a start, to stop its query.
    [(in_process, query), (in_process, resumable_query), (over_http, query)],
)
async def test_a_search_that_is_cancelled_gives_its_filter_up(
    monkeypatch: pytest.MonkeyPatch,
    opened: Callable[[], AbstractAsyncContextManager[Opened]],
    search: Callable[[AsyncIndex], Coroutine[Any, Any, object]],
) -> None:
    """The engine notices that its caller has left, reads nothing more for it, and keeps no query open."""
    monkeypatch.setattr(turns, "_SOON", 0)
    with small_arrays():
        async with opened() as (index, engine):
            await index.upsert(RECORDS)
            with monkeypatch.context() as patch:
                reads = SlowReads(engine, patch)
                task = asyncio.ensure_future(search(index))
                assert await asyncio.to_thread(reads.begun.wait, 10)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await asyncio.to_thread(reads.given_up.wait, 10)
            found = await index.query([1.0, 1.0], top_k=9, filter="n < 5")
            assert ["r0", "r1", "r2", "r3", "r4"] == sorted(each.id for each in found)
            assert (1, 0) == (reads.count, engine.open_queries())
