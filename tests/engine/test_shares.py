"""Fair shares of open queries: how many one share may hold, which query makes room, and what its session does then."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk import Index
from nextk.dispatch import dispatch
from nextk.engine.open_queries import OpenQueries
from nextk.engine.open_query import QueryStart
from nextk.engine.pages import LoadRows
from nextk.engine.ranking import LazyRanking
from nextk.engine.shares import EVICTABLE_AFTER, Share, query_to_evict, share_limit
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, RefusedError, TooManyQueries
from nextk.testing import FaultPlan, ManualClock
from nextk.testing.server import FaultyServer
from tests.support.bare_engine import Rig
from tests.support.searches import COLOURS, DRAIN, SHAPES, Bench, Shape, open_async_session, open_session
from tests.support.transports import Awaitable

SHARES = [Share(owner, namespace) for owner in ("full", "read_only") for namespace in ("", "notes")]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from(SHARES)),
        st.tuples(st.sampled_from(["next", "stop"]), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.sampled_from([1, 20, 59, 60, 61])),
    ),
    max_size=60,
)
"""Starts by a share, pages and stops of a query by its number, and seconds that pass."""


def load(rows: Sequence[int], limit: int) -> dict[int, Match]:
    """Return records of numbers."""
    return {row: Match(str(row)) for row in rows}


def start(queries: OpenQueries, share: Share, load: LoadRows = load) -> str:
    """Open a query over nine numbers, which never expires by itself, and return its uuid."""
    order = LazyRanking(np.arange(9), np.zeros(9, np.float32))
    return queries.start(QueryStart(lambda: (lambda: order, load), 1e9, 1, share=share))[0]


@dataclass
class Model:
    """Open queries by brute force: each with its share and the time of its last page, oldest start first.

    Attributes:
        cap: The number of queries that may be open.
        now: The time.
        open: The share and the last touch of each open query.
    """

    cap: int
    now: float = 0.0
    open: dict[str, tuple[Share, float]] = field(default_factory=dict)

    def size(self, share: Share) -> int:
        """Return the number of open queries of a share."""
        return sum(held == share for held, _ in self.open.values())

    def leaving(self, share: Share) -> str | None:
        """Return the query that makes room for one more of a share, `""` if there is room, `None` if none may go."""
        if self.cap > 1 and 2 * (self.size(share) + 1) > self.cap + 1:
            candidates = [name for name, (held, _) in self.open.items() if held == share]
        elif len(self.open) + 1 > self.cap:
            most = max(self.size(held) for held in SHARES)
            candidates = [name for name, (held, _) in self.open.items() if self.size(held) == most]
        else:
            return ""
        longest = min(candidates, key=lambda name: self.open[name][1])
        return longest if self.now - self.open[longest][1] > 60 else None


class TestDecision:
    """Which query has to go."""

    @pytest.mark.parametrize(("cap", "limit"), [(1, 1), (2, 1), (3, 2), (5, 3), (99, 50), (100, 50), (101, 51)])
    def test_half_of_the_cap(self, cap: int, limit: int) -> None:
        """One share may open half of the cap, rounded up, and then no more."""
        assert limit == share_limit(cap)
        held: dict[str, Share] = {}
        for number in range(limit):
            assert query_to_evict(held, lambda _: 0.0, SHARES[0], cap) is None
            held[str(number)] = SHARES[0]
        with pytest.raises(TooManyQueries, match=f"^Exceeded max active resumable query limit: {limit}") as caught:
            query_to_evict(held, lambda _: 0.0, SHARES[0], cap)
        assert 403 == caught.value.status

    @pytest.mark.parametrize("cap", [2, 3, 100])
    def test_others_have_the_other_half(self, cap: int) -> None:
        """A share that holds its half keeps nobody else from opening a query."""
        held = {str(number): SHARES[0] for number in range(share_limit(cap))}
        assert query_to_evict(held, lambda _: 0.0, SHARES[1], cap) is None

    @given(cap=st.integers(1, 9), steps=STEPS)
    def test_sequences(self, cap: int, steps: Sequence[tuple[str, Share | int]]) -> None:
        """Whatever happens, the cap and the halves hold, and who goes is whom a search of all of them finds."""
        clock = ManualClock()
        queries, model, started, evicted = OpenQueries(cap, clock), Model(cap), list[str](), 0
        for step, given_ in steps:
            model.now = clock()
            if isinstance(given_, Share):
                leaving = model.leaving(given_)
                if leaving is None:
                    with pytest.raises(TooManyQueries):
                        start(queries, given_)
                    continue
                evicted += bool(model.open.pop(leaving, None))
                started.append(start(queries, given_))
                model.open[started[-1]] = given_, model.now
            elif step == "wait":
                clock.advance(given_)
            elif given_ < len(started):
                self._touch(queries, model, step, started[given_])
            assert Counter(share for share, _ in model.open.values()) == queries.shares()
            assert len(queries) == sum(queries.shares().values()) <= cap
            assert max(queries.shares().values(), default=0) <= (cap + 1) // 2
            assert evicted == queries.evicted

    @staticmethod
    def _touch(queries: OpenQueries, model: Model, step: str, name: str) -> None:
        """Read a page of a query, or stop it: an evicted one is unknown."""
        if name not in model.open:
            with pytest.raises(QueryNotFound):
                queries.fetch_next(name, 1)
        elif step == "stop":
            queries.stop(name)
            del model.open[name]
        else:
            queries.fetch_next(name, 1)
            model.open[name] = model.open[name][0], model.now


def test_a_query_that_is_read_is_not_idle() -> None:
    """A page that is being read keeps its query, however long that takes; the next longest idle one goes."""
    reading, go_on, clock = threading.Event(), threading.Event(), ManualClock()

    def slow(rows: Sequence[int], limit: int) -> dict[int, Match]:
        if rows != [0]:
            reading.set()
            go_on.wait()
        return load(rows, limit)

    queries = OpenQueries(4, clock)
    first, second = start(queries, SHARES[0], slow), start(queries, SHARES[0])
    with ThreadPoolExecutor(1) as threads:
        page = threads.submit(queries.fetch_next, first, 1)
        try:
            assert reading.wait(60)
            clock.advance(EVICTABLE_AFTER + 1)
            third = start(queries, SHARES[0])
            with pytest.raises(QueryNotFound):
                queries.require(second)
            with pytest.raises(TooManyQueries):
                start(queries, SHARES[0])
        finally:
            go_on.set()
        assert ["1"] == [match.id for match in page.result()]
    for name in (first, third):
        queries.stop(name)


def test_shares_by_what_a_client_may_do_and_by_namespace() -> None:
    """A read-only client that holds its half of a namespace keeps out neither full clients nor other namespaces."""
    body = {"vector": [1, 0]}
    with Rig(dimension=2, max_open_queries=4) as rig:
        for namespace in ("", "notes"):
            rig.upsert({"id": "a", "vector": [1.0, 0.0]}, namespace=namespace)
        opened = [dispatch(rig.engine, "resumable-query", body, read_only=True) for _ in range(2)]
        with pytest.raises(TooManyQueries, match="2 in one namespace, half of 4"):
            dispatch(rig.engine, "resumable-query", body, read_only=True)
        opened.append(dispatch(rig.engine, "resumable-query/notes", body, read_only=True))
        opened.append(dispatch(rig.engine, "resumable-query", body))
        held = {("read_only", ""): 2, ("read_only", "notes"): 1, ("full", ""): 1}
        assert held == rig.engine.query_shares().open_queries
        with pytest.raises(TooManyQueries, match=r"limit: 4$"):
            dispatch(rig.engine, "resumable-query/notes", body)
        for start_ in opened:
            rig.engine.stop(start_["uuid"])


@pytest.mark.parametrize(
    ("options", "refused"), [({}, 3_601), ({"max_idle": 7_200}, 7_201), ({"max_idle": 86_400}, 86_401)]
)
def test_longest_idle_time(options: dict[str, Any], refused: int) -> None:
    """A query may ask for the longest idle time that the engine allows, an hour by default, and for no second more."""
    with Rig(dimension=2, **options) as rig:
        rig.upsert({"id": "a", "vector": [1.0, 0.0]})
        with pytest.raises(RefusedError, match="Invalid maxIdle: ") as caught:
            dispatch(rig.engine, "resumable-query", {"vector": [1, 0], "maxIdle": refused})
        assert 422 == caught.value.status
        rig.engine.stop(dispatch(rig.engine, "resumable-query", {"vector": [1, 0], "maxIdle": refused - 1})["uuid"])


class TestSessions:
    """A session whose query made room for others."""

    @pytest.fixture(params=["in process", "over HTTP"])
    def capped(self, request: pytest.FixtureRequest) -> Iterator[tuple[Index, ManualClock, Bench | FaultyServer]]:
        """An index with room for two queries, one a share, over each transport."""
        shape: Shape = SHAPES["hybrid-batch"]
        if request.param == "in process":
            bench = Bench.build(shape, max_open_queries=2)
            with bench.index:
                yield bench.index, bench.clock, bench
            return
        plan = FaultPlan()
        with FaultyServer(plan, max_open_queries=2, **shape.schema) as server, Index(server.url, server.token) as index:
            index.upsert(shape.records())
            yield index, plan.clock, server

    @pytest.mark.parametrize("colour", COLOURS)
    async def test_recovery(self, capped: tuple[Index, ManualClock, Bench | FaultyServer], colour: str) -> None:
        """It goes on with a new query: every record once, in the order of a search that nobody disturbed."""
        index, clock, place = capped
        question = SHAPES["hybrid-batch"].question
        other = index.to_async()
        undisturbed, search = (
            open_async_session(other, question) if colour == "async" else Awaitable(open_session(index, question))
            for _ in range(2)
        )
        async with undisturbed:
            expected = [await undisturbed.fetch_next(size) for size in (3, 4)]
            while page := await undisturbed.fetch_next(DRAIN):
                expected.append(page)
        served = [await search.fetch_next(3)]
        clock.advance(EVICTABLE_AFTER + 1)
        _, newcomer = index.resumable_query(top_k=1, **question.parameters())
        assert 1 == place.engine.query_shares().evicted
        newcomer.stop()
        served.append(await search.fetch_next(4))
        while page := await search.fetch_next(DRAIN):
            served.append(page)
        assert expected == served
        assert (1, False) == (search.report.recovered, search.report.changed)
        await search.stop()
        await other.close()
        assert 0 == place.engine.open_queries()
