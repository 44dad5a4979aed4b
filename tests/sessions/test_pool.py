"""The pool: how many searches are open at once, parked queries, and a server that has no room."""

import asyncio
import contextlib
import functools
import gc
import threading
from collections import deque
from collections.abc import Awaitable as Waited
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from nextk import AsyncIndex, Index, Vector
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.errors import ClientError, LimitReached, RefusedError, TooManyQueries, TransportError
from nextk.langchain import ResumableRetriever as LangChainRetriever
from nextk.llama_index import ResumableRetriever as LlamaIndexRetriever
from nextk.sessions import Limits, Shortfall
from nextk.sessions import pool as pool_module
from nextk.sessions.pool import MAX_OPEN, MAX_WAIT, Parked, QueryPool, Slot, pool_of
from nextk.testing import Fault, FaultPlan, RequestKind, faulty
from nextk.until import Accepted, MaxResults
from tests.support.local_server import LocalServer
from tests.support.searches import (
    COLOURS,
    ROWS,
    SHAPES,
    SIZES,
    Bench,
    ids,
    open_async_session,
    open_session,
    run,
    search_of,
)
from tests.support.sentence_index import TEXTS, sentences
from tests.support.transports import Awaitable, Recording


def narrow(index: Index, capacity: int, patience: float = 0.02) -> QueryPool:
    """Give an index a small pool instead of its own."""
    transport = index._transport
    pool_module._pools[transport] = made = QueryPool(transport.orphans, capacity, patience)
    transport.closing_hooks.append(made.clear)
    return made


def hogs(bench: Bench, count: int) -> list[Any]:
    """Queries of somebody else that are open on the server."""
    return [bench.index.resumable_query(top_k=1, **bench.shape.question.parameters())[1] for _ in range(count)]


async def until(done: Callable[[], bool]) -> None:
    """Wait for what happens on another thread, or in another task."""
    while not done():  # noqa: ASYNC110
        await asyncio.sleep(0.0005)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """Either colour of a session."""
    return str(request.param)


@pytest.fixture
def dense() -> Iterator[Bench]:
    """A dense index; afterwards nothing is open."""
    bench = Bench.build(SHAPES["dense"])
    yield bench
    bench.index.info()  # drops what was let go of
    assert 0 == bench.engine.open_queries()
    bench.index.close()


@pytest.fixture
def small() -> QueryPool:
    """Two slots, and little patience."""
    return QueryPool(deque(), 2, 0.02)


def free(pool: QueryPool) -> int:
    """How many slots can be had at once."""
    taken = []
    patience, pool._max_wait = pool._max_wait, 0.001
    with contextlib.suppress(TooManyQueries):
        while True:
            taken.append(pool.acquire())
    pool._max_wait = patience
    for slot in taken:
        slot.release()
    return len(taken)


