"""Faults on purpose: each does to an index and its client what it says, in process and over HTTP."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest

from nextk import AsyncIndex, Index
from nextk.engine.protocol import Engine
from nextk.errors import AuthenticationError, PageUncertain, QueryNotFound
from nextk.sessions import RetrievalSession
from nextk.testing import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind, SessionCompliance, faulty
from nextk.testing.server import FaultyServer
from tests.support.searches import IDS, SHAPES, Bench, ids
from tests.support.transports import TRANSPORTS, Awaitable

SHAPE = SHAPES["dense"]
CLOCK = ManualClock()


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    """A server whose plan each test replaces."""
    with FaultyServer(FaultPlan(clock=CLOCK), numbered_pages=False, **SHAPE.schema) as server:
        with Index(server.url, server.token) as index:
            index.upsert(SHAPE.records())
        yield server


@dataclass
class Disturbed:
    """An index, as its client and from the other side.

    Attributes:
        index: A client; the blocking one is awaited, too.
        engine: The other side.
        plan: What goes wrong.
    """

    index: AsyncIndex
    engine: Engine
    plan: FaultPlan

    async def start(self, size: int) -> tuple[Any, list[str]]:
        """Open a query: its handle and the first page."""
        page, handle = await self.index.resumable_query(top_k=size, **SHAPE.question.parameters())
        return handle, ids(page)

    def expected(self, first: int, last: int) -> list[str]:
        """The ids from one place of the order to another."""
        with Bench.build(SHAPE).index as index:
            return ids(index.query(top_k=last, **SHAPE.question.parameters()))[first:]

    def remaining(self, uuid: str) -> list[str]:
        """What the server would still serve."""
        return [match.id for match in self.engine.fetch_next(uuid, 1_000)]


@pytest.fixture(params=TRANSPORTS)
async def disturbed(request: pytest.FixtureRequest) -> AsyncIterator[Disturbed]:
    """An index over each transport; afterwards only lost starts are open, and nothing once they have expired."""
    blocking, http = request.param.startswith("sync"), request.param.endswith("http")
    if http:
        server: FaultyServer = request.getfixturevalue("server")
        plan = server.app.plan = FaultPlan(clock=CLOCK, delay=0.01)
        index, engine = Index(server.url, server.token, retry_interval=0), server.engine
    else:
        bench = Bench.build(SHAPE)
        plan = FaultPlan(clock=bench.clock, delay=0.01)
        index, engine = faulty(bench.index, plan, numbered_pages=False), bench.engine
    client = cast("AsyncIndex", Awaitable(index)) if blocking else index.to_async()
    yield Disturbed(client, engine, plan)
    left = engine.open_queries()
    plan.clock.pass_max_idle()
    engine.sweep()
    expired = engine.open_queries()
    await client.close()
    assert (len(plan.lost), 0) == (left, expired)


class TestFaults:
    """One fault, and a handle that meets it."""

    async def test_none(self, disturbed: Disturbed) -> None:
        """Without a fault, requests are only counted, and what is opened and ended is known."""
        handle, first = await disturbed.start(3)
        second = ids(await handle.fetch_next(2))
        assert disturbed.expected(0, 5) == first + second
        assert [1, 1, 2, 0] == [disturbed.plan.count(kind) for kind in RequestKind if kind is not RequestKind.OTHER]
        assert (1, 0) == (len(disturbed.plan.open), len(disturbed.plan.lost))
        await handle.stop()
        assert (1, frozenset()) == (disturbed.plan.count(RequestKind.STOP), disturbed.plan.open)
        assert [] == disturbed.plan.injected

    @pytest.mark.parametrize(
        ("fault", "advanced"),
        [(Fault.DROP_REQUEST, 0), (Fault.DROP_REPLY, 2), (Fault.ERROR_PAGE, 2), (Fault.TRUNCATE, 2), (Fault.RESET, 2)],
    )
    async def test_a_lost_page(self, disturbed: Disturbed, fault: Fault, advanced: int) -> None:
        """The page's fate is unknown to the client, and the server has advanced, or has not."""
        disturbed.plan.inject(fault, RequestKind.NEXT)
        handle, _ = await disturbed.start(3)
        with pytest.raises(PageUncertain):
            await handle.fetch_next(2)
        (uuid,) = disturbed.plan.open
        assert disturbed.expected(3 + advanced, 1_000) == disturbed.remaining(uuid)
        await handle.stop()
        assert [PlannedFault(fault, RequestKind.NEXT, 1)] == disturbed.plan.injected

    @pytest.mark.parametrize(
        ("fault", "opened"),
        [(Fault.DROP_REQUEST, 0), (Fault.DROP_REPLY, 1), (Fault.ERROR_PAGE, 1), (Fault.TRUNCATE, 1), (Fault.RESET, 1)],
    )
    async def test_a_lost_start(self, disturbed: Disturbed, fault: Fault, opened: int) -> None:
        """A start whose reply is lost leaves a query that nobody can name, until it expires."""
        disturbed.plan.inject(fault)
        with pytest.raises(PageUncertain):
            await disturbed.start(3)
        assert opened == disturbed.engine.open_queries() == len(disturbed.plan.lost)

    async def test_a_late_page(self, disturbed: Disturbed) -> None:
        """A page that comes late comes whole."""
        disturbed.plan.inject(Fault.DELAY, RequestKind.START)
        disturbed.plan.inject(Fault.DELAY, RequestKind.NEXT)
        handle, first = await disturbed.start(3)
        assert disturbed.expected(0, 5) == first + ids(await handle.fetch_next(2))
        assert frozenset() == disturbed.plan.lost
        await handle.stop()

    @pytest.mark.parametrize(("fault", "others"), [(Fault.EXPIRE, 0), (Fault.RESTART, 0), (Fault.EVICT, 1)])
    async def test_a_query_that_is_gone(self, disturbed: Disturbed, fault: Fault, others: int) -> None:
        """The server says that the query does not exist; an eviction spares the others."""
        handle, _ = await disturbed.start(3)
        other, _ = await disturbed.start(3)
        disturbed.plan.inject(fault)
        with pytest.raises(QueryNotFound):
            await handle.fetch_next(2)
        assert others == disturbed.engine.open_queries() == len(disturbed.plan.open)
        if others:
            await other.stop()
        else:
            with pytest.raises(QueryNotFound):
                await other.stop()

    @pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_REPLY, Fault.ERROR_PAGE, Fault.DELAY])
    async def test_a_lost_stop_is_repeated(self, disturbed: Disturbed, fault: Fault) -> None:
        """A stop may be repeated, and to hear then that the query is gone is success."""
        disturbed.plan.inject(fault, RequestKind.STOP)
        handle, _ = await disturbed.start(3)
        await handle.stop()
        assert 0 == disturbed.engine.open_queries() == len(disturbed.plan.open)
        assert 2 - (fault is Fault.DELAY) == disturbed.plan.count(RequestKind.STOP)

    async def test_expiring_is_real(self, disturbed: Disturbed) -> None:
        """The clock of the engine moves: queries that the plan has never seen expire, too."""
        handle, _ = await disturbed.start(3)
        (uuid,) = disturbed.plan.open
        disturbed.plan.ended(uuid)
        disturbed.plan.inject(Fault.EXPIRE)
        with pytest.raises(QueryNotFound):
            await handle.fetch_next(1)

    async def test_a_namespace_that_is_absent(self, disturbed: Disturbed) -> None:
        """Where nothing is opened, nothing is open."""
        keywords = {**SHAPE.question.parameters(), "namespace": "absent"}
        page, _ = await disturbed.index.resumable_query(top_k=3, **keywords)
        assert ([], frozenset()) == (page, disturbed.plan.open)

    async def test_everything_else_is_left_alone(self, disturbed: Disturbed) -> None:
        """Requests that have nothing to do with resumable queries are hit only by faults planned for them."""
        before, requests = disturbed.plan.count(RequestKind.OTHER), disturbed.plan.requests
        disturbed.plan.inject(Fault.DROP_REQUEST)
        assert 30 == (await disturbed.index.info()).vector_count
        assert (before + 1, requests + 1) == (disturbed.plan.count(RequestKind.OTHER), disturbed.plan.requests)
        assert [] == disturbed.plan.injected
        disturbed.plan.inject(Fault.DROP_REPLY, RequestKind.OTHER)
        assert 30 == (await disturbed.index.info()).vector_count
        assert requests + 3 == disturbed.plan.requests


