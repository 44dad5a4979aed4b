"""A fault and the repeat of its request, with writes, revoked permissions, stops or cursors between them."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from nextk import Index, Vector
from nextk.errors import ClientError, RefusedError, TransportError
from nextk.operations import Operation, Page, fetch_next
from nextk.sessions import Report
from nextk.sessions.pulls import PullLog
from nextk.testing import Fault, FaultPlan, FaultyTransport, ManualClock, PlannedFault, RequestKind, faulty
from nextk.transport.numbering import Numbering
from nextk.types import InfoResult
from nextk.until import MaxResults
from tests.support.searches import (
    COLOURS,
    SHAPES,
    Bench,
    drained,
    open_async_session,
    open_session,
    search_of,
)

EACH_COLOUR = pytest.mark.parametrize("colour", COLOURS)
SECOND_PAGE = PlannedFault(Fault.DROP_REPLY, RequestKind.NEXT, 1)


@pytest.fixture(params=SHAPES)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An index of each shape in turn; afterwards nothing is open."""
    bench = Bench.build(SHAPES[request.param])
    yield bench
    assert 0 == bench.engine.open_queries()
    bench.index.close()


@pytest.fixture
def dense() -> Iterator[Bench]:
    """A dense index; afterwards nothing is open."""
    bench = Bench.build(SHAPES["dense"])
    yield bench
    assert 0 == bench.engine.open_queries()
    bench.index.close()


def order(bench: Bench) -> list[str]:
    """The ids that the search brings without faults, by pages of four."""
    with open_session(bench.index, bench.shape.question) as search:
        return [id_ for page in search.pages(4) for id_ in page]


def once(action: Callable[[], object]) -> Callable[[float], None]:
    """A function that waits by calling an action, the first time."""
    actions = [action]

    def sleep(_seconds: float) -> None:
        if actions:
            actions.pop()()

    return sleep


async def through(bench: Bench, colour: str, sleep: Callable[[float], None]) -> tuple[list[str], list[str], Report]:
    """Return the first page, everything that came after it, and the report; the reply to the second page is lost."""
    index = faulty(bench.index, FaultPlan(SECOND_PAGE, clock=bench.clock))
    search = search_of(index, bench.shape.question, colour, sleep=sleep)
    first = await search.fetch_next(4)
    return first, await drained(search, 4), search.report


class TestWritesBetween:
    """The second page is lost, and the index is written to before it is requested again."""

    @EACH_COLOUR
    async def test_some_rows_are_gone(self, bench: Bench, colour: str) -> None:
        """Deleted records are not served. All others are served once, and the query is not started again."""
        expected = order(bench)
        gone = expected[5:7]
        first, rest, report = await through(bench, colour, once(lambda: bench.index.delete(gone)))
        left = [id_ for id_ in expected if id_ not in gone]
        depends_on_sizes = "fusion_order" in bench.shape.schema  # and the page that came is shorter
        assert sorted(left) == sorted(first + rest) if depends_on_sizes else left == first + rest
        assert (0, 1, False) == (report.recovered, report.recovery.repeats, report.changed)

    @EACH_COLOUR
    async def test_the_whole_page_is_gone(self, bench: Bench, colour: str) -> None:
        """A page of which nothing is left does not pass for the end of the search."""
        expected = order(bench)
        gone = expected[4:8]
        first, rest, report = await through(bench, colour, once(lambda: bench.index.delete(gone)))
        assert set(expected) - set(gone) == set(first + rest)
        assert len(expected) - len(gone) == len(first + rest)
        assert 0 == report.recovered

    @EACH_COLOUR
    async def test_a_permission_is_revoked(self, colour: str) -> None:
        """A record that no longer passes the filter is not served, although it was on the page that was lost."""
        bench = Bench.build(SHAPES["filtered"])
        expected = order(bench)
        revoked = expected[5]
        first, rest, report = await through(
            bench, colour, once(lambda: bench.index.update(revoked, metadata={"number": 99}))
        )
        assert [id_ for id_ in expected if id_ != revoked] == first + rest
        assert 0 == report.recovered
        bench.index.close()

    @EACH_COLOUR
    async def test_records_are_new(self, dense: Bench, colour: str) -> None:
        """A record that was written after the start does not enter, as without the fault."""
        expected = order(dense)
        best = Vector("new", SHAPES["dense"].question.vector, {"number": 50})
        first, rest, report = await through(dense, colour, once(lambda: dense.index.upsert([best])))
        assert expected == first + rest
        assert 0 == report.recovered

    @EACH_COLOUR
    async def test_the_query_is_dropped(self, bench: Bench, colour: str) -> None:
        """A query that expires before its page is requested again is started again, and nothing is lost."""
        expected = order(bench)
        first, rest, report = await through(bench, colour, once(bench.clock.pass_max_idle))
        assert expected == first + rest
        assert (1, 2, False) == (report.recovered, report.recovery.faults, report.changed)

    @EACH_COLOUR
    async def test_the_start_is_dropped(self, bench: Bench, colour: str) -> None:
        """A query that expires before its start is repeated is opened anew, under another uuid."""
        expected = order(bench)
        plan = FaultPlan(PlannedFault(Fault.DROP_REPLY, RequestKind.START), clock=bench.clock)
        search = search_of(
            faulty(bench.index, plan), bench.shape.question, colour, sleep=once(bench.clock.pass_max_idle)
        )
        assert expected == await drained(search, 4)
        assert (0, 0) == (search.report.recovered, search.report.recovery.left_open)


