"""The lifecycle of a handle: the promises of design §3, over all four transports.

Rule 1 (no page lost or repeated on a faulty line) has its own tests in `tests/transport`.
"""

import asyncio
import gc
import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from nextk import AsyncIndex, Index
from nextk.errors import NextKError, PageUncertain, QueryNotFound, RefusedError, TransportError
from nextk.handle import AsyncResumableQueryHandle
from nextk.transport.numbering import Numbering
from tests.support.transports import Awaitable, Opener

NAMES = [f"{number}" for number in range(10)]


async def filled(open_index: Opener) -> AsyncIndex:
    """An index of ten records that all tie."""
    index = open_index("dense", dimension=1)
    await index.upsert([(name, [1.0]) for name in NAMES])
    return index


async def started(index: AsyncIndex) -> AsyncResumableQueryHandle:
    """A handle that has served two records."""
    _, handle = await index.resumable_query([1.0], 2)
    return handle


class TestLeaving:
    """The seven promises of a context manager, as psycopg makes them for its connections."""

    async def test_close(self, open_index: Opener) -> None:
        """Leaving the block frees the query on the server."""
        index = await filled(open_index)
        async with await started(index) as handle:
            assert 1 == open_index.engine(index).open_queries()
            assert ["2", "3"] == [match.id for match in await handle.fetch_next(2)]
        assert 0 == open_index.engine(index).open_queries()

    async def test_idempotent(self, open_index: Opener) -> None:
        """Leaving the block after a stop does nothing, and leaving it again neither."""
        index = await filled(open_index)
        handle = await started(index)
        sent = open_index.record(index).sent
        async with handle:
            await handle.stop()
        async with handle:
            pass
        assert [] == sent
        assert 0 == open_index.engine(index).open_queries()

    async def test_broken_connection(self, open_index: Opener, caplog: pytest.LogCaptureFixture) -> None:
        """Leaving the block never raises because the server cannot be reached; it says so in the log."""
        index = await filled(open_index)
        recording = open_index.record(index)
        recording.failures["resumable-query-end"] = TransportError("no route to host")
        with caplog.at_level(logging.INFO, logger="nextk"):
            async with await started(index):
                pass
        assert "no route to host" in caplog.text
        assert ["resumable-query", "resumable-query-end"] == recording.sent
        open_index.leaves_open = 1

    async def test_broken_connection_already_gone(self, open_index: Opener) -> None:
        """Leaving the block never raises because the query is gone already."""
        index = await filled(open_index)
        async with await started(index) as handle:
            open_index.engine(index).stop(handle._state.uuid)
        async with await started(index) as handle:
            open_index.engine(index).stop(handle._state.uuid)
            with pytest.raises(QueryNotFound):
                await handle.fetch_next(1)

    async def test_noop(self, open_index: Opener) -> None:
        """A handle that was never open sends nothing, whatever is asked of it."""
        index = await filled(open_index)
        recording = open_index.record(index)
        page, handle = await index.resumable_query([1.0], namespace="nowhere")
        async with handle:
            assert ([], []) == (page, await handle.fetch_next(5))
        assert [] == await handle.fetch_next(0)
        await handle.stop()
        await handle.stop()
        assert [] == await handle.fetch_next(5)
        assert ["resumable-query"] == recording.sent

    async def test_on_error(self, open_index: Opener) -> None:
        """An error in the block comes out of it, and the query is stopped."""
        index = await filled(open_index)
        with pytest.raises(ZeroDivisionError):
            async with await started(index):
                raise ZeroDivisionError
        assert 0 == open_index.engine(index).open_queries()

    async def test_no_clobber(self, open_index: Opener) -> None:
        """An error in the block is never hidden by one on the way out."""
        index = await filled(open_index)
        open_index.record(index).failures["resumable-query-end"] = TransportError("no route to host")
        with pytest.raises(ZeroDivisionError):
            async with await started(index):
                raise ZeroDivisionError
        open_index.leaves_open = 1

    async def test_warn(self, open_index: Opener) -> None:
        """A handle that is dropped while open warns, and the next call stops its query."""
        index = await filled(open_index)
        held = [await started(index)]
        with pytest.warns(ResourceWarning, match=r"ResumableQueryHandle .* was dropped while open"):
            held.clear()
        assert 1 == open_index.engine(index).open_queries()
        await index.info()
        assert 0 == open_index.engine(index).open_queries()

    async def test_warn_only_if_open(self, open_index: Opener) -> None:
        """A handle that was stopped, or never open, is dropped in silence."""
        index = await filled(open_index)
        handle = await started(index)
        await handle.stop()
        _, absent = await index.resumable_query([1.0], namespace="nowhere")
        del handle, absent
        with warnings.catch_warnings(record=True) as caught:
            gc.collect()
        assert [] == caught


