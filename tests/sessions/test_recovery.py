"""Recovery: after a fault a session skips nothing, repeats nothing, and leaves no query open."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk import AsyncIndex, Index, Vector
from nextk.errors import ClientError, LimitReached, PageUncertain, RefusedError, TransportError
from nextk.sessions import AsyncRetrievalSession
from nextk.testing import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind, faulty
from nextk.testing.server import FaultyServer
from tests.support.bare_engine import keep_no_records
from tests.support.searches import (
    COLOURS,
    DRAIN,
    ROWS,
    SHAPES,
    SIZES,
    Bench,
    SearchRun,
    Shape,
    arun,
    open_async_session,
    open_session,
    run,
    search_of,
)

LOST = [fault for fault in Fault if fault.loses_reply or fault is Fault.DROP_REQUEST]
"""Faults after which a page's fate is unknown."""
NUMBERED = pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "not numbered"])
"""An index that numbers its pages, and one that does not."""
PLACES = range(1, 9)
"""Every page request of a search that is drained: five pulls, what is left in parts, and the empty page."""
STRIKES = st.lists(st.tuples(st.sampled_from(Fault), st.integers(1, 40)), max_size=8, unique_by=lambda hit: hit[1])
"""Faults and the page requests that they hit, those of recoveries included."""


def in_process(bench: Bench, *strikes: PlannedFault, numbered: bool = True) -> tuple[Index, FaultPlan]:
    """A client of the index that fails as planned."""
    plan = FaultPlan(*strikes, clock=bench.clock, delay=0)
    return faulty(bench.index, plan, numbered_pages=numbered), plan


def recoveries(strike: PlannedFault, *, numbered: bool) -> int:
    """How often a search has to be started again after one fault: a query that is gone, or cannot go on."""
    lost = strike.fault in LOST and not numbered
    return int(strike.nth > 1 and (lost or strike.fault.ends_query))


def orphans(plan: FaultPlan, *, numbered: bool = True) -> int:
    """How many starts were lost after a server had opened a query that nobody can find again."""
    return 0 if numbered else sum(at.at is RequestKind.START and at.fault.loses_reply for at in plan.injected)


def numbers(index: Index) -> bool:
    """Whether an index has said that it numbers its pages."""
    return bool(index._transport.numbering.said)


def check(
    expected: SearchRun, actual: SearchRun, strike: PlannedFault, plan: FaultPlan, *, numbered: bool = True
) -> None:
    """A disturbed search is the undisturbed one, page by page, and says what happened."""
    assert expected.pages == actual.pages, strike
    assert [strike.fault] == [injected.fault for injected in plan.injected]
    report, again = actual.report, recoveries(strike, numbered=numbered)
    assert (again, again) == (report.recovered, report.recovery.replays), strike
    assert (False, False, 0, True) == (report.changed, report.reordered, report.repeated, report.exhausted)
    assert (expected.report.pulls, expected.report.pulled) == (report.pulls, report.pulled), strike
    ended = strike.fault.ends_query and strike.nth > 1
    lost = strike.fault in LOST
    assert int(ended or lost) == report.recovery.faults, strike
    assert int(lost and numbered) == report.recovery.repeats, strike
    assert int(lost and not numbered and strike.nth == 1) == report.recovery.left_open, strike


