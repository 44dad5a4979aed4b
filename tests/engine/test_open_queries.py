"""Open resumable queries: what is fixed at the start, what later writes do, when they end, and who may share them."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.bodies import VectorQuery
from nextk.engine.open_queries import OpenQueries
from nextk.engine.open_query import OpenQuery, QueryStart
from nextk.engine.pages import LoadRows
from nextk.engine.ranking import LazyRanking
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, RefusedError, TooManyQueries
from tests.support.bare_engine import Rig
from tests.support.transports import Wire

Scored = list[tuple[str, float]]


class ManualClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def load(rows: Sequence[int], limit: int) -> dict[int, Match]:
    """The records of numbers."""
    return {row: Match(str(row)) for row in rows}


def start(queries: OpenQueries, load: LoadRows = load, *, numbers: int = 9, count: int = 1) -> tuple[str, list[Match]]:
    """Start a query over the numbers from 0, which may be idle for 10 seconds."""
    order = LazyRanking(np.arange(numbers), np.zeros(numbers, np.float32))
    return queries.start(QueryStart(lambda: (lambda: order, load), 10, count))


def ids(page: list[Match] | Scored) -> list[str]:
    """The ids of a page."""
    return [match.id if isinstance(match, Match) else match[0] for match in page]


def fill(rig: Rig, count: int = 6, group: str = "red") -> None:
    """Records "0", "1", ... that match the query `[1, 0]` ever less."""
    rig.upsert(
        *(
            {"id": str(number), "vector": [1.0, float(number)], "metadata": {"group": group}, "data": f"text {number}"}
            for number in range(count)
        )
    )


class TestIdle:
    """Queries that stay idle."""

    def test_expiry(self) -> None:
        """A query lives for `max_idle` seconds after its last touch, and is then unknown."""
        clock = ManualClock()
        with Rig(dimension=2, clock=clock) as rig:
            fill(rig)
            uuid, _ = rig.start(vector=[1.0, 0.0], topK=1, max_idle=10)
            for expected in ("1", "2"):
                clock.now += 10
                assert [expected] == ids(rig.fetch_next(uuid, 1))
            clock.now += 10.5
            for ask in (lambda: rig.fetch_next(uuid, 1), lambda: rig.engine.stop(uuid)):
                with pytest.raises(QueryNotFound, match=f"Resumable query with uuid {uuid} does not exist") as caught:
                    ask()
                assert 404 == caught.value.status

    def test_an_empty_page_is_a_touch(self) -> None:
        """Asking an exhausted query again keeps it alive; only looking whether it is there does not."""
        clock = ManualClock()
        with Rig(dimension=2, clock=clock) as rig:
            fill(rig, 1)
            uuid, _ = rig.start(vector=[1.0, 0.0], max_idle=10)
            for _ in range(3):
                clock.now += 9
                assert [] == rig.fetch_next(uuid, 1)
            for _ in range(2):
                clock.now += 5
                rig.engine.require_open(uuid)
            clock.now += 1
            with pytest.raises(QueryNotFound):
                rig.engine.require_open(uuid)

    def test_a_refused_page_is_no_touch(self) -> None:
        """A page that is refused neither moves a query nor keeps it alive."""
        clock = ManualClock()
        with Rig(dimension=2, clock=clock) as rig:
            fill(rig)
            uuid, _ = rig.start(vector=[1.0, 0.0], topK=1, max_idle=10)
            wire = Wire(rig.engine)
            clock.now += 9
            assert 422 == wire.error("resumable-query-next", {"uuid": uuid, "additionalK": 0})[0]
            clock.now += 1
            assert "1" == wire.result("resumable-query-next", {"uuid": uuid, "additionalK": 1})[0]["id"]
            clock.now += 9
            assert 422 == wire.error("resumable-query-next", {"uuid": uuid})[0]
            clock.now += 2
            assert 404 == wire.error("resumable-query-next", {"uuid": uuid, "additionalK": 1})[0]

    def test_sweep(self) -> None:
        """A sweep frees the expired ones, and only them."""
        clock = ManualClock()
        with Rig(dimension=2, clock=clock) as rig:
            fill(rig)
            rig.start(vector=[1.0, 0.0], max_idle=10)
            patient, _ = rig.start(vector=[1.0, 0.0], max_idle=20)
            clock.now += 11
            rig.engine.sweep()
            assert 1 == rig.engine.open_queries()
            rig.engine.stop(patient)

    @pytest.mark.parametrize("given", [None, 0, "absent"])
    def test_default(self, given: Any) -> None:
        """Without a number, or with 0, a query may idle for an hour."""
        clock = ManualClock()
        with Rig(dimension=2, clock=clock) as rig:
            fill(rig)
            wire = Wire(rig.engine)
            body = {"vector": [1, 0]} | ({} if given == "absent" else {"maxIdle": given})
            uuid = wire.result("resumable-query", body)["uuid"]
            clock.now += 3_600
            rig.engine.require_open(uuid)
            clock.now += 1
            with pytest.raises(QueryNotFound):
                rig.engine.require_open(uuid)

    @given(steps=st.lists(st.tuples(st.sampled_from(["start", "next", "wait"]), st.integers(1, 9)), max_size=40))
    def test_any_sequence(self, steps: list[tuple[str, int]]) -> None:
        """Whatever queries are open for however long, each expires when it has been idle for too long, and not before.

        A step starts a query that may be idle for some seconds, fetches from one of those that were started, or waits.
        """
        clock = ManualClock()
        queries = OpenQueries(100, clock)
        idle: dict[str, int] = {}
        touched: dict[str, float] = {}
        for step, number in steps:
            if step == "wait":
                clock.now += number
            elif step == "start":
                order = LazyRanking(np.arange(100), np.zeros(100, np.float32))
                name, _ = queries.start(QueryStart(lambda order=order: (lambda: order, load), number, 1))  # type: ignore[misc]
                idle[name], touched[name] = number, clock.now
            elif idle:
                name = list(idle)[number % len(idle)]
                with contextlib.suppress(QueryNotFound):
                    queries.fetch_next(name, 1)
                    assert clock.now - touched[name] <= idle[name]
                    touched[name] = clock.now
            alive = [name for name in idle if clock.now - touched[name] <= idle[name]]
            queries.sweep()
            assert len(alive) == len(queries)
            idle = {name: idle[name] for name in alive}

    def test_others_are_not_looked_at(self) -> None:
        """A page costs the same however many other queries are open, as long as none of them can have expired."""
        clock = ManualClock()
        queries = OpenQueries(100, clock)
        first, *_ = [start(queries)[0] for _ in range(20)]
        clock.now += 5
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenQuery, "expired", lambda *_: pytest.fail("a query was looked at"))
            assert ["1"] == ids(queries.fetch_next(first, 1))
        clock.now += 6
        assert ["2"] == ids(queries.fetch_next(first, 1))
        assert 1 == len(queries)

    def test_a_page_being_read_does_not_expire(self) -> None:
        """A query does not expire while a page is read, however long that takes."""
        clock = ManualClock()
        cursors = OpenQueries(5, clock)

        def slow(rows: Sequence[int], limit: int) -> dict[int, Match]:
            clock.now += 100
            cursors.sweep()
            return load(rows, limit)

        uuid, page = start(cursors, slow, count=2)
        assert (["0", "1"], ["2"]) == (ids(page), ids(cursors.fetch_next(uuid, 1)))


class TestCap:
    """The limit on the number of open queries."""

    def test_cap(self) -> None:
        """Beyond its share a start is refused in the documented words; a stop makes room again."""
        with Rig(dimension=2, max_open_queries=4) as rig:
            fill(rig)
            first, _ = rig.start(vector=[1.0, 0.0])
            second, _ = rig.start(vector=[1.0, 0.0])
            with pytest.raises(TooManyQueries) as caught:
                rig.start(vector=[1.0, 0.0])
            words = "Exceeded max active resumable query limit: 2 in one namespace, half of 4"
            assert (words, 403) == (str(caught.value), caught.value.status)
            rig.engine.stop(first)
            third, page = rig.start(vector=[1.0, 0.0], topK=1)
            assert ["0"] == ids(page)
            rig.engine.stop(second)
            rig.engine.stop(third)

    def test_expired_queries_make_room(self) -> None:
        """At the cap, expired queries are dropped first."""
        clock = ManualClock()
        with Rig(dimension=2, max_open_queries=1, clock=clock) as rig:
            fill(rig)
            rig.start(vector=[1.0, 0.0], max_idle=10)
            clock.now += 11
            uuid, _ = rig.start(vector=[1.0, 0.0])
            rig.engine.stop(uuid)

    def test_nothing_opened_nothing_counted(self) -> None:
        """A missing namespace, a refused start and a plain query do not count against the cap."""
        with Rig(dimension=2, max_open_queries=1) as rig:
            fill(rig)
            for bad in ({"vector": [1.0]}, {"vector": [1.0, 0.0], "filter": "="}):
                with pytest.raises(RefusedError):
                    rig.start(**bad)
            assert ("", []) == rig.start(vector=[1.0, 0.0], namespace="nowhere")
            uuid, _ = rig.start(vector=[1.0, 0.0])
            assert 6 == len(rig.query(vector=[1.0, 0.0]))
            rig.engine.stop(uuid)

    def test_a_missing_namespace_needs_no_room(self) -> None:
        """At the cap a start in a missing namespace is still no error: it opens nothing (protocol §4.5)."""
        with Rig(dimension=2, max_open_queries=1) as rig:
            fill(rig)
            uuid, _ = rig.start(vector=[1.0, 0.0])
            try:
                assert ("", []) == rig.start(vector=[1.0, 0.0], namespace="nowhere")
            finally:
                rig.engine.stop(uuid)

    def test_cap_over_namespaces(self) -> None:
        """The cap is the index's, whatever the namespace."""
        with Rig(dimension=2, max_open_queries=1) as rig:
            fill(rig)
            rig.upsert({"id": "a", "vector": [1.0, 0.0]}, namespace="x")
            uuid, _ = rig.start(vector=[1.0, 0.0], namespace="x")
            with pytest.raises(TooManyQueries):
                rig.start(vector=[1.0, 0.0])
            rig.engine.stop(uuid)

    def test_a_failed_first_page_leaves_nothing(self) -> None:
        """If the first page cannot be read, no query stays open whose uuid nobody knows."""
        cursors = OpenQueries(1, ManualClock())

        def broken(rows: Sequence[int], limit: int) -> dict[int, Match]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            start(cursors, broken)
        assert 0 == len(cursors)

    def test_a_failed_page_ends_its_query(self) -> None:
        """A page that fails has taken rows from the order, so its query ends: going on would skip these rows."""
        cursors, pages = OpenQueries(1, ManualClock()), iter([True, False])

        def once(rows: Sequence[int], limit: int) -> dict[int, Match]:
            if next(pages):
                return load(rows, limit)
            raise ZeroDivisionError

        uuid, _ = start(cursors, once)
        with pytest.raises(ZeroDivisionError):
            cursors.fetch_next(uuid, 1)
        with pytest.raises(QueryNotFound):
            cursors.fetch_next(uuid, 1)