class TestPlan:
    """Which request is hit."""

    def test_the_nth_of_a_kind(self) -> None:
        """Starts, pages and stops are counted by themselves; what happened says which request it was."""
        strikes = [PlannedFault(Fault.DELAY, RequestKind.NEXT, 2), PlannedFault(Fault.EVICT, RequestKind.PAGE, 5)]
        plan = FaultPlan(*strikes)
        moments = [
            RequestKind.START,
            RequestKind.NEXT,
            RequestKind.STOP,
            RequestKind.NEXT,
            RequestKind.START,
            RequestKind.NEXT,
        ]
        assert [None, None, None, Fault.DELAY, None, Fault.EVICT] == [plan.on_request(moment) for moment in moments]
        assert 5 == plan.count(RequestKind.PAGE)
        assert [
            PlannedFault(Fault.DELAY, RequestKind.NEXT, 2),
            PlannedFault(Fault.EVICT, RequestKind.NEXT, 3),
        ] == plan.injected
        assert "Fault.EVICT" in repr(plan)

    def test_the_next_of_a_kind(self) -> None:
        """Faults that are asked for one by one hit one request after the other."""
        plan = FaultPlan()
        plan.on_request(RequestKind.START)
        plan.inject(Fault.DELAY)
        plan.inject(Fault.EVICT)
        assert [Fault.DELAY, Fault.EVICT, None] == [plan.on_request(RequestKind.NEXT) for _ in range(3)]

    def test_two_for_one_request(self) -> None:
        """Of two faults for one request the first one happens."""
        plan = FaultPlan(PlannedFault(Fault.DELAY), PlannedFault(Fault.EVICT, RequestKind.START))
        assert [Fault.DELAY, None] == [plan.on_request(RequestKind.START), plan.on_request(RequestKind.START)]

    def test_a_clock(self) -> None:
        """Time passes when told to."""
        clock = ManualClock()
        clock.advance(2)
        clock.advance(0.5)
        assert 2.5 == clock()
        clock.sleep(4)
        assert 6.5 == clock()


