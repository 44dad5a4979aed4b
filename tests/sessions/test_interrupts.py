"""Events in the middle of a call: interrupts, cancellation, garbage collection, forks, and calls within the call."""

import asyncio
import contextlib
import gc
import linecache
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

import nextk
from nextk import Index
from nextk.errors import ClientError
from nextk.operations import Operation
from nextk.sessions import AsyncRetrievalSession, RetrievalSession, SearchQuery
from nextk.sessions import pool as pool_module
from nextk.sessions.pool import MAX_OPEN, QueryPool, Slot, pool_of
from nextk.until import Accepted, DistinctBy, MaxResults, Policy, TokenBudget
from tests.support import searches
from tests.support.searches import COLOURS, ROWS, SHAPES, Bench, drained, ids, open_async_session, open_session
from tests.support.subprocesses import output
from tests.support.transports import Recording

DENSE = SHAPES["dense"].question
WITHIN_REACH = 10.0
"""Seconds after which a thread counts as hanging; none ever takes them unless something is wrong."""


@pytest.fixture
def dense() -> Iterator[Bench]:
    """A dense index; afterwards nothing is open, and every slot is back."""
    bench = Bench.build(SHAPES["dense"])
    yield bench
    gc.collect(1)  # what a test leaves is young; all of the heap would take longer than most of these tests
    bench.index.info()  # drops what was let go of
    assert (0, MAX_OPEN) == (bench.engine.open_queries(), free_slots(bench.index))
    bench.index.close()


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """Either colour of a session."""
    return str(request.param)


@pytest.fixture
def full(dense: Bench) -> list[str]:
    """Every id, best first."""
    return ids(dense.index.query(top_k=1_000, **DENSE.parameters()))


def free_slots(index: Index) -> int:
    """How many searches may still be opened."""
    pool = pool_of(index._transport)
    pool._process_returned()
    return pool._free


def search_of(index: Index, colour: str, question: SearchQuery = DENSE, **options: Any) -> Any:
    """The same, of the usual question."""
    return searches.search_of(index, question, colour, **options)


def cursor_of(search: Any) -> Any:
    """Where a session of either colour stands."""
    return getattr(search, "inner", search).cursor()


@dataclass
class Aside:
    """Something that is done on another thread, and that must not hang.

    Attributes:
        does: What.
        result: What came of it.
        error: Or what was raised.
    """

    does: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self.does()
        except BaseException as error:
            self.error = error

    def outcome(self, seconds: float = WITHIN_REACH) -> Any:
        """What came of it, or is raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it hangs"
        if self.error is not None:
            raise self.error
        return self.result


def aside(does: Callable[[], Any], seconds: float = WITHIN_REACH) -> Any:
    """Do something on another thread; what came of it."""
    return Aside(does).outcome(seconds)


def wait_for(done: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    late = time.monotonic() + WITHIN_REACH
    while not done():
        assert time.monotonic() < late, "it never came"
        time.sleep(0.0005)


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """The garbage collector runs only where a test says so."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave_in_a_cycle(dropped: Any) -> None:
    """Make something garbage that only the collector finds, as a traceback that was kept does."""
    cycle = [dropped]
    cycle.append(cycle)


COLLECTED = """
import faulthandler, gc, sys
from nextk.errors import ClientError
from nextk.sessions import RowReader, RetrievalSession
from nextk.sessions import pool
from tests.support.searches import *

faulthandler.dump_traceback_later(60, exit=True)  # should it hang; a busy machine takes seconds
gc.disable()
moment, question = sys.argv[1], SHAPES["dense"].question
due = []


def collecting(function):
    def collect_first(*arguments):
        if due and due.pop():
            gc.collect()
        return function(*arguments)

    return collect_first


for loop in (lambda search: search.pages(3), iter):
    bench = Bench.build(SHAPES["dense"])
    full = ids(bench.index.query(top_k=100, **question.parameters()))
    search = RetrievalSession(bench.index, question, RowReader(collecting(lambda match: match.id)))
    rows = loop(search)
    served = 3 if isinstance(next(rows), list) else 1
    cycle = [rows]
    cycle.append(cycle)
    del rows, cycle
    with open_session(bench.index, question) as other:
        if moment == "call":
            due.append(True)
            assert full[served : served + 3] == search.fetch_next(3)
        else:
            if moment == "pool":
                pool.Future.set_result = collecting(pool.Future.set_result)
            else:  # the engine reads its clock under a lock; a pool of connections has such locks, too
                bench.engine._open_queries._clock = collecting(bench.engine._open_queries._clock)
            del search
            due.append(True)
            assert full[:3] == other.fetch_next(3)
    assert not due
    bench.index.info()  # drops what was let go of
    assert 0 == bench.engine.open_queries()
    if moment == "call":
        try:
            search.fetch_next(1)
        except ClientError:
            print("stopped")
print("done")
"""