class TestSharing:
    """Several callers at the same time, on one query or on several."""

    def test_disjoint_pages(self) -> None:
        """Threads that ask for pages of one query get disjoint ones, and nothing is skipped."""
        with Rig(dimension=2) as rig:
            fill(rig, 500)
            uuid, first = rig.start(vector=[1.0, 0.0], topK=1)
            with ThreadPoolExecutor(8) as pool:
                pages = list(pool.map(lambda size: ids(rig.fetch_next(uuid, size)), [1, 2, 3, 4] * 40))
            rest = rig.fetch_next(uuid, 1000)
            rig.engine.stop(uuid)
            served = [[int(id_) for id_ in page] for page in [ids(first), *pages, ids(rest)]]
            assert list(range(500)) == sorted(number for page in served for number in page)
            assert all(page == list(range(page[0], page[-1] + 1)) for page in served if page)

    def test_stop_waits_for_the_running_page(self) -> None:
        """A stop waits until the running page is complete; calls that waited behind it learn that the query ended."""
        cursors, reading, go_on = OpenQueries(5, ManualClock()), threading.Event(), threading.Event()
        uuid = ""

        def gated(rows: Sequence[int], limit: int) -> dict[int, Match]:
            if uuid:
                reading.set()
                assert go_on.wait(10)
            return load(rows, limit)

        uuid, _ = start(cursors, gated)
        with ThreadPoolExecutor(3) as pool:
            page = pool.submit(cursors.fetch_next, uuid, 2)
            assert reading.wait(10)
            stopped = pool.submit(cursors.stop, uuid)
            assert 1 == len(cursors)
            assert not stopped.done()
            go_on.set()
            assert ["1", "2"] == ids(page.result(10))
            assert stopped.result(10) is None
        assert 0 == len(cursors)
        with pytest.raises(QueryNotFound):
            cursors.fetch_next(uuid, 1)

    def test_queries_do_not_wait_for_each_other(self) -> None:
        """While one query reads a page, others start, go on and stop."""
        cursors, reading, go_on = OpenQueries(5, ManualClock()), threading.Event(), threading.Event()

        def gated(rows: Sequence[int], limit: int) -> dict[int, Match]:
            reading.set()
            assert go_on.wait(10)
            return load(rows, limit)

        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(start, cursors, gated)
            assert reading.wait(10)
            uuid, page = start(cursors)
            assert (["0"], ["1"]) == (ids(page), ids(cursors.fetch_next(uuid, 1)))
            cursors.stop(uuid)
            cursors.sweep()
            go_on.set()
            assert ["0"] == ids(slow.result(10)[1])

    def test_searches_while_writing(self) -> None:
        """Pages, starts and writes from many threads never fail, and no page shows an id twice."""
        with Rig(dimension=2) as rig:
            fill(rig, 100)

            def search(_: int) -> list[str]:
                uuid, page = rig.start(vector=[1.0, 0.0], topK=7)
                served = ids(page)
                while page:
                    page = rig.fetch_next(uuid, 7)
                    served += ids(page)
                rig.engine.stop(uuid)
                return served

            def write(turn: int) -> list[str]:
                rig.upsert(*({"id": f"new {turn} {one}", "vector": [1.0, 0.5]} for one in range(5)))
                rig.delete(ids=[f"new {turn} 0", str(50 + turn)])
                rig.update(id=str(turn), metadata={"turn": turn})
                return []

            with ThreadPoolExecutor(6) as pool:
                jobs = [pool.submit(write if turn % 2 else search, turn) for turn in range(40)]
                for served in [job.result() for job in jobs]:
                    assert len(served) == len(set(served))
                    assert not served or set(map(str, range(50))) <= set(served)