class TestPermits:
    """The pool by itself."""

    def test_the_numbers(self) -> None:
        """Thirty-two at once, and five seconds of patience."""
        assert (32, 5.0) == (MAX_OPEN, MAX_WAIT)

    async def test_one_too_many(self, small: QueryPool, colour: str) -> None:
        """Who finds no slot within the time is told so, and that no server was asked."""
        held = [small.acquire(), await small.aacquire()]
        with pytest.raises(TooManyQueries, match="2 searches are open") as caught:
            await (small.aacquire() if colour == "async" else Awaitable(small).acquire())
        assert 0 == caught.value.status
        assert 0 == free(small)
        for slot in held:
            slot.release()
        assert 2 == free(small)

    def test_it_is_given_back_once(self, small: QueryPool) -> None:
        """Releasing again gives nothing back again."""
        held = [small.acquire(), small.acquire()]
        for _ in range(3):
            held[0].release()
        assert 1 == free(small)
        held[1].release()
        assert 2 == free(small)

    def test_a_thread_waits(self) -> None:
        """A thread that waits gets the slot that comes back."""
        pool = QueryPool(deque(), 1, 60)
        held = pool.acquire()
        got: list[Slot] = []
        thread = threading.Thread(target=lambda: got.append(pool.acquire()))
        thread.start()
        while not pool._waiting:
            pass
        assert not got
        held.release()
        thread.join()
        assert (1, 0) == (len(got), free(pool))
        got[0].release()
        assert 1 == free(pool)

    async def test_a_task_waits(self) -> None:
        """A task that waits gets the slot that comes back, and does not block the event loop meanwhile."""
        pool = QueryPool(deque(), 1, 60)
        held = pool.acquire()
        task = asyncio.create_task(pool.aacquire())
        await until(lambda: bool(pool._waiting))
        held.release()
        (await task).release()
        assert 1 == free(pool)

    async def test_first_come_first_served(self) -> None:
        """Threads and tasks get their turn in the order in which they came."""
        pool = QueryPool(deque(), 1, 60)
        held = pool.acquire()
        order: list[int] = []

        def block(number: int) -> None:
            slot = pool.acquire()
            order.append(number)
            slot.release()

        async def wait(number: int) -> None:
            slot = await pool.aacquire()
            order.append(number)
            slot.release()

        with ThreadPoolExecutor(6) as executor:
            loop = asyncio.get_running_loop()
            waiting: list[Any] = []
            for number in range(6):
                waiting.append(
                    loop.run_in_executor(executor, block, number) if number % 2 else asyncio.create_task(wait(number))
                )
                await until(lambda count=number + 1: len(pool._waiting) == count)  # type: ignore[misc]
            held.release()
            await asyncio.gather(*waiting)
        assert list(range(6)) == order
        assert 1 == free(pool)

    async def test_cancelled_while_waiting(self) -> None:
        """A task that is cancelled while it waits takes no slot with it."""
        pool = QueryPool(deque(), 1, 60)
        held = pool.acquire()
        tasks = [asyncio.create_task(pool.aacquire()) for _ in range(3)]
        await until(lambda: len(pool._waiting) == 3)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(tasks[0], tasks[2], return_exceptions=True)
        held.release()
        (await tasks[1]).release()
        assert 1 == free(pool)

    @pytest.mark.parametrize("steps", range(5))
    async def test_cancelled_as_its_turn_comes(self, steps: int) -> None:
        """Whenever a cancellation meets the turn, the slot is not lost."""
        pool = QueryPool(deque(), 1, 60)
        held = pool.acquire()
        task = asyncio.create_task(pool.aacquire())
        await until(lambda: bool(pool._waiting))
        held.release()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        for outcome in await asyncio.gather(task, return_exceptions=True):
            if isinstance(outcome, Slot):
                outcome.release()
        del outcome, task
        assert 1 == free(pool)

    def test_the_event_loop_ends(self) -> None:
        """An event loop that ends while a task waits takes no slot with it."""
        pool = QueryPool(deque(), 1, 60)
        held = pool.acquire()

        async def leave_waiting() -> None:
            waiting = asyncio.create_task(pool.aacquire())
            await until(lambda: bool(pool._waiting))
            assert not waiting.done()

        asyncio.run(leave_waiting())
        held.release()
        assert 1 == free(pool)

    def test_dropped(self, small: QueryPool) -> None:
        """A slot that is dropped is there for whoever asks next."""
        held = [small.acquire(), small.acquire()]
        del held[0]
        gc.collect()
        assert 1 == free(small)
        held.clear()
        assert 2 == free(small)

    @pytest.mark.parametrize("colour", COLOURS)
    async def test_dropped_while_somebody_waits(self, colour: str) -> None:
        """A slot that is dropped is not lost to one who waits already: he has it by the end of his patience."""
        pool = QueryPool(deque(), 1, 0.15)
        held = [pool.acquire()]
        with ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            waiting: Any = (
                loop.run_in_executor(executor, pool.acquire)
                if colour == "sync"
                else asyncio.create_task(pool.aacquire())
            )
            await until(lambda: bool(pool._waiting))
            held.clear()
            (await waiting).release()
        assert 1 == free(pool)

    async def test_never_more_than_there_are(self) -> None:
        """However many threads and tasks ask at once, no more than the capacity have a slot, and all get one."""
        pool = QueryPool(deque(), 3, 60)
        room = Room()

        def block() -> None:
            for place in range(40):
                slot = pool.acquire()
                with room:
                    pass
                if place % 4:
                    slot.release()
                del slot  # some are only dropped

        async def wait() -> None:
            for place in range(40):
                slot = await pool.aacquire()
                with room:
                    await asyncio.sleep(0)
                slot.release()
                if place % 8 == 0:
                    await give_up(pool)

        with ThreadPoolExecutor(4) as executor:
            loop = asyncio.get_running_loop()
            threads = [loop.run_in_executor(executor, block) for _ in range(4)]
            await asyncio.gather(*(wait() for _ in range(6)), *threads)
        assert (0, 400) == (room.now, room.done)
        assert room.most <= 3
        gc.collect()
        assert 3 == free(pool)


class Room:
    """Counts who is inside.

    Attributes:
        now: How many are.
        most: How many were at once.
        done: How many have left.
    """

    def __init__(self) -> None:
        self.now = self.most = self.done = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1
            self.done += 1


async def give_up(pool: QueryPool) -> None:
    """Ask for a slot, and be cancelled."""
    task = asyncio.create_task(pool.aacquire())
    await asyncio.sleep(0)
    task.cancel()
    for outcome in await asyncio.gather(task, return_exceptions=True):
        if isinstance(outcome, Slot):
            outcome.release()