class TestGarbageCollection:
    """A loop over a search is collected at the worst of moments. In processes of their own: a collection may hang."""

    def test_in_a_call_of_the_same_search(self) -> None:
        """Collected in the middle of a call of its own search, a loop does not wait for it, and the query is ended."""
        assert "stopped stopped done" == " ".join(output(COLLECTED, "call").split())

    def test_under_the_lock_of_the_pool(self) -> None:
        """Collected while another search gets its slot, a loop does not wait for the lock that this one holds."""
        assert "done" == output(COLLECTED, "pool")

    def test_under_the_locks_of_the_index(self) -> None:
        """Collected while another search is in the index, a loop does not wait for a lock that this one holds there."""
        assert "done" == output(COLLECTED, "index")


async def test_an_async_loop_is_collected(dense: Bench, full: list[str]) -> None:
    """Collected in the middle of a call of its own search, an asynchronous loop does not hang, and the query ends."""
    search = open_async_session(dense.index.to_async(), DENSE)

    async def leave() -> None:
        pages = search.pages(3)
        await anext(pages)
        leave_in_a_cycle(pages)

    async def check(rows: list[str]) -> list[bool]:
        gc.collect()  # the event loop closes it as soon as it is its turn
        return [True] * len(rows)

    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what failed tests have left is not collected in the middle of the call, too
    with no_collector():
        await leave()
        with contextlib.suppress(ClientError):  # the loop's end may come before that of the call
            assert full[3:5] == await asyncio.wait_for(search.fetch_until(Accepted(2, check)), WITHIN_REACH)
        for _ in range(20):
            await asyncio.sleep(0)
    await search.stop()
    with pytest.raises(ClientError, match="stopped"):
        await search.fetch_next(1)


METHODS: dict[str, Callable[[Any], Any]] = {
    "cursor": lambda search: search.cursor(),
    "stop": lambda search: search.stop(),
    "fetch_next": lambda search: search.fetch_next(1),
    "fetch_until": lambda search: search.fetch_until(MaxResults(1)),
    "detach": lambda search: search.detach(),
    "widen": lambda search: search.widen(filter="number < 20"),
    "loop": lambda search: next(iter(search)),
}
INSIDES: dict[str, Callable[[Callable[[], Any]], Policy]] = {
    "check": lambda call: Accepted(3, lambda rows: [call()] * len(rows)),
    "key": lambda call: DistinctBy(lambda row: call() or row, 3),
    "count": lambda call: TokenBudget(9, count=lambda _: call() or 1),
}