class TestServer:
    """What only HTTP shows."""

    def test_impatient_clients(self, server: FaultyServer) -> None:
        """A client that gives up on a late reply does not know the page's fate; its start is lost."""
        plan = server.app.plan = FaultPlan(PlannedFault(Fault.DELAY), clock=CLOCK, delay=5)
        with Index(server.url, server.token, timeout=0.1) as index, pytest.raises(PageUncertain):
            index.resumable_query(top_k=3, **SHAPE.question.parameters())
        assert (1, 1) == (len(plan.lost), server.engine.open_queries())
        CLOCK.pass_max_idle()

    def test_the_token(self, server: FaultyServer) -> None:
        """It is asked for, and what is refused opens nothing."""
        plan = server.app.plan = FaultPlan(clock=CLOCK)
        with Index(server.url, "wrong") as index, pytest.raises(AuthenticationError):
            index.resumable_query(top_k=3, **SHAPE.question.parameters())
        assert (1, frozenset()) == (plan.count(RequestKind.START), plan.open)

    def test_odd_requests(self, server: FaultyServer) -> None:
        """What is not a request of ours is answered as ever."""
        server.app.plan = FaultPlan(PlannedFault(Fault.EVICT, RequestKind.NEXT), clock=CLOCK)
        headers = {"Authorization": f"Bearer {server.token}"}
        for body in (b"", b"[]", b'{"uuid": 1}', b"{"):
            reply = httpx.post(f"{server.url}/resumable-query-next", content=body, headers=headers)
            assert 400 <= reply.status_code < 500
        assert 200 == httpx.get(f"{server.url}/healthz").status_code


def test_a_cancelled_start_is_lost() -> None:
    """Who stops waiting for the reply of a start does not learn the name of the query."""
    bench = Bench.build(SHAPE)
    plan = FaultPlan(PlannedFault(Fault.DELAY), delay=30)

    async def start() -> None:
        starting = asyncio.create_task(
            faulty(bench.index, plan, numbered_pages=False)
            .to_async()
            .resumable_query(top_k=3, **SHAPE.question.parameters())
        )
        while not plan.open:  # noqa: ASYNC110 - what is waited for happens on a thread
            await asyncio.sleep(0.001)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    asyncio.run(start())
    assert 1 == len(plan.lost)
    bench.index.close()


def test_nothing_is_imported_that_is_not_needed() -> None:
    """Faults and the suite load neither a test runner nor the engine nor the server."""
    code = "import sys, nextk.testing; print({'pytest', 'numpy', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert "set()" == done.stdout.strip()


class Forgetful(RetrievalSession[str]):
    """A session that serves a row again after a fault."""

    def fetch_next(self, n: int) -> list[str]:
        """Some row more."""
        before = self.report.recovered
        rows = super().fetch_next(n)
        return rows if self.report.recovered == before else [*rows, "r0"]


class Hasty(RetrievalSession[str]):
    """A session that takes a short page for the end."""

    @property
    def exhausted(self) -> bool:
        """Too early."""
        return self.report.pulls > 0


class Hoarder(RetrievalSession[str]):
    """A session that keeps its query."""

    def stop(self) -> None:
        """Only say so."""
        self._stopped = True


class Eager(RetrievalSession[str]):
    """A session that asks before anybody pulls."""

    def __enter__(self) -> "Eager":
        self.fetch_next(1)
        return self


@pytest.mark.filterwarnings("ignore:.*was dropped while open:ResourceWarning")
@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (Forgetful, {"test_every_fault_at_every_page"}),
        (Hasty, {"test_every_row_once", "test_the_end_is_an_empty_page", "test_pages_are_one_query"}),
        (Hoarder, {"test_stopping", "test_leaving_by_an_exception"}),
        (Eager, {"test_it_is_lazy"}),
    ],
)
def test_the_suite_finds_fault(kind: type[RetrievalSession[str]], broken: set[str]) -> None:
    """A session that breaks a promise fails the tests of that promise; a sound one passes them."""
    records = SHAPE.records()[:9]

    class Suite(SessionCompliance):
        sessions: type[RetrievalSession[str]]

        def index(self) -> Any:
            index = Index.embedded(**SHAPE.schema)
            index.upsert(records)
            return index

        def open_session(self, index: Index) -> RetrievalSession[str]:
            return self.sessions(index, SHAPE.question, IDS)

        def expected(self) -> list[str]:
            return [str(record.id) for record in records]

    for name in sorted(broken):
        Suite.sessions = RetrievalSession
        getattr(Suite(), name)()
        Suite.sessions = kind
        with pytest.raises(AssertionError):
            getattr(Suite(), name)()