class TestParked:
    """Queries that wait to be taken up again."""

    @staticmethod
    def park(pool: QueryPool, *names: str) -> None:
        """Park a query under each name."""
        for name in names:
            pool.park(name, Parked(f"uuid of {name}", 1, [], 0, pool.acquire()))

    async def test_evicted(self, small: QueryPool, colour: str) -> None:
        """Who needs room gets that of the query that was parked first, which is stopped."""
        self.park(small, "a", "b")
        slot = await (small.aacquire() if colour == "async" else Awaitable(small).acquire())
        assert ["uuid of a"] == list(small._orphans)
        assert small.claim("a") is None
        claimed = small.claim("b")
        assert claimed is not None
        assert "uuid of b" == claimed.uuid
        claimed.slot.release()
        slot.release()
        assert 2 == free(small)

    def test_it_is_claimed_once(self, small: QueryPool) -> None:
        """Whoever comes first gets it, and it is not evicted then."""
        self.park(small, "a")
        claimed = small.claim("a")
        assert claimed is not None
        assert (None, None) == (small.claim("a"), small.claim("nobody"))
        other = small.acquire()
        with pytest.raises(TooManyQueries):
            small.acquire()
        assert [] == list(small._orphans)
        other.release()
        claimed.slot.release()

    def test_under_the_same_name(self, small: QueryPool) -> None:
        """Of two under one name the second one stays, and the first one is stopped and gives its room back."""
        self.park(small, "a")
        small.park("a", Parked("another", 1, [], 0, small.acquire()))
        assert ["uuid of a"] == list(small._orphans)
        small.acquire().release()
        claimed = small.claim("a")
        assert claimed is not None
        assert "another" == claimed.uuid
        claimed.slot.release()
        assert 2 == free(small)

    def test_clearing(self, small: QueryPool) -> None:
        """Clearing stops all of them and gives their room back; again it does nothing."""
        self.park(small, "a", "b")
        small.clear()
        small.clear()
        assert ["uuid of a", "uuid of b"] == list(small._orphans)
        assert 2 == free(small)

    async def test_parked_while_somebody_waits(self, colour: str) -> None:
        """Who waits already gets the room of a query that is parked meanwhile."""
        pool = QueryPool(deque(), 1, 1)
        held = pool.acquire()
        with ThreadPoolExecutor(1) as executor:
            loop = asyncio.get_running_loop()
            waiting: Any = (
                loop.run_in_executor(executor, pool.acquire)
                if colour == "sync"
                else asyncio.create_task(pool.aacquire())
            )
            await until(lambda: bool(pool._waiting))
            pool.park("a", Parked("uuid of a", 1, [], 0, held))
            (await waiting).release()
        assert ["uuid of a"] == list(pool._orphans)
        assert 1 == free(pool)