@pytest.fixture(params=SHAPES)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An index of each shape in turn; afterwards only lost starts are open, and nothing once they have expired."""
    bench = Bench.build(SHAPES[request.param])
    yield bench
    assert 0 == bench.open_queries_after_idling()
    bench.index.close()


@pytest.fixture
def dense() -> Iterator[Bench]:
    """A dense index; afterwards nothing is open."""
    bench = Bench.build(SHAPES["dense"])
    yield bench
    assert 0 == bench.engine.open_queries()
    bench.index.close()


def undisturbed(bench: Bench) -> SearchRun:
    """The search without faults."""
    return run(open_session(bench.index, bench.shape.question))


class TestEveryFaultEverywhere:
    """One fault at one place: the search is the same as without it."""

    def test_the_places_are_all_there_are(self, bench: Bench) -> None:
        """An undisturbed search makes as many page requests as are disturbed below, and the last page is empty."""
        index, plan = in_process(bench)
        report = run(open_session(index, bench.shape.question)).report
        assert max(PLACES) == plan.count(RequestKind.PAGE) == report.pulls

    @NUMBERED
    @pytest.mark.parametrize("fault", Fault)
    def test_in_process(self, bench: Bench, fault: Fault, *, numbered: bool) -> None:
        """Every fault at every page of the blocking colour."""
        expected, found = undisturbed(bench), 0
        for place in PLACES:
            strike = PlannedFault(fault, RequestKind.PAGE, place)
            index, plan = in_process(bench, strike, numbered=numbered)
            check(expected, run(open_session(index, bench.shape.question)), strike, plan, numbered=numbered)
            found += len(plan.lost)
            assert (orphans(plan, numbered=numbered), found) == (len(plan.lost), bench.engine.open_queries())

    @NUMBERED
    @pytest.mark.parametrize("fault", Fault)
    async def test_in_process_async(self, bench: Bench, fault: Fault, *, numbered: bool) -> None:
        """Every fault at every page of the asynchronous colour."""
        expected, found = undisturbed(bench), 0
        for place in PLACES:
            strike = PlannedFault(fault, RequestKind.PAGE, place)
            index, plan = in_process(bench, strike, numbered=numbered)
            search = open_async_session(index.to_async(), bench.shape.question)
            check(expected, await arun(search), strike, plan, numbered=numbered)
            found += len(plan.lost)
            assert (orphans(plan, numbered=numbered), found) == (len(plan.lost), bench.engine.open_queries())

    @pytest.mark.parametrize("fault", Fault)
    def test_at_stopping(self, bench: Bench, fault: Fault) -> None:
        """A fault while the query is being stopped harms nobody, and the query is stopped."""
        index, plan = in_process(bench, PlannedFault(fault, RequestKind.STOP))
        with open_session(index, bench.shape.question) as search:
            search.fetch_next(3)
        assert [PlannedFault(fault, RequestKind.STOP)] == plan.injected
        assert 0 == bench.engine.open_queries()


@pytest.fixture(
    scope="module",
    params=[("hybrid-batch", True), ("hybrid-batch", False), ("filtered", True), ("filtered", False)],
    ids=lambda param: f"{param[0]} {'numbered' if param[1] else 'not numbered'}",
)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[FaultyServer, Shape]]:
    """A server of two of the shapes in turn, which numbers pages or does not."""
    shape = SHAPES[request.param[0]]
    with FaultyServer(FaultPlan(), numbered_pages=request.param[1], **shape.schema) as server:
        with Index(server.url, server.token) as index:
            index.upsert(shape.records())
        yield server, shape


@pytest.fixture
def served(server: tuple[FaultyServer, Shape]) -> Iterator[tuple[FaultyServer, Shape, Index]]:
    """The server, what it holds, and a client; afterwards nothing is open once lost starts have expired."""
    with Index(server[0].url, server[0].token, retry_interval=0) as index:
        yield *server, index
    server[0].app.plan.clock.pass_max_idle()
    server[0].engine.sweep()
    assert 0 == server[0].engine.open_queries()


class TestOverHttp:
    """The same where requests really get lost."""

    @staticmethod
    def disturb(server: FaultyServer, *strikes: PlannedFault) -> FaultPlan:
        """Put a plan in force."""
        server.app.plan = FaultPlan(*strikes, clock=server.app.plan.clock, delay=0)
        return server.app.plan

    @pytest.mark.parametrize("fault", Fault)
    def test_blocking(self, served: tuple[FaultyServer, Shape, Index], fault: Fault) -> None:
        """Every fault at the first, a middle and the last page of the blocking colour."""
        server, shape, index = served
        self.disturb(server)
        expected, found = run(open_session(index, shape.question)), 0
        for place in (1, 4, 8):
            strike = PlannedFault(fault, RequestKind.PAGE, place)
            plan, numbered = self.disturb(server, strike), numbers(index)
            check(expected, run(open_session(index, shape.question)), strike, plan, numbered=numbered)
            found += len(plan.lost)
            assert (orphans(plan, numbered=numbered), found) == (len(plan.lost), server.engine.open_queries())

    @pytest.mark.parametrize("fault", Fault)
    async def test_async(self, served: tuple[FaultyServer, Shape, Index], fault: Fault) -> None:
        """Every fault at the first, a middle and the last page of the asynchronous colour."""
        server, shape, index = served
        self.disturb(server)
        native, found = index.to_async(), 0
        expected = await arun(open_async_session(native, shape.question))
        for place in (1, 4, 8):
            strike = PlannedFault(fault, RequestKind.PAGE, place)
            plan, numbered = self.disturb(server, strike), numbers(index)
            actual = await arun(open_async_session(native, shape.question))
            check(expected, actual, strike, plan, numbered=numbered)
            found += len(plan.lost)
            assert (orphans(plan, numbered=numbered), found) == (len(plan.lost), server.engine.open_queries())
        await native.close()

    def test_replies_that_come_too_late(self, served: tuple[FaultyServer, Shape, Index]) -> None:
        """A client that gives up on a reply recovers as from any other lost page."""
        server, shape, index = served
        self.disturb(server)
        expected = run(open_session(index, shape.question))
        strike = PlannedFault(Fault.DELAY, RequestKind.NEXT, 3)
        server.app.plan = plan = FaultPlan(strike, clock=server.app.plan.clock, delay=5)
        with Index(server.url, server.token, timeout=0.1) as impatient:
            actual = run(open_session(impatient, shape.question))
        again = int(not numbers(impatient))
        assert (expected.pages, again, [strike]) == (actual.pages, actual.report.recovered, plan.injected)
        assert 0 == server.engine.open_queries()


class TestFaultAfterFault:
    """More than one thing goes wrong."""

    @pytest.mark.parametrize("name", SHAPES)
    @settings(max_examples=40, deadline=None)
    @given(strikes=STRIKES, numbered=st.booleans())
    def test_here_and_there(self, name: str, strikes: list[tuple[Fault, int]], *, numbered: bool) -> None:
        """Faults at any places, recoveries included: whoever asks on gets the undisturbed pages."""
        bench = Bench.build(SHAPES[name])
        faults = [PlannedFault(fault, RequestKind.PAGE, nth) for fault, nth in strikes]
        index, plan = in_process(bench, *faults, numbered=numbered)
        actual = run(open_session(index, bench.shape.question), patience=5)
        assert undisturbed(bench).pages == actual.pages
        assert plan.open == plan.lost
        assert len(plan.lost) == bench.engine.open_queries()
        assert 0 == bench.open_queries_after_idling()
        bench.index.close()

    @NUMBERED
    @pytest.mark.parametrize("fault", LOST)
    def test_too_many_in_a_row(self, dense: Bench, fault: Fault, *, numbered: bool) -> None:
        """Where reply after reply is lost, the error is the caller's; asked again, the session goes on."""
        expected = undisturbed(dense).ids
        index, plan = in_process(dense, numbered=numbered)
        with open_session(index, dense.shape.question) as search:
            served = search.fetch_next(7)
            failures = 20 if numbered else 10
            for place in range(failures):  # whatever is lost: the page, or the start of a replay
                plan.inject(fault, RequestKind.NEXT if numbered or not place else RequestKind.START)
            with pytest.raises(TransportError) as caught:
                search.fetch_next(5)
            assert numbered is not isinstance(caught.value, PageUncertain)
            assert (False, 7, failures) == (search.exhausted, search.report.kept, search.report.recovery.faults)
            served += search.fetch_next(5)
            served += search.fetch_next(100)
        assert expected == served
        assert orphans(plan, numbered=numbered) == len(plan.lost) == dense.engine.open_queries()
        assert 0 == dense.open_queries_after_idling()

    def test_a_page_is_lost_each_time(self, dense: Bench) -> None:
        """Replays that arrive, and lose the page for which they were made, are given up after ten, too."""
        index, plan = in_process(dense, numbered=False)
        with open_session(index, dense.shape.question, max_recovery=None) as search:
            served = [*search.fetch_next(7), *search.fetch_next(1)]
            for _ in range(30):
                plan.inject(Fault.DROP_REPLY, RequestKind.NEXT)
            with pytest.raises(PageUncertain):
                search.fetch_next(1_000)  # too many to come with the replay
            assert 12 > search.report.recovery.replays > 5
        assert undisturbed(dense).ids[:8] == served

    def test_more_than_may_be_pulled_again(self, dense: Bench) -> None:
        """A recovery that would cost too much is refused, again and again, and never passes for the end."""
        index, plan = in_process(dense, numbered=False)
        with open_session(index, dense.shape.question, max_recovery=12) as search:
            served = search.fetch_next(12)
            plan.inject(Fault.DROP_REPLY)
            served += search.fetch_next(3)
            plan.inject(Fault.DROP_REPLY)
            for _ in range(2):
                with pytest.raises(LimitReached, match="max_recovery=12"):
                    search.fetch_next(3)
            assert (False, 15, 1) == (search.exhausted, search.report.kept, search.report.recovered)
            assert 0 == dense.engine.open_queries()
        assert undisturbed(dense).ids[:15] == served

    @pytest.mark.parametrize("max_recovery", [209, 210])
    def test_requested_matches_count(self, max_recovery: int) -> None:
        """A recovery costs the matches that its pulls request, however few of them came."""
        bench = Bench.build(SHAPES["filtered"])
        index, _ = in_process(bench, PlannedFault(Fault.EVICT, RequestKind.NEXT, 2))
        with open_session(index, bench.shape.question, max_recovery=max_recovery) as search:
            served = search.fetch_next(10)
            if max_recovery < 210:
                with pytest.raises(LimitReached, match=r"210 rows .* by 2 pulls, .* max_recovery=209"):
                    search.fetch_next(200)
            else:
                served += search.fetch_next(200)
                assert undisturbed(bench).ids == served
        bench.index.close()

    @pytest.mark.parametrize("fault", Fault)
    def test_a_server_with_room_for_one(self, fault: Fault) -> None:
        """A recovery frees the old query before it opens the new one."""
        bench = Bench.build(SHAPES["dense"], max_open_queries=1)
        expected = undisturbed(bench)
        index, _ = in_process(bench, PlannedFault(fault, RequestKind.NEXT, 2))
        assert expected.pages == run(open_session(index, bench.shape.question)).pages
        bench.index.close()