class TestReentry:
    """What a search calls, calls the search."""

    @pytest.mark.parametrize("inside", INSIDES.values(), ids=INSIDES)
    @pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
    def test_from_a_policy(self, dense: Bench, full: list[str], method: Any, inside: Any) -> None:
        """A check, a key or a counter that uses its own search is refused, nothing hangs, and no row is lost."""
        search = open_session(dense.index, DENSE)

        def call() -> list[str]:
            served = search.fetch_next(4)
            with pytest.raises(ClientError, match="within it"):
                search.fetch_until(inside(lambda: method(search)))
            assert 4 == search.report.kept
            return served

        served = aside(call)
        cursor = search.cursor()
        search.stop()
        with open_session(dense.index, DENSE, cursor=cursor) as search:
            assert full == served + search.fetch_next(ROWS)

    @pytest.mark.parametrize("method", [name for name in METHODS if name not in ("stop", "loop")])
    def test_it_goes_on(self, dense: Bench, full: list[str], method: str) -> None:
        """After such a refusal the same search goes on, unless it was told to stop."""
        with open_session(dense.index, DENSE) as search:

            def call() -> list[str]:
                with pytest.raises(ClientError, match="within it"):
                    search.fetch_until(INSIDES["check"](lambda: METHODS[method](search)))
                return search.fetch_next(ROWS)

            assert full == aside(call)

    @pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
    def test_from_a_model(self, dense: Bench, full: list[str], method: Any) -> None:
        """A model that embeds the question, and uses the search for it, is refused; nothing hangs."""
        opened: list[RetrievalSession[str]] = []

        def embed(template: SearchQuery) -> SearchQuery:
            method(opened[0])
            return replace(template, vector=DENSE.vector)

        opened.append(open_session(dense.index, SearchQuery(), embed=embed))

        def call() -> None:
            with pytest.raises(ClientError, match="within it"):
                opened[0].fetch_next(3)

        aside(call)
        opened[0].stop()

    def test_a_refusal_that_is_swallowed(self, dense: Bench, full: list[str]) -> None:
        """A check that does not mind the refusal gets the call on, with the rows that it would have brought."""
        with open_session(dense.index, DENSE) as search:

            def check(rows: list[str]) -> list[bool]:
                with contextlib.suppress(ClientError):
                    search.fetch_next(1)
                return [True] * len(rows)

            assert full[:3] == aside(lambda: search.fetch_until(Accepted(3, check)))

    @pytest.mark.parametrize("inside", ["check", "embed"])
    @pytest.mark.parametrize("method", ["fetch_next", "fetch_until", "detach", "widen"])
    async def test_async(self, dense: Bench, full: list[str], method: str, inside: str) -> None:
        """A coroutine that a search awaits, and that awaits the same search, is refused; no row is lost."""
        await self.refused(dense, full, method, inside, lambda call: call)

    @pytest.mark.parametrize("method", ["fetch_next", "detach"])
    async def test_async_in_a_task(self, dense: Bench, full: list[str], method: str) -> None:
        """So is one that awaits it in a task of its own, as `asyncio.wait_for` and `gather` do."""
        await self.refused(dense, full, method, "check", asyncio.ensure_future)

    async def refused(self, dense: Bench, full: list[str], method: str, inside: str, wrap: Any) -> None:
        """Use a search from within; it must be refused, and go on."""
        opened: list[AsyncRetrievalSession[str]] = []
        met: list[BaseException] = []

        async def call() -> None:
            try:
                async with asyncio.timeout(0.2):
                    await wrap(METHODS[method](opened[0]))
            except (ClientError, TimeoutError) as error:
                met.append(error)

        async def check(rows: list[str]) -> list[bool]:
            await call()
            return [True] * len(rows)

        async def embed(template: SearchQuery) -> SearchQuery:
            await call()
            return replace(template, vector=DENSE.vector)

        own = {"embed": embed} if inside == "embed" else {}
        question = SearchQuery() if inside == "embed" else DENSE
        async with open_async_session(dense.index.to_async(), question, **own) as search:
            opened.append(search)
            policy = Accepted(3, check) if inside == "check" else MaxResults(3)
            served = await search.fetch_until(policy)
            assert [ClientError] == [type(error) for error in met]
            assert full == served + await search.fetch_next(ROWS)

    async def test_async_cursor_and_stop(self, dense: Bench, full: list[str]) -> None:
        """A check of an asynchronous search that takes a cursor and stops it loses nothing: the cursor goes on."""
        search = open_async_session(dense.index.to_async(), DENSE)
        served = await search.fetch_next(4)
        cursors: list[Any] = []

        async def check(rows: list[str]) -> list[bool]:
            cursors.append(search.cursor())
            await search.stop()
            return [False] * len(rows)

        with pytest.raises(ClientError, match="stopped"):
            await asyncio.wait_for(search.fetch_until(Accepted(3, check)), WITHIN_REACH)
        for cursor in (cursors[0], search.cursor()):
            assert full == served + await drained(search_of(dense.index, "async", cursor=cursor), 7)


FORKED = """
import os, threading, warnings
from tests.support.searches import *
from nextk.until import Accepted

warnings.simplefilter("ignore")  # newer Pythons warn of any fork next to a thread
bench = Bench.build(SHAPES["dense"])
entered, leave = threading.Event(), threading.Event()


def check(rows):
    entered.set()
    leave.wait(20)
    return [True] * len(rows)


search = open_session(bench.index, SHAPES["dense"].question)
first = search.fetch_next(3)
ours = []
thread = threading.Thread(target=lambda: ours.extend(search.fetch_until(Accepted(3, check))), daemon=True)
thread.start()
entered.wait(20)
receive, send = os.pipe()
child = os.fork()
if child == 0:
    import signal
    signal.alarm(10)  # should it hang
    rows = search.fetch_next(3)
    other = open_session(bench.index, SHAPES["dense"].question)
    rows += other.fetch_next(3)
    other.stop()
    search.stop()
    os.write(send, " ".join(rows).encode())
    os._exit(0)
_, status = os.waitpid(child, 0)
leave.set()
thread.join(20)
os.close(send)
childs = os.read(receive, 1_000).decode().split()
search.stop()
print(status, childs == ours + first, len(ours), bench.engine.open_queries())
"""