class TestSessions:
    """What sessions make of it."""

    async def test_both_colours_together(self, dense: Bench) -> None:
        """Both colours of an index have thirty-two open searches between them; the next one waits for one to end."""
        expected = ids(dense.index.query(top_k=3, **dense.shape.question.parameters()))
        open_ones = [search_of(dense.index, dense.shape.question, COLOURS[place % 2]) for place in range(32)]
        for search in open_ones:
            assert expected == await search.fetch_next(3)
        assert 32 == dense.engine.open_queries()
        pool = pool_of(dense.index._transport)
        pool._max_wait = 0.02
        for colour in COLOURS:
            late = search_of(dense.index, dense.shape.question, colour)
            with pytest.raises(TooManyQueries, match="leave each by `with`"):
                await late.fetch_next(3)
            assert 32 == dense.engine.open_queries()
            await open_ones.pop().stop()
            assert expected == await late.fetch_next(3)
            open_ones.append(late)
        assert 32 == dense.engine.open_queries()
        for search in open_ones:
            await search.stop()
        assert 32 == free(pool)

    async def test_it_waits_for_a_task(self, dense: Bench) -> None:
        """A search that waits starts as soon as another one ends, whichever colour that has."""
        narrow(dense.index, 1, 60)
        for ending in COLOURS:
            search = search_of(dense.index, dense.shape.question, ending)
            await search.fetch_next(1)
            late = open_async_session(dense.index.to_async(), dense.shape.question)
            pulling = asyncio.create_task(late.fetch_next(4))
            await until(lambda: bool(pool_of(dense.index._transport)._waiting))
            assert 1 == dense.engine.open_queries()
            await search.stop()
            assert 4 == len(await pulling)
            await late.stop()

    def test_it_waits_for_a_thread(self, dense: Bench) -> None:
        """The same for a search that blocks its thread."""
        pool = narrow(dense.index, 1, 60)
        with open_session(dense.index, dense.shape.question) as search, ThreadPoolExecutor(1) as executor:
            search.fetch_next(1)
            late = open_session(dense.index, dense.shape.question)
            pulling = executor.submit(late.fetch_next, 4)
            while not pool._waiting:
                pass
            search.stop()
            assert 4 == len(pulling.result())
            late.stop()

    async def test_waiting_in_vain_loses_nothing(self, dense: Bench, colour: str) -> None:
        """A search that lost its query and waits for room in vain goes on later, with the next row."""
        narrow(dense.index, 1)
        expected = run(open_session(dense.index, dense.shape.question)).ids
        search = search_of(dense.index, dense.shape.question, colour)
        cursor = None
        served = await search.fetch_next(4)
        cursor = await search.detach()
        other = search_of(dense.index, dense.shape.question, colour, texts=["other"])
        await other.fetch_next(1)  # the parked one is evicted
        dense.index.info()
        assert 1 == dense.engine.open_queries()
        search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
        for _ in range(2):
            with pytest.raises(TooManyQueries):
                await search.fetch_next(3)
        await other.stop()
        served += await search.fetch_next(100)
        assert (expected, 1) == (served, search.report.recovered)

    async def test_a_cancelled_wait(self, dense: Bench) -> None:
        """A search that is cancelled while it waits can be pulled from again."""
        pool = narrow(dense.index, 1, 60)
        with open_session(dense.index, dense.shape.question) as search:
            search.fetch_next(1)
            late = open_async_session(dense.index.to_async(), dense.shape.question)
            pulling = asyncio.create_task(late.fetch_next(4))
            await until(lambda: bool(pool._waiting))
            pulling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pulling
        assert 1 == free(pool)
        assert 4 == len(await late.fetch_next(4))
        await late.stop()
        assert 1 == free(pool)

    async def test_stopped_while_it_waits(self, dense: Bench) -> None:
        """A search that is stopped while it waits opens nothing when its turn comes, and gives it back."""
        pool = narrow(dense.index, 1, 60)
        search = open_session(dense.index, dense.shape.question)
        search.fetch_next(1)
        late = open_async_session(dense.index.to_async(), dense.shape.question)
        pulling = asyncio.create_task(late.fetch_next(4))
        await until(lambda: bool(pool._waiting))
        await late.stop()
        search.stop()
        with pytest.raises(ClientError, match="open a new one"):
            await pulling
        assert (0, 1) == (dense.engine.open_queries(), free(pool))

    async def test_parked_searches_make_room(self, dense: Bench, colour: str) -> None:
        """Parked searches count, and the first one parked makes room for a new one; its cursor still goes on."""
        pool = narrow(dense.index, 2)
        expected = run(open_session(dense.index, dense.shape.question)).ids
        cursors = []
        for size in (3, 4, 5):
            search = search_of(dense.index, dense.shape.question, colour)
            await search.fetch_next(size)
            cursors.append((size, await search.detach()))
            dense.index.info()
            assert min(2, size - 2) == dense.engine.open_queries()
        for (size, cursor), recovered in zip(reversed(cursors), (0, 0, 1), strict=True):
            search = search_of(dense.index, dense.shape.question, colour, cursor=cursor)
            assert (expected[size:], recovered) == (await search.fetch_next(100), search.report.recovered)
        assert 2 == free(pool)

    async def test_detached_while_somebody_waits(self, dense: Bench) -> None:
        """A search that is detached makes room for one that waits already."""
        narrow(dense.index, 1, 1)
        search = open_session(dense.index, dense.shape.question)
        served = search.fetch_next(3)
        async with open_async_session(dense.index.to_async(), dense.shape.question) as late:
            pulling = asyncio.create_task(late.fetch_next(4))
            await until(lambda: bool(pool_of(dense.index._transport)._waiting))
            cursor = search.detach()
            assert 4 == len(await pulling)
        with open_session(dense.index, dense.shape.question, cursor=cursor) as search:
            assert not set(served) & set(search.fetch_next(100))

    async def test_many_at_once(self, dense: Bench) -> None:
        """Many searches of both colours at once all succeed, and never more are open than may be."""
        narrow(dense.index, 3, 60)
        expected = run(open_session(dense.index, dense.shape.question)).ids
        most = 0

        def block() -> list[str]:
            nonlocal most
            with open_session(dense.index, dense.shape.question) as search:
                rows = search.fetch_next(5)
                most = max(most, dense.engine.open_queries())
                return rows

        async def wait() -> list[str]:
            nonlocal most
            async with open_async_session(dense.index.to_async(), dense.shape.question) as search:
                rows = await search.fetch_next(5)
                most = max(most, dense.engine.open_queries())
                return rows

        with ThreadPoolExecutor(6) as executor:
            loop = asyncio.get_running_loop()
            threads = [loop.run_in_executor(executor, block) for _ in range(20)]
            found = await asyncio.gather(*(wait() for _ in range(20)), *threads)
        assert [expected[:5]] * 40 == found
        assert most <= 3


class Boom(Exception):
    """What goes wrong in a body."""


async def _stop(bench: Bench) -> None:
    search = open_session(bench.index, bench.shape.question)
    search.fetch_next(3)
    search.stop()


async def _astop(bench: Bench) -> None:
    search = open_async_session(bench.index.to_async(), bench.shape.question)
    await search.fetch_next(3)
    await search.stop()


async def _exhaust(bench: Bench) -> None:
    open_session(bench.index, bench.shape.question).fetch_next(100)


async def _aexhaust(bench: Bench) -> None:
    await open_async_session(bench.index.to_async(), bench.shape.question).fetch_next(100)


async def _raise(bench: Bench) -> None:
    with contextlib.suppress(Boom), open_session(bench.index, bench.shape.question) as search:
        search.fetch_next(3)
        raise Boom


async def _araise(bench: Bench) -> None:
    with contextlib.suppress(Boom):
        async with open_async_session(bench.index.to_async(), bench.shape.question) as search:
            await search.fetch_next(3)
            raise Boom


async def _fail_to_start(bench: Bench) -> None:
    for colour in COLOURS:
        recording = Recording(bench.index._transport)
        narrow(Index._over(recording), 1)
        recording.failures["resumable-query"] = TransportError("not now")
        async with search_of(Index._over(recording), bench.shape.question, colour) as search:
            with pytest.raises(TransportError):
                await search.fetch_next(3)
        assert 1 == free(pool_of(recording))