class Writes:
    """Writes that come between the pulls of a search, and what must hold all the same."""

    numbers = st.integers(0, ROWS + 9)
    between = st.dictionaries(st.integers(1, 6), st.lists(st.tuples(st.sampled_from(["upsert", "delete"]), numbers)))

    def __init__(self, bench: Bench, writes: dict[int, list[tuple[str, int]]]) -> None:
        self.bench = bench
        self.written: set[str] = set()
        self._writes = writes
        self.untouched = set(undisturbed(bench).ids)

    def __call__(self, place: int) -> None:
        """Make the writes of one place."""
        for kind, number in self._writes.get(place, []):
            self.written.add(f"r{number}")
            if kind == "upsert":
                self.bench.index.upsert([self.bench.shape.record(number, seed=place)])
            else:
                self.bench.index.delete(f"r{number}")

    def check(self, actual: SearchRun) -> None:
        """No id twice, every id served that was there all the time, and nothing new but after a recovery."""
        assert len(actual.ids) == len(set(actual.ids))
        assert self.untouched - self.written <= set(actual.ids)
        if not actual.report.recovered:
            assert set(actual.ids) <= self.untouched
            assert not actual.report.changed


class TestWritesInBetween:
    """The data changes while it is searched, and faults make the search start anew on what is there then."""

    @pytest.mark.parametrize("name", SHAPES)
    @settings(max_examples=25, deadline=None)
    @given(strikes=STRIKES, between=Writes.between)
    def test_blocking(
        self, name: str, strikes: list[tuple[Fault, int]], between: dict[int, list[tuple[str, int]]]
    ) -> None:
        """No id twice, and every id served that was present and unmodified throughout."""
        bench = Bench.build(SHAPES[name])
        writes = Writes(bench, between)
        index, plan = in_process(bench, *(PlannedFault(fault, RequestKind.PAGE, nth) for fault, nth in strikes))
        writes.check(run(open_session(index, bench.shape.question), writes, patience=5))
        assert plan.open == plan.lost
        assert len(plan.lost) == bench.engine.open_queries()
        bench.index.close()

    @pytest.mark.parametrize("name", ["hybrid", "hybrid-batch"])
    @settings(max_examples=15, deadline=None)
    @given(strikes=STRIKES, between=Writes.between)
    def test_async(
        self, name: str, strikes: list[tuple[Fault, int]], between: dict[int, list[tuple[str, int]]]
    ) -> None:
        """The same in the other colour."""
        bench = Bench.build(SHAPES[name])
        writes = Writes(bench, between)
        index, plan = in_process(bench, *(PlannedFault(fault, RequestKind.PAGE, nth) for fault, nth in strikes))

        async def search() -> SearchRun:
            return await arun(open_async_session(index.to_async(), bench.shape.question), writes, patience=5)

        writes.check(asyncio.run(search()))
        assert plan.open == plan.lost
        bench.index.close()

    def test_it_is_said(self, dense: Bench) -> None:
        """A recovery that finds other rows than before says so; what is new comes with it."""
        index, plan = in_process(dense)
        with open_session(index, dense.shape.question) as search:
            served = search.fetch_next(5)
            dense.index.delete(served[:2])
            dense.index.upsert([Vector("new", [0.5, -0.2, 0.8, 0.1])])
            plan.inject(Fault.RESTART)
            served += search.fetch_next(100)
            assert search.report.changed
        assert (ROWS + 1, ROWS + 1) == (len(served), len(set(served)))
        assert "new" in served


