"""Sessions over an index whose large searches have a pool: every row comes once, whatever happens, in sorted pages."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nextk import Index, Vector
from nextk.engine.engine import EmbeddedEngine
from nextk.engine.factory import open_engine
from nextk.engine.pool import ranking, threshold
from nextk.engine.pool.ranking import PoolRanking
from nextk.engine.ranking import Ranked
from nextk.errors import ClientError
from nextk.sessions import RetrievalSession, RowReader
from nextk.sessions.query import SearchQuery
from nextk.sessions.replay import ranks_exactly
from nextk.testing import Fault, FaultPlan, ManualClock, PlannedFault, RequestKind, faulty
from nextk.testing.server import FaultyServer
from nextk.transport.in_process import InProcessTransport, SharedEngine
from tests.support.list_source import ListSource
from tests.support.pools import small_pools
from tests.support.searches import COLOURS, drained, open_session, search_of

pytest.importorskip("faiss")

ROWS, SIZES = 600, (5, 3, 20, 7, 40)
VECTORS = np.random.default_rng(0).normal(size=(ROWS, 16)).astype(np.float32)
QUESTION = SearchQuery(vector=VECTORS[0].tolist())
EXACT = replace(QUESTION, exact=True)
NEAREST = [str(row) for row in np.argsort(-(VECTORS @ VECTORS[0]) / np.linalg.norm(VECTORS, axis=1), kind="stable")]
RECORDS = [Vector(str(row), VECTORS[row].tolist()) for row in range(ROWS)]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedEngine]:
    """An engine whose searches have pools of so few candidates, without the rule of their tail, that many come late."""
    monkeypatch.setattr(ranking, "_TAIL", 1.0)
    with small_pools():
        engine = open_engine(None, {"type": "dense", "pool_from": 100, "dimension": 16}, clock=ManualClock())
        assert isinstance(engine, EmbeddedEngine)
        with client(engine) as index:
            index.upsert(RECORDS)
            index.query(vector=QUESTION.vector)
            engine._pools.wait()
            yield engine
            assert 0 == engine.open_queries()


def client(engine: EmbeddedEngine) -> Index:
    """A client of an engine."""
    hold = SharedEngine(None, engine)
    return Index._over(InProcessTransport(hold, lambda: hold))


def test_it_has_a_pool(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The searches below are by pools."""
    taken, take = list[int](), PoolRanking.take

    def counted(order: PoolRanking, count: int) -> Ranked:
        taken.append(count)
        return take(order, count)

    monkeypatch.setattr(PoolRanking, "take", counted)
    client(engine).query(vector=QUESTION.vector)
    assert [10] == taken


@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "not numbered"])
@pytest.mark.parametrize("nth", [2, 4, 7])
@pytest.mark.parametrize("fault", [Fault.EXPIRE, Fault.DROP_REPLY])
def test_recovery(engine: EmbeddedEngine, fault: Fault, nth: int, numbered: bool) -> None:
    """After a fault every row still comes once, and no row is said to have changed because it came late."""
    plan = FaultPlan(PlannedFault(fault, RequestKind.NEXT, nth), delay=0)
    index = faulty(client(engine), plan, numbered_pages=numbered)
    found = list[str]()
    with open_session(index, QUESTION, max_recovery=None) as search:
        for size in (*SIZES, *[60] * 20):
            found += search.fetch_next(size)
    assert sorted(map(str, range(ROWS))) == sorted(found)
    assert len(plan.injected) == 1
    assert (False, bool(search.report.recovered)) == (search.report.changed, search.report.reordered)


def test_cursor(engine: EmbeddedEngine) -> None:
    """A search that goes on with a cursor brings the rows that are left, once."""
    index, found = client(engine), list[str]()
    with open_session(index, QUESTION) as search:
        for size in SIZES:
            found += search.fetch_next(size)
        cursor = search.cursor()
    with open_session(index, QUESTION, cursor=cursor) as search:
        for _ in range(20):
            found += search.fetch_next(60)
    assert sorted(map(str, range(ROWS))) == sorted(found)