async def _refused_start(bench: Bench) -> None:
    for colour in COLOURS:
        async with search_of(bench.index, replace(bench.shape.question, filter="number <"), colour) as search:
            with pytest.raises(RefusedError):
                await search.fetch_next(3)


async def _leave_pages(bench: Bench) -> None:
    for rows in open_session(bench.index, bench.shape.question).pages(3):
        assert 3 == len(rows)
        break


async def _close_pages(bench: Bench) -> None:
    pages: Any = open_session(bench.index, bench.shape.question).pages(3)
    next(pages)
    with pytest.raises(GeneratorExit):
        pages.throw(GeneratorExit)


async def _leave_rows(bench: Bench) -> None:
    for row in open_session(bench.index, bench.shape.question):
        assert row
        break


async def _aclose_pages(bench: Bench) -> None:
    pages: Any = open_async_session(bench.index.to_async(), bench.shape.question).pages(3)
    assert 3 == len(await anext(pages))
    await pages.aclose()


async def _aleave_pages(bench: Bench) -> None:
    """The generator is dropped, and the event loop closes it."""
    search = open_async_session(bench.index.to_async(), bench.shape.question)
    async for rows in search.pages(3):
        assert 3 == len(rows)
        break
    await until(lambda: bool(pool_of(bench.index._transport)._free))  # the event loop has closed the generator


async def _aleave_rows(bench: Bench) -> None:
    search = open_async_session(bench.index.to_async(), bench.shape.question)
    async for row in search:
        assert row
        break
    await until(lambda: bool(pool_of(bench.index._transport)._free))  # the event loop has closed the generator


async def _raise_in_pages(bench: Bench) -> None:
    with contextlib.suppress(Boom):
        for _ in open_session(bench.index, bench.shape.question).pages(3):
            raise Boom


async def _araise_in_pages(bench: Bench) -> None:
    pages: Any = open_async_session(bench.index.to_async(), bench.shape.question).pages(3)
    with contextlib.suppress(Boom):
        async with contextlib.aclosing(pages):
            async for _ in pages:
                raise Boom


async def _scope(bench: Bench) -> None:
    with anyio.CancelScope() as scope:
        async with open_async_session(bench.index.to_async(), bench.shape.question) as search:
            await search.fetch_next(3)
            scope.cancel()
            await anyio.sleep(60)
    assert scope.cancelled_caught


async def _scope_in_pages(bench: Bench) -> None:
    with anyio.CancelScope() as scope:
        pages: Any = open_async_session(bench.index.to_async(), bench.shape.question).pages(3)
        async with contextlib.aclosing(pages):
            async for _ in pages:
                scope.cancel()
    assert scope.cancelled_caught


async def _task_group(bench: Bench) -> None:
    async def search_on() -> None:
        async with open_async_session(bench.index.to_async(), bench.shape.question) as search:
            await search.fetch_next(3)
            started.set()
            await anyio.sleep(60)

    started = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(search_on)
        await started.wait()
        group.cancel_scope.cancel()


async def _timeout(bench: Bench) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async with open_async_session(bench.index.to_async(), bench.shape.question) as search:
                await search.fetch_next(3)
                limit.reschedule(0)
                await asyncio.sleep(60)
    assert limit.expired()


async def _cancelled_task(bench: Bench) -> None:
    async def search_on() -> None:
        async with open_async_session(bench.index.to_async(), bench.shape.question) as search:
            await search.fetch_next(3)
            started.set()
            await asyncio.sleep(60)

    started = asyncio.Event()
    task = asyncio.create_task(search_on())
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _timeout_in_a_pull(bench: Bench) -> None:
    """The pull itself is cut off, after the server has advanced."""
    for at in (RequestKind.START, RequestKind.NEXT):
        plan = FaultPlan(clock=bench.clock, delay=60)
        index = faulty(bench.index, plan)
        narrow(index, 1)
        async with open_async_session(index.to_async(), bench.shape.question) as search:
            if at is RequestKind.NEXT:
                await search.fetch_next(3)
            plan.inject(Fault.DELAY, at)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await search.fetch_next(3)
        assert 1 == free(pool_of(index._transport))
        bench.index.info()  # stops what was left to the next request
        assert 0 == len(plan.lost) == bench.engine.open_queries()


async def _drop(bench: Bench) -> None:
    dropped = [open_session(bench.index, bench.shape.question)]
    dropped[0].fetch_next(3)
    with pytest.warns(ResourceWarning, match="dropped while open"):
        dropped.clear()


async def _adrop(bench: Bench) -> None:
    dropped = [open_async_session(bench.index.to_async(), bench.shape.question)]
    await dropped[0].fetch_next(3)
    with pytest.warns(ResourceWarning, match="dropped while open"):
        dropped.clear()


async def _until_a_policy(bench: Bench) -> None:
    """A policy that is satisfied leaves the search open; leaving the block ends it."""
    for colour in COLOURS:
        async with search_of(bench.index, bench.shape.question, colour) as search:
            assert 4 == len(await search.fetch_until(MaxResults(4)))
            assert 1 == bench.engine.open_queries()