class TestWrites:
    """The effects of writes on an open query (Q6, Q7)."""

    @pytest.fixture(params=["dense", "sparse", "global RRF", "global DBSF", "batch RRF", "batch DBSF"])
    def searched(self, request: pytest.FixtureRequest) -> Iterator[tuple[Rig, Callable[..., tuple[str, Scored]]]]:
        """An index of six records "0" to "5" of every kind, and how to start a query that serves them in this order."""
        kind, _, algorithm = request.param.partition(" ")
        type_ = kind if kind in ("dense", "sparse") else "hybrid"
        keywords: dict[str, Any] = {} if type_ == "sparse" else {"dimension": 2}
        if algorithm:
            keywords["fusion_order"] = kind
        with Rig(type_, **keywords) as rig:
            rig.upsert(*(self.record(type_, number) for number in range(6)))
            parts: dict[str, Any] = {"vector": [1.0, 0.0], "sparseVector": {"indices": [1], "values": [1.0]}}
            if type_ != "hybrid":
                del parts["sparseVector" if type_ == "dense" else "vector"]

            def start(**more: Any) -> tuple[str, Scored]:
                return rig.start(**parts, **({"fusionAlgorithm": algorithm} if algorithm else {}), **more)

            yield rig, start

    @staticmethod
    def record(type_: str, number: float, id_: str | None = None, **fields: Any) -> dict[str, Any]:
        """A record whose number says how little it matches."""
        parts = {"vector": [1.0, number], "sparseVector": {"indices": [1], "values": [9.0 - number]}}
        if type_ != "hybrid":
            del parts["sparseVector" if type_ == "dense" else "vector"]
        return {"id": id_ or str(number), "metadata": {"group": "red"}, **parts, **fields}

    def test_deleted_records_are_hidden(self, searched: tuple[Rig, Callable[..., tuple[str, Scored]]]) -> None:
        """A record that is deleted before its turn is left out, and the page is filled with those behind it."""
        rig, start = searched
        uuid, page = start(topK=1)
        assert 2 == rig.delete(ids=["1", "3"])
        assert (["0"], ["2", "4"], ["5"]) == (
            ids(page),
            ids(rig.fetch_next(uuid, 2)),
            ids(rig.fetch_next(uuid, 2)),
        )
        rig.engine.stop(uuid)

    def test_revoked_records_are_hidden(self, searched: tuple[Rig, Callable[..., tuple[str, Scored]]]) -> None:
        """A record whose metadata stopped passing the filter before its turn is left out: no page shows it."""
        rig, start = searched
        uuid, page = start(topK=1, filter="group = 'red'")
        rig.update(id="1", metadata={"group": "secret"})
        rig.update(id="4", metadata={})
        assert (["0"], ["2", "3"], ["5"]) == (
            ids(page),
            ids(rig.fetch_next(uuid, 2)),
            ids(rig.fetch_next(uuid, 2)),
        )
        rig.engine.stop(uuid)

    def test_new_records_do_not_enter(self, searched: tuple[Rig, Callable[..., tuple[str, Scored]]]) -> None:
        """Records that are added, or begin to pass the filter, after the start are not served."""
        rig, start = searched
        type_ = str(rig.engine.schema.type).lower()
        rig.update(id="2", metadata={"group": "secret"})
        uuid, page = start(topK=1, filter="group = 'red'")
        rig.upsert(self.record(type_, 0.5, "new"))
        rig.update(id="2", metadata={"group": "red"})
        assert (["0"], ["1", "3", "4", "5"]) == (ids(page), ids(rig.fetch_next(uuid, 9)))
        rig.engine.stop(uuid)

    def test_a_record_made_anew_does_not_enter(self, searched: tuple[Rig, Callable[..., tuple[str, Scored]]]) -> None:
        """A record that was deleted and stored again is a new one."""
        rig, start = searched
        type_ = str(rig.engine.schema.type).lower()
        uuid, _ = start(topK=1)
        rig.delete(ids=["0", "2"])
        rig.upsert(self.record(type_, 0, "0"), self.record(type_, 2, "2"))
        assert ["1", "3", "4", "5"] == ids(rig.fetch_next(uuid, 9))
        rig.engine.stop(uuid)

    def test_rescored_records_keep_their_place(self, searched: tuple[Rig, Callable[..., tuple[str, Scored]]]) -> None:
        """Ranking, scores and IDF statistics are those of the start, whatever is upserted later."""
        rig, start = searched
        type_ = str(rig.engine.schema.type).lower()
        before, first = start(topK=1, weightingStrategy="IDF")
        undisturbed = [*first, *rig.fetch_next(before, 2), *rig.fetch_next(before, 9)]
        rig.engine.stop(before)
        uuid, page = start(topK=1, weightingStrategy="IDF")
        rig.upsert(self.record(type_, 5, "1"), self.record(type_, 0, "5"))
        rig.upsert(*(self.record(type_, 0.1, f"new {number}") for number in range(20)))
        assert undisturbed == [*page, *rig.fetch_next(uuid, 2), *rig.fetch_next(uuid, 9)]
        rig.engine.stop(uuid)

    def test_fields_are_those_of_the_moment(self) -> None:
        """Metadata, data and vectors are read when a record is served."""
        with Rig(dimension=2) as rig:
            fill(rig)
            flags = {"includeVectors": True, "includeMetadata": True, "includeData": True}
            query = VectorQuery.model_validate({"vector": [1.0, 0.0], "topK": 1, **flags})
            uuid, _ = rig.engine.start("", query, 60)
            rig.upsert({"id": "1", "vector": [7.0, 7.0], "metadata": {"now": True}, "data": "new"})
            [match] = rig.engine.fetch_next(uuid, 1)
            assert ("1", '{"now":true}', "new") == (match.id, match.metadata, match.data)
            assert match.vector is not None
            assert [7.0, 7.0] == match.vector.tolist()
            rig.engine.stop(uuid)

    def test_a_renamed_namespace_is_followed(self) -> None:
        """A query goes on when its namespace gets another name."""
        with Rig(dimension=1) as rig:
            rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abc"), namespace="x")
            uuid, _ = rig.start(vector=[1.0], topK=1, namespace="x")
            assert rig.engine.rename_namespace("x", "y", replace=False)
            rig.upsert({"id": "b", "vector": [1.0]}, namespace="x")
            assert ["b", "c"] == ids(rig.fetch_next(uuid, 9))
            rig.engine.stop(uuid)

    @pytest.mark.parametrize("way", ["reset", "reset all", "delete", "replace"])
    def test_an_emptied_namespace_has_no_more_pages(self, way: str) -> None:
        """After a reset or the end of its namespace a query has empty pages, and is stopped as usual."""
        with Rig(dimension=1) as rig:
            for namespace in ("x", "y"):
                rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abc"), namespace=namespace)
            uuid, _ = rig.start(vector=[1.0], topK=1, namespace="x")
            if way == "delete":
                rig.engine.delete_namespace("x")
            elif way == "replace":
                rig.engine.rename_namespace("y", "x", replace=True)
            else:
                rig.engine.reset(None if way == "reset all" else "x")
            rig.upsert(*({"id": id_, "vector": [1.0]} for id_ in "abc"), namespace="x")
            assert [[], []] == [rig.fetch_next(uuid, 9), rig.fetch_next(uuid, 9)]
            rig.engine.stop(uuid)

    def test_many_hidden_records(self) -> None:
        """A page is filled however many hidden records stand before its own."""
        with Rig(dimension=2) as rig:
            fill(rig, 900)
            rig.upsert(*({"id": f"far {number}", "vector": [-1.0, number]} for number in range(3)))
            uuid, _ = rig.start(vector=[1.0, 0.0], topK=1)
            assert 899 == rig.delete(ids=[str(number) for number in range(1, 900)])
            assert 2 == len(rig.fetch_next(uuid, 2))
            assert 1 == len(rig.fetch_next(uuid, 2))
            rig.engine.stop(uuid)