class TestExact:
    """A session that wants exact order is one over an exact index, whatever the index does for others."""

    @pytest.mark.parametrize("nth", [2, 4, 7])
    @pytest.mark.parametrize("colour", COLOURS)
    async def test_recovery(self, engine: EmbeddedEngine, nth: int, colour: str) -> None:
        """A query that is lost is started again by one request, and the order stays that of an undisturbed search."""
        plan = FaultPlan(PlannedFault(Fault.EXPIRE, RequestKind.NEXT, nth), delay=0)
        found, search = list[str](), search_of(faulty(client(engine), plan), EXACT, colour, max_recovery=None)
        async with search:
            for size in (*SIZES, *[60] * 20):
                found += await search.fetch_next(size)
        report = search.report
        assert NEAREST == found
        assert (1, 1, False, False) == (report.recovered, report.recovery.merged, report.changed, report.reordered)

    def test_changed_data(self, engine: EmbeddedEngine) -> None:
        """A recovery that finds another order says that data has changed, since only a write changes an exact order."""
        plan = FaultPlan(PlannedFault(Fault.EXPIRE, RequestKind.NEXT, 2), delay=0)
        index, more = faulty(client(engine), plan), [Vector("new", VECTORS[0].tolist())]
        with open_session(index, EXACT) as search:
            found = search.fetch_next(5) + search.fetch_next(3)
            index.upsert(more)
            found += search.fetch_next(5)
        assert ("new" in found, True, False) == (True, search.report.changed, search.report.reordered)
        index.delete("new")

    def test_cursor(self, engine: EmbeddedEngine) -> None:
        """A search that goes on with a cursor goes on in the exact order."""
        index, found = client(engine), list[str]()
        with open_session(index, EXACT) as search:
            for size in SIZES:
                found += search.fetch_next(size)
            cursor = search.cursor()
        with open_session(index, EXACT, cursor=cursor) as search:
            while page := search.fetch_next(60):
                found += page
        assert NEAREST == found

    @pytest.mark.parametrize("exact", [True, False])
    def test_cursors_of_the_other_kind(self, engine: EmbeddedEngine, exact: bool) -> None:
        """A cursor of a search that wants exact order is refused by one that does not, and the other way round."""
        index = client(engine)
        with open_session(index, EXACT if exact else QUESTION) as search:
            search.fetch_next(3)
            cursor = search.cursor()
        with pytest.raises(ClientError, match="with another value of exact"):
            open_session(index, QUESTION if exact else EXACT, cursor=cursor)

    def test_widening(self, engine: EmbeddedEngine) -> None:
        """A search that is widened still wants exact order."""
        with open_session(client(engine), replace(EXACT, filter="none = 1")) as search:
            assert [] == search.fetch_next(3)
            search.widen(filter="")
            found = search.fetch_next(40) + search.fetch_next(40)
        assert NEAREST[:80] == found

    @pytest.mark.parametrize("colour", COLOURS)
    async def test_a_server_without_it(self, engine: EmbeddedEngine, colour: str) -> None:
        """A session over a server that has no exact search says so at its first page."""
        index = faulty(client(engine), FaultPlan(), numbered_pages=False)
        async with search_of(index, EXACT, colour) as search:
            with pytest.raises(ClientError, match="no exact search"):
                await search.fetch_next(3)

    @pytest.mark.parametrize("fault", [Fault.DROP_REPLY, Fault.DROP_REQUEST, Fault.ERROR_PAGE])
    @pytest.mark.parametrize("colour", COLOURS)
    async def test_a_lost_question(self, fault: Fault, colour: str) -> None:
        """A session whose question whether the server has exact search is lost asks again, and then searches."""
        plan = FaultPlan(*(PlannedFault(fault, RequestKind.OTHER, nth) for nth in (2, 3)), delay=0)
        with FaultyServer(plan, type="dense", dimension=16) as server:
            with Index(server.url, server.token, retries=0) as index:
                index.upsert(RECORDS[:40])
            index = Index(server.url, server.token, retries=0)
            async with index.to_async():  # which closes the connections of both colours
                found = await drained(search_of(index, EXACT, colour))
            assert 0 == server.engine.open_queries()
        assert (40, 2) == (len(set(found)), len(plan.injected))

    def test_sources(self) -> None:
        """A session over a source that cannot promise exact order is refused when it is made."""
        with pytest.raises(ClientError, match="exact=True is for an index"):
            RetrievalSession(ListSource([]), EXACT, RowReader(lambda row: row.id))