class Replaced(FaultyTransport):
    """A transport to a server that is replaced by one which ignores the numbers of pages, after the first fault."""

    def send(self, operation: Operation[Any]) -> Any:
        """Carry an operation; after the fault, as a server does that has never heard of numbers."""
        if operation.command != "resumable-query-next" or not self._plan.injected:
            return super().send(operation)
        page = super().send(fetch_next(operation.body["uuid"], operation.body["additionalK"]))
        return Page(page.matches, numbered=False)


class TestServers:
    """Another server answers than before, or the server does not say how it ranks."""

    def test_another_server_takes_the_place(self, bench: Bench) -> None:
        """A server that ignores the number of a repeated page has skipped one; the search notices it."""
        expected = order(bench)
        transport = Replaced(bench.index._transport, FaultPlan(SECOND_PAGE, clock=bench.clock))
        transport.numbering = Numbering(True)
        search = open_session(Index._over(transport), bench.shape.question)
        served = [*search.fetch_next(4), *search.fetch_next(4)]
        assert 1 == search.report.recovered
        transport.numbering.said = False
        with search:
            while page := search.fetch_next(4):
                served += page
        assert expected == served

    @pytest.mark.parametrize(("told", "swapped"), [("GLOBAL", True), ("", True), ("", False), ("GLOBAL", False)])
    def test_order_and_data(self, dense: Bench, told: str, *, swapped: bool) -> None:
        """Another order means that the data has changed, unless the index may rank approximately."""
        transport = Approximate(dense.index._transport, FaultPlan(SECOND_PAGE), told, swaps=swapped)
        with open_session(Index._over(transport), dense.shape.question) as search:
            served = search.fetch_next(6)
            served += search.fetch_next(4)
            report = search.report
        assert (bool(told and swapped), bool(swapped and not told)) == (report.changed, report.reordered)
        assert len(served) == len(set(served)) == 10


class Approximate(FaultyTransport):
    """A transport to a server without numbers whose second start may find the first two matches in another order."""

    def __init__(self, inner: Any, plan: FaultPlan, told: str, *, swaps: bool) -> None:
        super().__init__(inner, plan, numbered_pages=False)
        self._told = told
        self._swaps = swaps

    def send(self, operation: Operation[Any]) -> Any:
        """Carry an operation, and change the answer."""
        value = super().send(operation)
        if isinstance(value, InfoResult):
            return replace(value, fusion_order=self._told)
        if operation.starts and self._swaps and self._plan.count(RequestKind.START) > 1:
            uuid, (first, second, *others) = value
            return uuid, [second, first, *others]
        return value