def test_a_fork_in_a_call() -> None:
    """A child that is forked while another thread is in a call goes on with the search, and so does its parent."""
    assert "0 True 3 0" == output(FORKED)


PACKAGE = Path(nextk.__file__).parent
STEPS = {str(file) for folder in ("sessions", "until") for file in (PACKAGE / folder).glob("*.py")}
HANDLE = str(PACKAGE / "handle.py")
Line = tuple[str, int]
COMMITS = ("_commit", "_commit_page")
"""The functions in which the rows of a call become the caller's."""


class Lines:
    """The lines of the package that a call runs, up to where its rows become the caller's; one of them interrupts it.

    Args:
        step: Before which of them `KeyboardInterrupt` is raised; `None` for none.
        only: The files whose lines count; absent: those of searches and policies, and the pulls of a handle.
        end: The functions with which they end.

    Attributes:
        run: The lines so far.
    """

    def __init__(
        self, step: int | None = None, *, only: set[str] | None = None, end: Collection[str] = COMMITS
    ) -> None:
        self.run: list[Line] = []
        self._step = step
        self._only = only
        self._end = end
        self._over = False

    def __enter__(self) -> Self:
        gc.disable()  # a finaliser would be traced as well, wherever it comes
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_exception: object) -> None:
        sys.settrace(self._before)
        gc.enable()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        self._over |= code.co_name in self._end
        pulls = code.co_filename == HANDLE and code.co_name in ("fetch_next", "ask", "failed")
        counts = code.co_filename in STEPS or pulls if self._only is None else code.co_filename in self._only
        return self._line if counts else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        file, number = frame.f_code.co_filename, frame.f_lineno
        # Nothing can be interrupted at a bare `try`, or between `with` and its lock, but Python calls them lines.
        bare = linecache.getline(file, number).strip().startswith(("with ", "try:"))
        if event == "line" and not bare and not self._over:
            self.run.append((file, number))
            if len(self.run) == self._step:
                self._over = True
                raise KeyboardInterrupt
        return self._line

    @property
    def steps(self) -> list[int]:
        """Where to interrupt a call: before each line when it is run first, and when it is run last."""
        first = {line: step for step, line in reversed(list(enumerate(self.run, 1)))}
        last = {line: step for step, line in enumerate(self.run, 1)}
        return sorted({*first.values(), *last.values()})


CALLS: dict[str, Callable[[RetrievalSession[str]], list[str]]] = {
    "fetch_next": lambda search: search.fetch_next(5),
    "fetch_next, to the end": lambda search: search.fetch_next(ROWS + 5),
    "fetch_until": lambda search: search.fetch_until(MaxResults(5)),
    "fetch_until, with a check": lambda search: search.fetch_until(Accepted(3, lambda rows: [True] * len(rows))),
    "a row of a loop": lambda search: search._call(search._machine.fetch_next(1, 10)),
}