class TestCancellation:
    """A task that pulls is cancelled; the session goes on when somebody asks it to."""

    @pytest.mark.parametrize("advanced", [False, True], ids=["in flight", "after the server advanced"])
    @pytest.mark.parametrize("scope", [False, True], ids=["task", "scope"])
    async def test_at_every_page(self, bench: Bench, *, advanced: bool, scope: bool) -> None:
        """Whenever it happens, no row is lost, none comes twice, and the query is stopped."""
        expected = undisturbed(bench)
        for place in PLACES:
            plan = FaultPlan(PlannedFault(Fault.DELAY, RequestKind.PAGE, place), clock=bench.clock, delay=60)
            search = open_async_session(faulty(bench.index, plan).to_async(), bench.shape.question)
            served: list[str] = []
            async with search:
                while not search.exhausted:
                    size = SIZES[search.report.pulls] if search.report.pulls < len(SIZES) else DRAIN
                    served += await interrupted(search, size, plan, advanced=advanced, scope=scope)
            assert expected.ids == served, place
            assert int(place > 1) == search.report.recovered
            bench.index.info()  # stops what was left to the next request
            assert 0 == len(plan.lost) == bench.engine.open_queries()

    @pytest.mark.parametrize("place", [1, 4, 8])
    async def test_over_http(self, served: tuple[FaultyServer, Shape, Index], place: int) -> None:
        """The same where a request is under way on a connection; only a start that was lost stays open."""
        server, shape, index = served
        TestOverHttp.disturb(server)
        native = index.to_async()
        expected = await arun(open_async_session(native, shape.question))
        server.app.plan = plan = FaultPlan(
            PlannedFault(Fault.DELAY, RequestKind.PAGE, place), clock=server.app.plan.clock, delay=60
        )
        search = open_async_session(native, shape.question)
        rows: list[str] = []
        async with search:
            while not search.exhausted:
                size = SIZES[search.report.pulls] if search.report.pulls < len(SIZES) else DRAIN
                rows += await interrupted(search, size, plan, advanced=True, scope=False)
        assert (expected.ids, int(place > 1)) == (rows, search.report.recovered)
        await native.info()  # stops what was left to the next request
        assert int(place == 1 and not numbers(index)) == len(plan.lost) == server.engine.open_queries()
        await native.close()

    async def test_a_stop_at_any_step(self, served: tuple[FaultyServer, Shape, Index]) -> None:
        """However early a stop is cancelled, the query ends: at once, or with the next request or the index."""
        server, shape, _ = served
        TestOverHttp.disturb(server)
        for steps in range(8):
            native = AsyncIndex(server.url, server.token)
            search = open_async_session(native, shape.question)
            await search.fetch_next(3)
            stopping = asyncio.create_task(search.stop())
            for _ in range(steps):
                await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await search.stop()
            await native.close()
        for _ in range(50):  # what was sent before the cancellation may be under way
            if server.engine.open_queries():
                await asyncio.sleep(0.002)
        assert 0 == server.engine.open_queries()

    async def test_at_the_end(self, dense: Bench) -> None:
        """The last rows have come and the query is being stopped: who is cancelled then gets them next time."""
        plan = FaultPlan(PlannedFault(Fault.DELAY, RequestKind.STOP), delay=60)
        search = open_async_session(faulty(dense.index, plan).to_async(), dense.shape.question)
        async with search:
            pulling = asyncio.create_task(search.fetch_next(100))
            await until(lambda: bool(plan.injected) and not plan.open)
            pulling.cancel()
            await asyncio.gather(pulling, return_exceptions=True)
            assert undisturbed(dense).ids == await search.fetch_next(100)

    async def test_while_stopping(self, dense: Bench) -> None:
        """A stop that is cancelled under way still stops the query."""
        plan = FaultPlan(PlannedFault(Fault.DELAY, RequestKind.STOP), delay=60)
        search = open_async_session(faulty(dense.index, plan).to_async(), dense.shape.question)
        await search.fetch_next(3)
        stopping = asyncio.create_task(search.stop())
        await until(lambda: bool(plan.injected) and not plan.open)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        assert 0 == dense.engine.open_queries()