class TestPauses:
    """A session waits, and its caller takes a cursor, cancels, interrupts or stops it."""

    async def test_a_cursor_in_the_middle(self, bench: Bench) -> None:
        """A cursor that is taken while the session waits goes on where the results that were handed out end."""
        expected, cursors = order(bench), []
        index = faulty(bench.index, FaultPlan(SECOND_PAGE, clock=bench.clock)).to_async()
        search = open_async_session(index, bench.shape.question, sleep=once(lambda: cursors.append(search.cursor())))
        async with search:
            served = await search.fetch_next(4)
            assert expected[4:8] == await search.fetch_next(4)
        resumed = open_async_session(index, bench.shape.question, cursor=json.loads(json.dumps(cursors[0])))
        async with resumed:
            while page := await resumed.fetch_next(4):
                served += page
        assert expected == served

    @pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "not numbered"])
    async def test_cancelled(self, bench: Bench, *, numbered: bool) -> None:
        """A task that is cancelled while it waits loses nothing; the next call requests the page again."""
        expected, waiting = order(bench), asyncio.Event()

        async def wait() -> None:
            waiting.set()
            await asyncio.sleep(60)

        plan = FaultPlan(SECOND_PAGE, clock=bench.clock)
        index = faulty(bench.index, plan, numbered_pages=numbered).to_async()
        search = open_async_session(index, bench.shape.question, sleep=lambda _seconds: wait())
        async with search:
            served = await search.fetch_next(4)
            pulling = asyncio.create_task(search.fetch_next(4))
            await waiting.wait()
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)
            while page := await search.fetch_next(4):
                served += page
        assert expected == served
        assert int(not numbered) == search.report.recovered

    def test_interrupted(self, bench: Bench) -> None:
        """Whoever presses Ctrl-C while the session waits gets the same rows by the next call."""
        expected = order(bench)

        def interrupt() -> None:
            raise KeyboardInterrupt

        index = faulty(bench.index, FaultPlan(SECOND_PAGE, clock=bench.clock))
        with open_session(index, bench.shape.question, sleep=once(interrupt)) as search:
            served = search.fetch_next(4)
            with pytest.raises(KeyboardInterrupt):
                search.fetch_next(4)
            while page := search.fetch_next(4):
                served += page
        assert (expected, 0) == (served, search.report.recovered)

    def test_stopped_by_another_thread(self, dense: Bench) -> None:
        """A stop ends the longest wait at once: who was waiting is told that the session is stopped."""
        transport = Busy(dense.index._transport, FaultPlan())
        search = open_session(Index._over(transport), dense.shape.question, sleep=None)
        search.fetch_next(4)
        caught: list[BaseException] = []

        def pull() -> None:
            try:
                search.fetch_next(4)
            except ClientError as error:
                caught.append(error)

        thread = threading.Thread(target=pull)
        thread.start()
        assert transport.refused.wait(30)
        search.stop()
        thread.join(30)
        assert not thread.is_alive()
        assert ["this session has been stopped"] == [str(error).partition(";")[0] for error in caught]

    async def test_stopped_by_another_task(self, dense: Bench) -> None:
        """A stop ends the longest wait of an asynchronous session, too."""
        transport = Busy(dense.index._transport, FaultPlan())
        search = open_async_session(Index._over(transport).to_async(), dense.shape.question, sleep=None)
        await search.fetch_next(4)
        pulling = asyncio.create_task(search.fetch_next(4))
        while not transport.refused.is_set():  # noqa: ASYNC110 - set on another thread
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        await search.stop()
        with pytest.raises(ClientError, match="this session has been stopped"):
            await asyncio.wait_for(pulling, 30)

    @EACH_COLOUR
    async def test_the_deadline(self, dense: Bench, colour: str) -> None:
        """A call gives up with the error of the last request when a pause would last beyond its deadline."""
        clock = ManualClock()
        index = faulty(dense.index, FaultPlan(*(PlannedFault(Fault.DROP_REPLY, nth=nth) for nth in range(2, 30))))
        search = search_of(index, dense.shape.question, colour, clock=clock, sleep=clock.sleep)
        async with search:
            served = await search.fetch_next(4)
            with pytest.raises(TransportError, match="connection broke"):
                await search.fetch_until(MaxResults(20))
            assert clock() < 10.0
            assert 4 == search.report.kept
        assert order(dense)[:4] == served