@pytest.mark.filterwarnings("ignore:.* was dropped while open:ResourceWarning")
class TestInterrupts:
    """The user presses Control-C in the middle of a call."""

    @pytest.mark.parametrize("lost", [False, True], ids=["open", "recovering"])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_at_every_step(self, dense: Bench, full: list[str], call: Any, *, lost: bool) -> None:
        """Wherever before its commit a call is interrupted, the search goes on: no row is lost, none comes twice."""
        with self.interrupted(dense, call, None, lost=lost) as (search, served, lines):
            assert full == served + search.fetch_next(100)
        for step in lines.steps:
            with self.interrupted(dense, call, step, lost=lost) as (search, served, lines):
                where = lines.run[-1]
                search._lock._reset()  # see below
                assert full == served + search.fetch_next(100), where
            dense.index.info()
            assert (0, MAX_OPEN) == (dense.engine.open_queries(), free_slots(dense.index)), where

    def test_its_turn_ends(self, dense: Bench) -> None:
        """Wherever a call is interrupted as its turn begins or ends, the next one gets its turn."""
        turns = {str(PACKAGE / "sessions" / "locks.py")}
        call = CALLS["fetch_next"]
        with self.interrupted(dense, call, None, only=turns, end=()) as (_, _, lines):
            pass
        held = []
        for step in lines.steps:
            with self.interrupted(dense, call, step, only=turns, end=()) as (search, _, lines):
                if not search._lock.is_free():
                    held.append(f"locks.py:{lines.run[-1][1]}")
                    search._lock._reset()
        assert [] == held, "after an interrupt there nobody gets a turn any more"

    @contextlib.contextmanager
    def interrupted(
        self, dense: Bench, call: Any, step: int | None, *, lost: bool = False, **lines: Any
    ) -> Iterator[tuple[RetrievalSession[str], list[str], Lines]]:
        """A search whose second call is interrupted, what it served, and the lines of that call; it is stopped then."""
        with open_session(dense.index, DENSE) as search:
            served = search.fetch_next(4)
            if lost:
                dense.clock.pass_max_idle()
            with contextlib.suppress(KeyboardInterrupt), Lines(step, **lines) as seen:
                served += call(search)
            yield search, served, seen

    def test_while_it_waits_for_its_slot(self, dense: Bench, full: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Interrupted while it waits for its turn, a search has taken no slot with it."""
        narrow(dense.index, 1)
        held = pool_of(dense.index._transport).acquire()

        def interrupted(turn: Any, timeout: float) -> None:
            raise KeyboardInterrupt

        search = open_session(dense.index, DENSE)
        with monkeypatch.context() as patch:
            patch.setattr("concurrent.futures.Future.result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                search.fetch_next(3)
        held.release()
        with search:
            assert full[:3] == search.fetch_next(3)
        pool_module._pools.pop(dense.index._transport)


class Turning:
    """A transport that lets the event loop turn before and after each request, so that each turn can be cancelled."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.orphans = inner.orphans
        self.closing_hooks = inner.closing_hooks
        self.identity = inner.identity
        self.numbering = inner.numbering

    async def asend(self, operation: Operation[Any]) -> Any:
        """Turn, carry, turn; as a transport owes it, a query is stopped whose start nobody waits for any more."""
        await asyncio.sleep(0)
        result = self.inner.send(operation)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if operation.starts and result[0]:
                self.orphans.append(result[0])
            raise
        return result


async def permitted(rows: list[str]) -> list[bool]:
    """A check that takes a turn of the event loop."""
    await asyncio.sleep(0)
    return [True] * len(rows)


AWAITED: dict[str, Callable[[Any], Any]] = {
    "fetch_next": lambda search: search.fetch_next(5),
    "fetch_next, to the end": lambda search: search.fetch_next(ROWS + 5),
    "fetch_until": lambda search: search.fetch_until(Accepted(5, permitted)),
    "fetch_until, to the end": lambda search: search.fetch_until(Accepted(ROWS + 5, permitted)),
}


class TestCancellation:
    """A task is cancelled in the middle of a call."""

    @pytest.mark.parametrize("lost", [False, True], ids=["open", "recovering"])
    @pytest.mark.parametrize("call", AWAITED.values(), ids=AWAITED)
    async def test_at_every_await(self, dense: Bench, full: list[str], call: Any, *, lost: bool) -> None:
        """Wherever a call is cancelled, the search goes on: no row is lost, none comes twice, nothing stays open."""
        index = Index._over(Turning(dense.index._transport)).to_async()  # type: ignore[arg-type]
        turns, done = 0, False
        while not done:
            search = open_async_session(index, DENSE)
            served = await search.fetch_next(4)
            if lost:
                dense.clock.pass_max_idle()
            task = asyncio.create_task(call(search))
            for _ in range(turns):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                served += await task
            assert full == served + await search.fetch_next(100), turns
            await search.stop()
            dense.index.info()
            assert 0 == dense.engine.open_queries(), turns
            turns += 1
        assert 3 < turns


def narrow(index: Index, capacity: int) -> QueryPool:
    """Give an index a small pool instead of its own, and much patience."""
    transport = index._transport
    pool_module._pools[transport] = made = QueryPool(transport.orphans, capacity, 60)
    return made


class TestWaiting:
    """Who waits for a slot."""

    async def test_a_dropped_slot(self, colour: str) -> None:
        """A slot that the collector finds is handed to whoever waits, at once and not when his patience ends."""
        pool = QueryPool(deque(), 1, 60)
        held = [pool.acquire()]
        loop = asyncio.get_running_loop()
        got: asyncio.Future[Slot] = loop.create_future()
        if colour == "sync":
            thread = threading.Thread(
                target=lambda: loop.call_soon_threadsafe(got.set_result, pool.acquire()), daemon=True
            )
            thread.start()
        else:
            waiting = asyncio.create_task(pool.aacquire())
            waiting.add_done_callback(lambda done: got.set_result(done.result()))
        while not pool._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        leave_in_a_cycle(held.pop())
        gc.collect()
        (await asyncio.wait_for(got, 2)).release()
        assert 1 == pool._free

    @pytest.mark.parametrize("turns", range(6))
    async def test_cancelled_as_its_turn_comes(self, dense: Bench, turns: int) -> None:
        """A search that is cancelled as it gets its slot opens no query after that, and keeps no slot."""
        pool = narrow(dense.index, 1)
        recording = Recording(dense.index._transport)
        pool_module._pools[recording] = pool
        held = pool.acquire()
        search = open_async_session(Index._over(recording).to_async(), DENSE)
        task = asyncio.create_task(search.fetch_next(3))
        while not pool._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        held.release()
        for _ in range(turns):
            await asyncio.sleep(0)
        sent, in_time = list(recording.sent), task.done()
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, list if in_time else asyncio.CancelledError)
        assert sent.count("resumable-query") == recording.sent.count("resumable-query")
        await search.stop()
        late = time.monotonic() + WITHIN_REACH
        transport: Any = dense.index._transport
        while (transport._abandoned or dense.engine.open_queries()) and time.monotonic() < late:
            # a start that was on its way is stopped once it has come
            await asyncio.sleep(0.001)
            dense.index.info()
        assert (1, 0) == (pool._free, dense.engine.open_queries())
        pool_module._pools.pop(dense.index._transport)