async def _failing_check(bench: Bench) -> None:
    def check(rows: list[str]) -> list[bool]:
        raise Boom

    for colour in COLOURS:
        async with search_of(bench.index, bench.shape.question, colour) as search:
            with pytest.raises(Boom):
                await search.fetch_until(Accepted(3, check))


async def _beyond_recovery(bench: Bench) -> None:
    for colour in COLOURS:
        async with search_of(bench.index, bench.shape.question, colour, max_recovery=2) as search:
            await search.fetch_next(3)
            bench.clock.pass_max_idle()
            with pytest.raises(LimitReached):
                await search.fetch_next(3)


async def _resume_unpulled(bench: Bench) -> None:
    """A resumed search that nobody pulls from takes nothing."""
    search = open_session(bench.index, bench.shape.question)
    search.fetch_next(3)
    cursor = search.cursor()
    search.stop()
    open_session(bench.index, bench.shape.question, cursor=cursor).stop()


ENDINGS: list[Callable[[Bench], Waited[None]]] = [
    _stop,
    _astop,
    _exhaust,
    _aexhaust,
    _raise,
    _araise,
    _fail_to_start,
    _refused_start,
    _leave_pages,
    _close_pages,
    _leave_rows,
    _aclose_pages,
    _aleave_pages,
    _aleave_rows,
    _raise_in_pages,
    _araise_in_pages,
    _scope,
    _scope_in_pages,
    _task_group,
    _timeout,
    _cancelled_task,
    _timeout_in_a_pull,
    _drop,
    _adrop,
    _until_a_policy,
    _failing_check,
    _beyond_recovery,
    _resume_unpulled,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__.strip("_"))
async def test_every_ending(dense: Bench, ending: Callable[[Bench], Waited[None]]) -> None:
    """However a search ends, its query is stopped and its slot is back: the next one starts at once."""
    pool = narrow(dense.index, 1)
    await ending(dense)
    for colour in COLOURS:
        async with search_of(dense.index, dense.shape.question, colour) as search:
            assert 3 == len(await search.fetch_next(3))
            assert 1 == dense.engine.open_queries()
    assert (0, 1) == (dense.engine.open_queries(), free(pool))