class Busy(FaultyTransport):
    """A transport to a server that wants to be left alone for a minute, whenever it is asked for a page."""

    def __init__(self, inner: Any, plan: FaultPlan) -> None:
        super().__init__(inner, plan)
        self.refused = threading.Event()

    def send(self, operation: Operation[Any]) -> Any:
        """Carry an operation, or refuse it."""
        self._refuse(operation)
        return super().send(operation)

    async def asend(self, operation: Operation[Any]) -> Any:
        """Carry an operation, or refuse it."""
        self._refuse(operation)
        return await super().asend(operation)

    def _refuse(self, operation: Operation[Any]) -> None:
        if operation.command == "resumable-query-next":
            self.refused.set()
            error = RefusedError("slow down", 429)
            error.retry_after = 60.0
            raise error


class TestLostStarts:
    """Starts whose reply was lost, on a server that cannot find their query again."""

    @EACH_COLOUR
    async def test_the_next_ones_expire_sooner(
        self, dense: Bench, colour: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each lost start lowers `max_idle` of the next one, and the report says how many queries may be open."""
        idle: list[int] = []
        original = dense.engine.start

        def start(namespace: str, query: Any, max_idle: int, uuid: str | None = None, **owner: str) -> Any:
            idle.append(max_idle)
            return original(namespace, query, max_idle, uuid, **owner)

        monkeypatch.setattr(dense.engine, "start", start)
        lost = [PlannedFault(Fault.DROP_REPLY, RequestKind.START, nth) for nth in range(1, 4)]
        index = faulty(dense.index, FaultPlan(*lost, clock=dense.clock), numbered_pages=False)
        async with search_of(index, dense.shape.question, colour) as search:
            assert 4 == len(await search.fetch_next(4))
            assert 3 == search.report.recovery.left_open
        assert [120, 30, 10, 10] == idle
        dense.clock.advance(31)
        dense.engine.sweep()
        assert 1 == dense.engine.open_queries()
        assert 0 == dense.open_queries_after_idling()

    @EACH_COLOUR
    async def test_given_up(self, dense: Bench, colour: str) -> None:
        """A start that is given up leaves nothing open on a server that knows its uuid."""
        lost = [PlannedFault(Fault.DROP_REPLY, RequestKind.START, nth) for nth in range(1, 30)]
        index = faulty(dense.index, FaultPlan(*lost, clock=dense.clock))
        async with search_of(index, dense.shape.question, colour) as search:
            with pytest.raises(TransportError, match="connection broke"):
                await search.fetch_next(4)
            assert (20, 0) == (search.report.recovery.faults, search.report.recovery.left_open)
        dense.index.info()
        assert 0 == dense.engine.open_queries()


class TestSizes:
    """A search remembers the sizes of its pages as the server has made them, whatever happened in between."""

    @pytest.mark.parametrize("lost", [(2,), (2, 3), (2, 3, 4), (3, 5)])
    def test_pages_of_several_sizes(self, lost: tuple[int, ...]) -> None:
        """A replay page by page that loses replies brings pages of the same sizes, and so the same order."""
        bench = Bench.build(SHAPES["hybrid-batch"])
        sizes = (2, 1, 12, 30)
        with open_session(bench.index, bench.shape.question) as search:
            expected = [search.fetch_next(size) for size in sizes]
        plan = FaultPlan(*(PlannedFault(Fault.DROP_REPLY, RequestKind.NEXT, nth) for nth in lost), clock=bench.clock)
        index = faulty(bench.index, plan, numbered_pages=False)
        with open_session(index, bench.shape.question) as search:
            assert expected == [search.fetch_next(size) for size in sizes]
            assert (False, False) == (search.report.changed, search.report.reordered)
        bench.index.close()

    @EACH_COLOUR
    async def test_an_outage_after_a_lost_page(self, bench: Bench, colour: str) -> None:
        """A page that was lost before the index went away is remembered with its size until it comes."""
        transport = Away(bench.index._transport, FaultPlan(SECOND_PAGE, clock=bench.clock))
        index: Any = Index._over(transport)
        search = search_of(index, bench.shape.question, colour)
        async with search:
            served = [*await search.fetch_next(4)]
            with pytest.raises(TransportError):
                await search.fetch_next(4)
            transport.is_away = False
            served += await search.fetch_next(9)
            bench.clock.pass_max_idle()
            while page := await search.fetch_next(4):
                served += page
            assert (1, False) == (search.report.recovered, search.report.changed)
        assert len(served) == len(set(served)) == len(order(bench))


class Away(FaultyTransport):
    """A transport to an index that cannot be reached any more after the first fault, until it is back."""

    is_away = True

    def send(self, operation: Operation[Any]) -> Any:
        """Carry an operation, or fail to reach the index."""
        self._refuse()
        return super().send(operation)

    async def asend(self, operation: Operation[Any]) -> Any:
        """Carry an operation, or fail to reach the index."""
        self._refuse()
        return await super().asend(operation)

    def _refuse(self) -> None:
        if self._plan.injected and self.is_away:
            error = TransportError("no connection")
            error.sent = False
            raise error


class TestBetweenSearches:
    """A start fails, and the search goes on with another query or without one."""

    @EACH_COLOUR
    async def test_another_filter_after_a_lost_start(self, colour: str) -> None:
        """A widened search does not take the query of a start that failed before, and leaves none open."""
        bench = Bench.build(SHAPES["filtered"])
        lost = [PlannedFault(Fault.DROP_REPLY, RequestKind.START, nth) for nth in range(1, 21)]
        index = faulty(bench.index, FaultPlan(*lost, clock=bench.clock))
        async with search_of(index, bench.shape.question, colour) as search:
            with pytest.raises(TransportError):
                await search.fetch_next(5)
            await search.widen(filter="number >= 3")
            assert 5 == len(await search.fetch_next(5))
            bench.index.info()
            assert 1 == bench.engine.open_queries()
        assert 0 == bench.engine.open_queries()
        bench.index.close()

    def test_interrupted_without_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupt amid the plain query of a server without room does not pass for the end of the search."""
        bench = Bench.build(SHAPES["dense"], max_open_queries=1)
        expected = order(bench)
        _, handle = bench.index.resumable_query(top_k=1, **bench.shape.question.parameters())
        original, interrupts = PullLog.add_page, [True]

        def add_page(log: PullLog, *arguments: Any, **keywords: Any) -> None:
            if interrupts and interrupts.pop():
                raise KeyboardInterrupt
            original(log, *arguments, **keywords)

        monkeypatch.setattr(PullLog, "add_page", add_page)
        with handle, open_session(bench.index, bench.shape.question) as search:
            with pytest.raises(KeyboardInterrupt):
                search.fetch_next(3)
            assert expected[:3] == search.fetch_next(3)
        bench.index.close()


class TestLostStops:
    """Stops whose replies were lost."""

    @EACH_COLOUR
    async def test_the_next_request_repeats_them(self, dense: Bench, colour: str) -> None:
        """A query whose stop was lost as often as it was sent is stopped with the next request."""
        lost = [PlannedFault(Fault.DROP_REQUEST, RequestKind.STOP, nth) for nth in range(1, 5)]
        async with search_of(faulty(dense.index, FaultPlan(*lost)), dense.shape.question, colour) as search:
            await search.fetch_next(3)
        assert 1 == dense.engine.open_queries()
        dense.index.info()
        assert 0 == dense.engine.open_queries()