class TestStopping:
    """Explicit stops, and what a stopped handle does."""

    async def test_stopped_twice(self, open_index: Opener) -> None:
        """A second explicit stop is refused without a round trip."""
        index = await filled(open_index)
        handle = await started(index)
        recording = open_index.record(index)
        await handle.stop()
        for ask in (handle.stop(), handle.fetch_next(1)):
            with pytest.raises(RefusedError, match="stopped") as caught:
                await ask
            assert 0 == caught.value.status
        assert [] == recording.sent

    async def test_used_after_its_block(self, open_index: Opener) -> None:
        """A handle whose block was left is a stopped one."""
        index = await filled(open_index)
        async with await started(index) as handle:
            pass
        for ask in (handle.stop(), handle.fetch_next(1)):
            with pytest.raises(RefusedError, match="stopped"):
                await ask

    async def test_stopped_by_someone_else(self, open_index: Opener) -> None:
        """A query that the server has dropped is not found, and stays so without asking again."""
        index = await filled(open_index)
        handle = await started(index)
        open_index.engine(index).stop(handle._state.uuid)
        recording = open_index.record(index)
        for ask in (handle.fetch_next, handle.fetch_next):
            with pytest.raises(QueryNotFound, match=handle._state.uuid) as caught:
                await ask(1)
            assert 404 == caught.value.status
        with pytest.raises(QueryNotFound):
            await handle.stop()
        assert len(recording.sent) <= 1

    async def test_stop_of_a_query_that_is_gone(self, open_index: Opener) -> None:
        """An explicit stop says so when the query was gone already."""
        index = await filled(open_index)
        handle = await started(index)
        open_index.engine(index).stop(handle._state.uuid)
        with pytest.raises(QueryNotFound):
            await handle.stop()

    @pytest.mark.parametrize("size", [0, -1, 1_001])
    async def test_a_refused_size_moves_nothing(self, open_index: Opener, size: int) -> None:
        """A page size out of range is refused, and the query goes on where it was."""
        index = await filled(open_index)
        async with await started(index) as handle:
            with pytest.raises(RefusedError) as caught:
                await handle.fetch_next(size)
            assert 422 == caught.value.status
            assert ["2"] == [match.id for match in await handle.fetch_next(1)]

    async def test_server_unreachable_before_a_page(self, open_index: Opener) -> None:
        """A page that surely was not asked for is not lost: the same handle fetches it later."""
        index = await filled(open_index)
        recording = open_index.record(index)
        async with await started(index) as handle:
            refused = recording.failures["resumable-query-next"] = TransportError("connection refused")
            refused.sent = False
            with pytest.raises(TransportError):
                await handle.fetch_next(1)
            recording.failures.clear()
            assert ["2"] == [match.id for match in await handle.fetch_next(1)]

    async def test_uncertain_page(self, open_index: Opener) -> None:
        """After a page whose fate is unknown, the handle refuses the next ones, but can be stopped."""
        index = await filled(open_index)
        recording = open_index.record(index)
        handle = await started(index)
        recording.failures["resumable-query-next"] = PageUncertain("timeout")
        for _ in range(2):
            with pytest.raises(PageUncertain):
                await handle.fetch_next(1)
        await handle.stop()
        assert ["resumable-query", "resumable-query-next", "resumable-query-end"] == recording.sent
        with pytest.raises(RefusedError, match="stopped"):
            await handle.fetch_next(1)

    async def test_interrupted_page(self, open_index: Opener) -> None:
        """A page that is interrupted, as by Ctrl-C, is uncertain as well if the server does not number pages."""
        index = await filled(open_index)
        recording = open_index.record(index)
        recording.numbering = Numbering(False)
        handle = await started(index)
        recording.failures["resumable-query-next"] = GeneratorExit()
        with pytest.raises(GeneratorExit):
            await handle.fetch_next(1)
        with pytest.raises(PageUncertain):
            await handle.fetch_next(1)
        await handle.stop()

    async def test_uncertain_page_in_a_block(self, open_index: Opener) -> None:
        """Leaving the block stops a query whose last page is uncertain."""
        index = await filled(open_index)
        open_index.record(index).failures["resumable-query-next"] = PageUncertain("timeout")
        with pytest.raises(PageUncertain):
            async with await started(index) as handle:
                await handle.fetch_next(1)
        assert 0 == open_index.engine(index).open_queries()