class TestNoRoom:
    """The server has no room for another query."""

    @pytest.mark.parametrize("cap", [1, 3, 5])
    @pytest.mark.parametrize("name", SHAPES)
    async def test_one_plain_query_does(self, name: str, cap: int, colour: str) -> None:
        """A search falls back to one plain query, pages from memory, in order, complete, and holds nothing open."""
        bench = Bench.build(SHAPES[name], max_open_queries=2 * cap)  # one share has half of it
        others = hogs(bench, cap)
        expected = ids(bench.index.query(top_k=1_000, **bench.shape.question.parameters()))
        recording = Recording(bench.index._transport)
        search = search_of(Index._over(recording), bench.shape.question, colour)
        served: list[str] = []
        for size in SIZES:
            page = await search.fetch_next(size)
            assert size == len(page)
            served += page
        assert cap == bench.engine.open_queries()
        served += await search.fetch_next(100)
        assert expected == served
        assert [] == await search.fetch_next(1)
        assert ["resumable-query", "query"] == recording.sent
        report = search.report
        assert (True, True, False, 0) == (report.complete, report.exhausted, report.changed, report.recovered)
        assert (1, len(expected), len(expected)) == (report.pulls, report.pulled, report.kept)
        for other in others:
            other.stop()
        await search.stop()
        assert 0 == bench.engine.open_queries()
        bench.index.close()

    @pytest.mark.parametrize("name", SHAPES)
    async def test_a_cursor_of_it(self, name: str, colour: str) -> None:
        """Its cursor goes on where it stood as soon as there is room, and until then loses nothing."""
        bench = Bench.build(SHAPES[name], max_open_queries=1)
        expected = ids(bench.index.query(top_k=1_000, **bench.shape.question.parameters()))
        (other,) = hogs(bench, 1)
        with other:
            search = search_of(bench.index, bench.shape.question, colour)
            served = await search.fetch_next(4)
            cursor = await search.detach()
            async with search_of(bench.index, bench.shape.question, colour, cursor=cursor) as search:
                with contextlib.suppress(TooManyQueries):
                    assert expected == served + await search.fetch_next(100)
        async with search_of(bench.index, bench.shape.question, colour, cursor=cursor) as search:
            assert expected == served + await search.fetch_next(100)
        assert 0 == bench.engine.open_queries()
        bench.index.close()

    @pytest.mark.parametrize("way", ["limits", "guards"])
    async def test_no_more_than_is_wanted(self, colour: str, way: str) -> None:
        """Where a bound says how many rows are wanted, the plain query asks for no more."""
        bench = Bench.build(SHAPES["dense"], max_open_queries=1)
        (other,) = hogs(bench, 1)
        search = search_of(bench.index, bench.shape.question, colour, **{way: Limits(max_results=5)})
        async with search:
            assert 5 == len(await search.fetch_until(MaxResults(20)))
            assert (5, "max_results", True) == (
                search.report.pulled,
                search.report.stop_reason,
                search.report.complete,
            )
        other.stop()
        bench.index.close()

    async def test_it_asks_for_all_where_rows_are_dropped(self, colour: str) -> None:
        """Where a policy drops rows, the plain query brings all there may be: what is permitted is found."""
        bench = Bench.build(SHAPES["dense"], max_open_queries=1)
        (other,) = hogs(bench, 1)
        ordered = ids(bench.index.query(top_k=1_000, **bench.shape.question.parameters()))

        def check(rows: list[str]) -> list[bool]:
            return [row in ordered[20:24] for row in rows]

        guards = Limits(max_results=3)
        async with search_of(bench.index, bench.shape.question, colour, guards=guards) as search:
            assert ordered[20:23] == await search.fetch_until(Accepted(3, check))
        other.stop()
        bench.index.close()

    async def test_more_than_a_plain_query_can_bring(self, colour: str, caplog: pytest.LogCaptureFixture) -> None:
        """A call that wants more rows than the plain query can bring is short, and the log says why, once."""
        bench = Bench.build(SHAPES["dense"], max_open_queries=1)
        size = bench.index.info().dimension
        for start in (0, 600):
            numbers = range(start, start + 600)
            records = [Vector(f"more{number}", [1.0 + number, *[0.5] * (size - 1)]) for number in numbers]
            bench.index.upsert(records, namespace="many")
        (other,) = hogs(bench, 1)
        question = replace(bench.shape.question, namespace="many")
        with other:
            async with search_of(bench.index, question, colour, guards=Limits()) as search:
                assert 1_000 == len(await search.fetch_until(MaxResults(1_500)))
                assert [] == await search.fetch_until(MaxResults(1_500))
        shortfall = Shortfall("no_room", None, 2, 1_000, 1_000)
        assert [str(shortfall)] == caplog.messages
        assert "a server without room for a resumable query" in caplog.messages[0]
        bench.index.close()

    @pytest.mark.parametrize("room", [False, True])
    async def test_what_was_left_out_can_be_had(self, colour: str, *, room: bool) -> None:
        """After a call that was bounded the search goes on, with room or without, to the last of fewer than 1,000."""
        bench = Bench.build(SHAPES["dense"], max_open_queries=1)
        expected = ids(bench.index.query(top_k=1_000, **bench.shape.question.parameters()))
        (other,) = hogs(bench, 1)
        with other:
            async with search_of(bench.index, bench.shape.question, colour, guards=Limits(max_results=5)) as search:
                served = await search.fetch_until(MaxResults(20))
                if room:
                    other.stop()
                served += await search.fetch_next(100)
        assert (expected, True, True) == (served, search.report.exhausted, search.report.complete)
        assert 0 == bench.engine.open_queries()
        bench.index.close()

    async def test_in_the_middle(self, colour: str) -> None:
        """A search that has begun and finds no room says so; it loses nothing, and goes on when there is room."""
        for name in SHAPES:
            bench = Bench.build(SHAPES[name], max_open_queries=1)
            expected = run(open_session(bench.index, bench.shape.question)).ids
            search = search_of(bench.index, bench.shape.question, colour)
            served = [row for size in SIZES for row in await search.fetch_next(size)]
            bench.clock.pass_max_idle()
            (other,) = hogs(bench, 1)
            for _ in range(2):
                with pytest.raises(TooManyQueries):
                    await search.fetch_next(3)
            other.stop()
            served += await search.fetch_next(10)
            served += await search.fetch_next(100)
            assert (expected, 1, True) == (served, search.report.recovered, search.report.complete)
            await search.stop()
            assert 0 == bench.engine.open_queries()
            bench.index.close()

    async def test_a_widened_search(self, colour: str) -> None:
        """A search that finds no room after it was widened falls back for the new phase, and no id comes again."""
        bench = Bench.build(SHAPES["hybrid"], max_open_queries=1)
        question = replace(bench.shape.question, filter="number < 9")
        search = search_of(bench.index, question, colour)
        served = await search.fetch_next(100)
        (other,) = hogs(bench, 1)
        await search.widen(filter="")
        served += await search.fetch_next(100)
        assert (ROWS, ROWS, True) == (len(served), len(set(served)), search.report.complete)
        other.stop()
        await search.stop()
        bench.index.close()

    def test_our_own_budget_is_no_reason(self, dense: Bench) -> None:
        """Where it is this process that has too many searches open, nothing is sent, and no plain query does."""
        narrow(dense.index, 1)
        with open_session(dense.index, dense.shape.question) as search:
            search.fetch_next(1)
            recording = Recording(dense.index._transport)
            pool_module._pools[recording] = pool_of(dense.index._transport)
            with pytest.raises(TooManyQueries):
                open_session(Index._over(recording), dense.shape.question).fetch_next(1)
            assert [] == recording.sent


@pytest.fixture(scope="module")
def large() -> Iterator[Bench]:
    """A dense index of 1,200 rows on a server with room for one query."""
    bench = Bench.build(SHAPES["dense"], max_open_queries=1)
    for start in (ROWS, 600):
        end = min(start + 570, 1_200) if start == ROWS else 1_200
        bench.index.upsert([bench.shape.record(number) for number in range(start, end)])
    yield bench
    bench.index.close()