async def until(done: Callable[[], bool]) -> None:
    """Wait for what happens on another thread."""
    while not done():  # noqa: ASYNC110
        await asyncio.sleep(0.0005)


async def interrupted(
    search: AsyncRetrievalSession[str], size: int, plan: FaultPlan, *, advanced: bool, scope: bool
) -> list[str]:
    """A page, or nothing if the pull met the delay of the plan and was cancelled."""
    before = len(plan.injected)
    inner = anyio.CancelScope()

    async def pull() -> list[str]:
        with inner if scope else contextlib.nullcontext():
            return await search.fetch_next(size)
        return []

    pulling = asyncio.create_task(pull())
    await until(lambda: pulling.done() or len(plan.injected) > before)
    if not pulling.done():
        if advanced:
            await asyncio.sleep(0.005)
        (inner if scope else pulling).cancel()
    (outcome,) = await asyncio.gather(pulling, return_exceptions=True)
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    return outcome if isinstance(outcome, list) else []


class TestAtOnce:
    """Several pull from one session."""

    @pytest.mark.parametrize("fault", Fault)
    def test_threads(self, bench: Bench, fault: Fault) -> None:
        """Threads wait for each other: disjoint pages, together the whole, faults or not."""
        index, plan = in_process(
            bench, PlannedFault(fault, RequestKind.PAGE, 3), PlannedFault(fault, RequestKind.PAGE, 9)
        )
        pages: list[list[str]] = []
        barrier = threading.Barrier(4)

        def pull() -> None:
            barrier.wait()
            while page := search.fetch_next(4):
                pages.append(page)

        with open_session(index, bench.shape.question) as search:
            threads = [threading.Thread(target=pull) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        served = [id_ for page in pages for id_ in page]
        assert (len(served), set(undisturbed(bench).ids)) == (len(set(served)), set(served))
        assert plan.open == plan.lost

    @pytest.mark.parametrize("fault", Fault)
    async def test_tasks(self, bench: Bench, fault: Fault) -> None:
        """Tasks wait for each other: disjoint pages, together the whole, faults or not."""
        index, plan = in_process(
            bench, PlannedFault(fault, RequestKind.PAGE, 3), PlannedFault(fault, RequestKind.PAGE, 9)
        )
        pages: list[list[str]] = []

        async def pull() -> None:
            while page := await search.fetch_next(4):
                pages.append(page)

        async with open_async_session(index.to_async(), bench.shape.question) as search:
            await asyncio.gather(*(pull() for _ in range(4)))
        served = [id_ for page in pages for id_ in page]
        assert (len(served), set(undisturbed(bench).ids)) == (len(set(served)), set(served))
        assert plan.open == plan.lost

    @pytest.mark.parametrize(
        "place",
        [1, 2, 3],
    )
    async def test_stopped_by_another_task(self, dense: Bench, place: int) -> None:
        """Who is pulling when another task stops the session gets rows or a clear error."""
        plan = FaultPlan(PlannedFault(Fault.DELAY, RequestKind.PAGE, place), delay=0.02)
        search = open_async_session(faulty(dense.index, plan).to_async(), dense.shape.question)

        async def drain() -> None:
            while await search.fetch_next(20):
                pass

        draining = asyncio.create_task(drain())
        await until(lambda: bool(plan.injected))
        await search.stop()
        with pytest.raises(ClientError, match="open a new one"):
            await draining


class TestLoops:
    """A session outlives the event loop that it was started in."""

    def test_in_process(self, dense: Bench) -> None:
        """Pages from one loop after another are one search."""
        search = open_async_session(dense.index.to_async(), dense.shape.question)
        served = [id_ for _ in range(4) for id_ in asyncio.run(search.fetch_next(10))]
        asyncio.run(search.stop())
        assert undisturbed(dense).ids == served

    def test_contended(self, dense: Bench) -> None:
        """It does so even where several tasks pulled at once in each of them."""
        plan = FaultPlan(*(PlannedFault(Fault.DELAY, RequestKind.PAGE, place) for place in PLACES), delay=0.005)
        search = open_async_session(faulty(dense.index, plan).to_async(), dense.shape.question)

        async def two() -> list[str]:
            return [id_ for page in await asyncio.gather(search.fetch_next(8), search.fetch_next(8)) for id_ in page]

        served = asyncio.run(two()) + asyncio.run(two())
        asyncio.run(search.stop())
        assert undisturbed(dense).ids == served

    def test_over_http(self, server: tuple[FaultyServer, Shape]) -> None:
        """A connection belongs to its loop, a search does not."""
        served, shape = server
        plan = served.app.plan = FaultPlan(clock=served.app.plan.clock)
        index = AsyncIndex(served.url, served.token)
        search = open_async_session(index, shape.question)

        async def pull() -> list[str]:
            page = await search.fetch_next(DRAIN)
            await index.close()
            return page

        async def finish() -> None:
            await search.stop()
            await index.close()

        pages = [asyncio.run(pull()) for _ in range(4)]
        asyncio.run(finish())
        with Index(served.url, served.token) as blocking, open_session(blocking, shape.question) as expected:
            assert [expected.fetch_next(DRAIN) for _ in range(4)] == pages
        assert frozenset() == plan.open


class TestFailingDisk:
    """A storage that fails while a search goes on."""

    @pytest.mark.parametrize("colour", COLOURS)
    @pytest.mark.parametrize("shape", SHAPES)
    async def test_for_a_moment(self, shape: str, colour: str) -> None:
        """A page that the storage could not read is recovered within its pull: the search is the undisturbed one."""
        bench = Bench.build(SHAPES[shape])
        keep_no_records(bench.engine)
        expected = undisturbed(bench)
        connection = bench.engine._storage._connection
        failures = iter([True, True])  # the second page fails at first, and so does its recovery

        def fail(number: int) -> None:
            connection.set_progress_handler((lambda: next(failures, False)) if number == 1 else None, 1)

        if colour == "sync":
            actual = run(open_session(bench.index, bench.shape.question), fail)
        else:
            actual = await arun(open_async_session(bench.index.to_async(), bench.shape.question), fail)
        assert expected.pages == actual.pages
        assert (0, 2, False) == (actual.report.recovered, actual.report.recovery.repeats, actual.report.changed)
        assert None is next(failures, None)
        assert 0 == bench.engine.open_queries()

    @pytest.mark.parametrize("colour", COLOURS)
    async def test_for_long(self, dense: Bench, colour: str) -> None:
        """The error says that the storage fails; once it works again the search goes on, and nothing is lost."""
        keep_no_records(dense.engine)
        expected = undisturbed(dense).ids
        connection = dense.engine._storage._connection
        async with search_of(dense.index, dense.shape.question, colour, sleep=ManualClock().sleep) as search:
            served = await search.fetch_next(3)
            connection.set_progress_handler(lambda: True, 1)
            with pytest.raises(RefusedError, match="cannot do this: the call was interrupted"):
                await search.fetch_next(3)
            connection.set_progress_handler(None, 0)
            while page := await search.fetch_next(DRAIN):
                served += page
        assert expected == served
        assert 0 == dense.engine.open_queries()