class TestOption:
    """The option by which an index gets its pools."""

    @pytest.mark.parametrize(
        ("keywords", "approximate"),
        [({}, True), ({"exact": True}, False), ({"pool_from": 11}, False), ({"pool_from": 10}, True)],
        ids=["size", "exact", "more", "as many"],
    )
    @pytest.mark.parametrize("over_http", [False, True], ids=["in process", "http"])
    def test_info(
        self, keywords: dict[str, Any], approximate: bool, over_http: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An index says that it is approximate once a namespace has as many records as pay, or as the option says."""
        monkeypatch.setattr(threshold, "POOLED_BYTES", 10 * 16 * 4)
        keywords = {"type": "dense", "dimension": 16, **keywords}
        if not over_http:
            with Index.embedded(**keywords) as index:
                self.require(index, approximate=approximate)
            return
        with FaultyServer(FaultPlan(), **keywords) as server, Index(server.url, server.token) as index:
            self.require(index, approximate=approximate)

    def require(self, index: Index, *, approximate: bool) -> None:
        """Require that an index of ten records says whether it is approximate, and that one of nine never is."""
        index.upsert(RECORDS[:9])
        assert not index.info().approximate
        index.upsert(RECORDS[9:10])
        info = index.info()
        assert (approximate, not approximate) == (info.approximate, ranks_exactly(info))

    def test_hybrid(self) -> None:
        """Only dense vectors have pools, so an index without them is exact."""
        with Index.embedded(type="sparse", pool_from=1) as index:
            index.upsert([("a", ([1], [1.0]))])
            assert not index.info().approximate

    @pytest.mark.parametrize("value", [0, -1, 1.5, "many", True])
    def test_wrong_values(self, value: object) -> None:
        """A number that is none is refused."""
        with pytest.raises(ClientError, match="pool_from"):
            Index.embedded(type="dense", pool_from=value)  # type: ignore[arg-type]

    def test_both(self) -> None:
        """A number is refused beside the wish for exact order."""
        with pytest.raises(ClientError, match="exact=True has no pools, and pool_from=7 asks for them"):
            Index.embedded(type="dense", pool_from=7, exact=True)

    @pytest.mark.parametrize(
        ("first", "others", "held"),
        [
            ({"pool_from": 7}, [{"pool_from": 8}, {"exact": True}], "pool_from=7"),
            ({"exact": True}, [{"pool_from": 7}], "exact=True"),
            ({}, [{"pool_from": 7}, {"exact": True}], "neither pool_from= nor exact="),
        ],
        ids=["a number", "exact", "neither"],
    )
    def test_a_second_client(
        self, tmp_path: object, first: dict[str, Any], others: list[dict[str, Any]], held: str
    ) -> None:
        """A second client of an index that is open leaves the options out, or gives the same ones."""
        path = f"{tmp_path}/index"
        with Index.embedded(path, type="dense", **first):
            Index.embedded(path).close()
            Index.embedded(path, **first).close()
            for other in others:
                with pytest.raises(ClientError, match=f"with {held}: close its other clients"):
                    Index.embedded(path, **other)
        with Index.embedded(path, **others[0]):
            pass