class TestMoreThanAThousand:
    """A plain query returns a thousand rows at the most."""

    async def test_the_end_is_not_the_end(self, large: Bench, colour: str) -> None:
        """A thousand rows come in order, and the report says that there may be more."""
        (other,) = hogs(large, 1)
        expected = ids(large.index.query(top_k=1_000, **large.shape.question.parameters()))
        search = search_of(large.index, large.shape.question, colour)
        served = [*await search.fetch_next(400), *await search.fetch_next(400), *await search.fetch_next(400)]
        assert (expected, True, False) == (served, search.report.exhausted, search.report.complete)
        assert [] == await search.fetch_next(1)
        other.stop()
        await search.stop()
        assert 0 == large.engine.open_queries()

    async def test_room_appears(self, large: Bench, colour: str) -> None:
        """Where there is room by then, the search goes on behind the thousand, exactly once."""
        page, handle = large.index.resumable_query(top_k=600, **large.shape.question.parameters())
        expected = [*ids(page), *ids(handle.fetch_next(600))]
        search = search_of(large.index, large.shape.question, colour)
        served = await search.fetch_next(700)
        handle.stop()
        served += await search.fetch_next(400)
        assert 1 == large.engine.open_queries()
        served += await search.fetch_next(400)
        assert (expected, True, True) == (served, search.report.exhausted, search.report.complete)
        assert 0 == large.engine.open_queries()

    @pytest.mark.parametrize("rows", [999, 1_000, 1_001])
    async def test_just_so_many(self, large: Bench, rows: int, colour: str) -> None:
        """The report says that rows may be missing where more than a thousand match, and not where fewer do."""
        (other,) = hogs(large, 1)
        question = replace(large.shape.question, filter=f"number < {rows}")
        search = search_of(large.index, question, colour)
        assert min(rows, 1_000) == len(await search.fetch_next(2_000))
        if rows != 1_000:  # then nobody can know
            assert (rows < 1_000) == search.report.complete
        other.stop()
        await search.stop()


CAP = 9  # one share has half of it
QUESTIONS = [f"where is the {(TEXTS * 4)[number].split()[1]} number {number}?" for number in range(200)]


class TestServed:
    """Two hundred questions at once to a server with room for five."""

    @pytest.fixture(autouse=True)
    def busy_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a machine that is busy with other tests a search may wait longer for its turn than is usual."""
        monkeypatch.setattr(pool_module, "QueryPool", functools.partial(QueryPool, max_wait=60))

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, local_server: LocalServer) -> Iterator[tuple[EmbeddedEngine, str, list[list[str]]]]:
        """The engine, its address, and the five best texts of each question."""
        options = {"embedding": "static", "sparse_embedding": "bm25"}
        engine = open_engine(None, {"type": "hybrid", **options}, name="capped", max_open_queries=CAP)
        assert isinstance(engine, EmbeddedEngine)
        local_server.engines["capped"] = engine
        url = local_server.index_url("capped")
        with sentences() as index, Index(url, local_server.token) as remote:
            rows = index.range(limit=1_000, include_data=True, include_metadata=True).vectors
            remote.upsert([Vector(row.id, data=row.data, metadata=row.metadata) for row in rows])
            expected = [ids(index.query(data=question, top_k=5)) for question in QUESTIONS]
        yield engine, url, expected
        assert 0 == engine.open_queries()
        del local_server.engines["capped"]
        engine.close()

    def test_batch(self, served: tuple[EmbeddedEngine, str, list[list[str]]], local_server: LocalServer) -> None:
        """A blocking batch of LangChain's succeeds with the right documents and leaves nothing open."""
        engine, url, expected = served
        with LangChainRetriever(url=url, token=SecretStr(local_server.token), embedding=True) as retriever:
            found = retriever.batch(QUESTIONS, until=MaxResults(5))
        assert expected == [[document.id for document in documents] for documents in found]
        assert 0 == engine.open_queries()

    async def test_abatch(self, served: tuple[EmbeddedEngine, str, list[list[str]]], local_server: LocalServer) -> None:
        """An asynchronous batch of LangChain's does, too."""
        engine, url, expected = served
        async with LangChainRetriever(url=url, token=SecretStr(local_server.token), embedding=True) as retriever:
            found = await retriever.abatch(QUESTIONS, until=MaxResults(5))
        assert expected == [[document.id for document in documents] for documents in found]
        assert 0 == engine.open_queries()

    async def test_llama_index(
        self, served: tuple[EmbeddedEngine, str, list[list[str]]], local_server: LocalServer
    ) -> None:
        """So do LlamaIndex retrievers, asked all at once."""
        engine, url, expected = served
        index = AsyncIndex(url, local_server.token)
        retriever = LlamaIndexRetriever(index, embedding=True, until=MaxResults(5))
        found = await asyncio.gather(*(retriever.aretrieve(question) for question in QUESTIONS[:60]))
        texts = [[TEXTS[int(id_[1:])] for id_ in row] for row in expected[:60]]
        assert texts == [[node.node.get_content() for node in nodes] for nodes in found]
        await index.close()
        assert 0 == engine.open_queries()