class TestStopping:
    """A search is stopped while a call on it is under way."""

    @pytest.mark.parametrize("policy", [None, DistinctBy(lambda row: row, 9)])
    def test_from_another_thread(self, dense: Bench, policy: Policy | None) -> None:
        """A blocking call that another thread stops asks for no further page, and ends; so does the stop."""
        recording = Recording(dense.index._transport)
        search = open_session(Index._over(recording), DENSE, until=policy)
        entered, leave = threading.Event(), threading.Event()

        def check(rows: list[str]) -> list[bool]:
            entered.set()
            leave.wait(WITHIN_REACH)
            return [False] * len(rows)  # so that another page is needed

        call = Aside(lambda: search.fetch_until(Accepted(3, check)))
        assert entered.wait(WITHIN_REACH)
        before = list(recording.sent)
        stop = Aside(search.stop)
        wait_for(lambda: search._stopped)
        leave.set()
        with pytest.raises(ClientError, match="stopped"):
            call.outcome()
        stop.outcome()
        assert [*before, "resumable-query-end"] == recording.sent
        assert 0 == dense.engine.open_queries()

    async def test_from_another_task(self, dense: Bench) -> None:
        """So does an asynchronous one."""
        recording = Recording(dense.index._transport)
        search = open_async_session(Index._over(recording).to_async(), DENSE)
        entered, leave = asyncio.Event(), asyncio.Event()

        async def check(rows: list[str]) -> list[bool]:
            entered.set()
            await leave.wait()
            return [False] * len(rows)

        call = asyncio.create_task(search.fetch_until(Accepted(3, check)))
        await entered.wait()
        before = list(recording.sent)
        await asyncio.wait_for(search.stop(), WITHIN_REACH)
        leave.set()
        with pytest.raises(ClientError, match="stopped"):
            await asyncio.wait_for(call, WITHIN_REACH)
        assert [*before, "resumable-query-end"] == recording.sent

    def test_a_call_that_waits_for_its_turn(self, dense: Bench) -> None:
        """A call that waits for another one when the search is stopped asks for nothing at all."""
        recording = Recording(dense.index._transport)
        search = open_session(Index._over(recording), DENSE)
        entered, leave = threading.Event(), threading.Event()

        def check(rows: list[str]) -> list[bool]:
            entered.set()
            leave.wait(WITHIN_REACH)
            return [True] * len(rows)

        first = Aside(lambda: search.fetch_until(Accepted(3, check)))
        assert entered.wait(WITHIN_REACH)
        second, stop = Aside(lambda: search.fetch_next(ROWS)), Aside(search.stop)
        wait_for(lambda: search._stopped)
        leave.set()
        assert 3 == len(first.outcome())
        with pytest.raises(ClientError, match="stopped"):
            second.outcome()
        stop.outcome()
        assert ["resumable-query", "resumable-query-end"] == recording.sent