class TestDropping:
    """Handles that nobody stops."""

    async def test_closing_the_index_stops_them(self, open_index: Opener) -> None:
        """Closing the index stops the queries whose handles were dropped."""
        index = await filled(open_index)
        held = [await started(index)]
        with pytest.warns(ResourceWarning):
            held.clear()
        open_index.engine(index).close = lambda: None  # to look into it afterwards
        await index.close()
        assert 0 == open_index.engine(index).open_queries()

    async def test_the_finaliser_does_nothing_but_note(self, open_index: Opener) -> None:
        """The finaliser sends nothing and takes no lock: it appends the uuid for the next call."""
        index = await filled(open_index)
        handle = await started(index)
        uuid = handle._state.uuid
        recording = open_index.record(index)
        inner = handle.inner if isinstance(handle, Awaitable) else handle
        inner._transport = recording
        inner._lock = threading.Lock()
        with inner._lock, pytest.warns(ResourceWarning):
            inner.__del__()
        assert ([uuid], []) == (list(recording.orphans), recording.sent)
        del handle, inner  # nothing more to warn of
        await index.info()
        assert 0 == open_index.engine(index).open_queries()

    async def test_closed_index(self, open_index: Opener) -> None:
        """Closing twice does nothing; `async with` closes."""
        index = await filled(open_index)
        async with index:
            await index.info()
        await index.close()

    async def test_dropped_in_a_cycle(self, open_index: Opener) -> None:
        """A handle that is part of a reference cycle is found by the collector and stopped as well."""
        index = await filled(open_index)
        handle = await started(index)
        handle.itself = handle  # type: ignore[attr-defined]
        del handle
        with pytest.warns(ResourceWarning):
            gc.collect()
        await index.info()
        assert 0 == open_index.engine(index).open_queries()


class TestSharing:
    """One handle in many hands."""

    async def test_callers_get_disjoint_pages(self, open_index: Opener) -> None:
        """Tasks, or threads, that share a handle wait for each other: disjoint pages, nothing skipped."""
        index = open_index("dense", dimension=1)
        names = [str(number) for number in range(60)]
        await index.upsert([(name, [1.0]) for name in names])
        first, handle = await index.resumable_query([1.0], 4)
        sizes = [1, 2, 3] * 8
        if isinstance(handle, Awaitable):
            with ThreadPoolExecutor(6) as pool:
                served = list(pool.map(handle.inner.fetch_next, sizes))
        else:
            served = await asyncio.gather(*map(handle.fetch_next, sizes))
        rest = await handle.fetch_next(1_000)
        await handle.stop()
        numbers = [[int(match.id) for match in page] for page in (first, *served, rest)]
        assert list(range(60)) == sorted(number for page in numbers for number in page)
        assert all(page == list(range(page[0], page[0] + len(page))) for page in numbers if page)

    async def test_an_index_is_shared(self, open_index: Opener) -> None:
        """Several callers, threads where it blocks, use one index at the same time."""
        index = open_index("dense", dimension=1)
        names = [str(number) for number in range(24)]
        if isinstance(index, Awaitable):
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(lambda name: index.inner.upsert([(name, [1.0])]), names))
                found = list(pool.map(lambda _: index.inner.query([1.0], 100), range(6)))
        else:
            await asyncio.gather(*(index.upsert([(name, [1.0])]) for name in names))
            found = await asyncio.gather(*(index.query([1.0], 100) for _ in range(6)))
        assert [set(names)] * 6 == [{match.id for match in page} for page in found]

    async def test_the_other_colour(self, open_index: Opener) -> None:
        """`to_async` and `to_sync` give the other colour over the same index."""
        index = await filled(open_index)
        if isinstance(index, Awaitable):
            other = index.inner.to_async()
            assert type(other) is AsyncIndex
            assert 10 == len(await other.query([1.0]))
            await other.close()
        else:
            blocking = index.to_sync()
            assert type(blocking) is Index
            assert 10 == len(await asyncio.to_thread(blocking.query, [1.0]))
            await asyncio.to_thread(blocking.close)


def test_state_is_seen() -> None:
    """A handle's representation says where it is in its life, and its block raises nothing by itself."""
    with Index.embedded(type="dense", dimension=1) as index:
        index.upsert([("a", [1.0])])
        _, handle = index.resumable_query([1.0])
        assert "open" in repr(handle)
        handle.stop()
        assert "stopped" in repr(handle)
        _, absent = index.resumable_query([1.0], namespace="nowhere")
        assert "absent" in repr(absent)


def test_closed_in_process() -> None:
    """An embedded index that is closed says so, and a handle's block is still left without an error."""
    index = Index.embedded(type="dense", dimension=1)
    index.upsert([("a", [1.0])])
    _, handle = index.resumable_query([1.0])
    with handle:
        index.close()
    with pytest.raises(NextKError, match="closed"):
        index.info()
