"""Starts with a uuid that the client has made may be repeated."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from nextk.bodies import TextQuery, VectorQuery
from nextk.engine import search
from nextk.engine.open_queries import OpenQueries
from nextk.engine.open_query import QueryStart
from nextk.engine.pages import LoadRows
from nextk.engine.ranking import LazyRanking
from nextk.engine.values import Match
from nextk.errors import QueryNotFound, TooManyQueries
from tests.support.numbered_search import KINDS, NAME, Searched, ids, refusal


@pytest.fixture(params=KINDS)
def searched(request: pytest.FixtureRequest) -> Iterator[Searched]:
    """An index of each kind; afterwards the query `NAME` is stopped, and no other one may be open."""
    searched = Searched(request.param)
    with searched.rig:
        yield searched
        searched.rig.engine.stop(NAME)


def load(rows: Sequence[int], limit: int) -> dict[int, Match]:
    """The records of numbers."""
    return {row: Match(str(row)) for row in rows}


class TestRepeatedStarts:
    """A start whose uuid the client has made."""

    def test_repeated(self, searched: Searched) -> None:
        """A repeated start finds its query and its first page, opens nothing, and needs no room."""
        opened = searched.start(3)
        assert (NAME, ["0", "1", "2"]) == (opened[0], ids(opened[1]))
        searched.rig.upsert(searched.record(0.5, "new"))
        assert [opened] * 2 == [searched.start(3), searched.start(3)]
        assert 1 == searched.rig.engine.open_queries()
        assert ["3", "4"] == searched.page(2)

    def test_no_room_is_needed(self) -> None:
        """At the cap a start may be repeated; another one is refused, and is no search that could be repeated."""
        searched = Searched("dense", max_open_queries=1)
        with searched.rig as rig:
            opened = searched.start()
            assert opened == searched.start()
            other = NAME.replace("0", "f")
            with pytest.raises(TooManyQueries):
                searched.start(name=other)
            rig.engine.stop(NAME)
            assert (other, opened[1]) == searched.start(name=other)
            rig.engine.stop(other)

    @pytest.mark.parametrize(
        "more",
        [
            {"topK": 3},
            {"vector": [1.0, 0.5]},
            {"vector": None, "sparseVector": None},
            {"sparseVector": {"indices": [1], "values": [2.0]}},
            {"sparseVector": {"indices": [2], "values": [1.0]}},
            {"filter": ""},
            {"filter": "group = 'green'"},
            {"includeMetadata": True},
            {"weightingStrategy": "IDF"},
            {"fusionAlgorithm": "DBSF"},
            {"queryMode": "DENSE"},
            {"namespace": "x"},
        ],
        ids=lambda more: " ".join(f"{key} {value}" for key, value in more.items()),
    )
    def test_another_search(self, more: dict[str, Any]) -> None:
        """A start with the uuid of another search is refused, whatever is different."""
        searched = Searched("global RRF")
        with searched.rig as rig:
            rig.upsert(searched.record(0), namespace="x")
            searched.start()
            text = f"Resumable query with uuid {NAME} is another search: choose a new uuid for this one"
            assert (409, text) == refusal(searched.start, **more)
            assert ["2", "3"] == searched.page(2)
            rig.engine.stop(NAME)

    def test_another_text(self) -> None:
        """Searches by different texts, or by a text and by a vector, are different ones."""
        queries = [TextQuery.model_validate({"data": text}) for text in ("a", "b", "a\ud800")]
        digests = {search.digest("", query) for query in (*queries, VectorQuery.model_validate({"vector": [1.0]}))}
        assert [4, 16, 16, 16, 16] == [len(digests), *map(len, digests)]

    def test_a_uuid_of_the_engine(self) -> None:
        """A start with a uuid that the engine has chosen for a query is refused."""
        searched = Searched("dense")
        with searched.rig as rig:
            opened, _ = searched.start(name=None)
            assert 409 == refusal(searched.start, name=opened)[0]
            rig.engine.stop(opened)

    @pytest.mark.parametrize("number", [None, 2])
    def test_gone_on(self, searched: Searched, number: int | None) -> None:
        """The start of a query that has gone on cannot be repeated, and that changes nothing."""
        searched.start()
        searched.page(number)
        text = "has gone on to page 2: request that page by its number, or start the search with a new uuid"
        assert (409, f"Resumable query with uuid {NAME} {text}") == refusal(searched.start)
        assert [["2", "3"], ["4", "5"]] == [searched.page(2), searched.page(3)]

    def test_nothing_to_search(self) -> None:
        """In a missing namespace a start opens nothing, however often; when the namespace is there, it does."""
        searched = Searched("dense")
        with searched.rig as rig:
            assert [("", [])] * 2 == [searched.start(namespace="x") for _ in range(2)]
            assert 404 == refusal(searched.page, 2)[0]
            rig.upsert(searched.record(0), namespace="x")
            assert (NAME, ["0"]) == (NAME, ids(searched.start(namespace="x")[1]))
            rig.engine.stop(NAME)

    def test_a_refused_start(self) -> None:
        """A start that is refused leaves its uuid free."""
        searched = Searched("dense")
        with searched.rig as rig:
            assert 422 == refusal(searched.start, vector=[1.0])[0]
            assert 422 == refusal(searched.start, filter="=")[0]
            assert NAME == searched.start()[0]
            rig.engine.stop(NAME)

    def test_stopped(self, searched: Searched) -> None:
        """A start that comes after the stop of its uuid opens nothing."""
        other = NAME.replace("0", "f")
        text = f"Resumable query with uuid {other} does not exist"
        assert (404, text) == refusal(searched.rig.engine.stop, other)
        assert (404, text) == refusal(searched.start, name=other)
        searched.start()
        searched.rig.engine.stop(NAME)
        assert 404 == refusal(searched.start)[0]
        searched.rig.engine._open_queries._stopped.clear()
        searched.start()

    def test_stops_are_forgotten(self) -> None:
        """The last thousand stopped uuids are remembered, and no other text that a client stops."""
        searched = Searched("dense", 3)
        with searched.rig as rig:
            names = [f"{number:08x}{NAME[8:]}" for number in range(1_001)]
            for name in [*names, "x" * 1_000_000, ""]:
                assert 404 == refusal(rig.engine.stop, name)[0]
            assert names[1:] == list(rig.engine._open_queries._stopped)
            assert [404, 404] == [refusal(searched.start, name=name)[0] for name in (names[1], names[-1])]
            searched.start(name=names[0])
            rig.engine.stop(names[0])


class Gate:
    """A snapshot that is taken only when the test says so, and counts how often it is."""

    def __init__(self, *, missing: bool = False, fails: bool = False) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.count = 0
        self._missing, self._fails = missing, fails

    def __call__(self) -> tuple[Callable[[], LazyRanking], LoadRows] | None:
        """Wait, and then take the snapshot of nine numbers."""
        self.count += 1
        self.reached.set()
        assert self.go_on.wait(10)
        if self._fails and self.count == 1:
            raise ZeroDivisionError
        return None if self._missing else (lambda: LazyRanking(np.arange(9), np.zeros(9, np.float32)), load)

    def start(self) -> QueryStart:
        """A start with the uuid `NAME`."""
        return QueryStart(self, 10, 2, NAME)


class TestConcurrentStarts:
    """Starts with one uuid at the same time, and stops that overtake them."""

    def test_ranked_once(self) -> None:
        """Starts that are repeated while the first one is on its way wait for it, and search nothing."""
        queries, gate = OpenQueries(1, lambda: 0.0), Gate()
        with ThreadPoolExecutor(4) as pool:
            starts = [pool.submit(queries.start, gate.start()) for _ in range(4)]
            assert gate.reached.wait(10)
            assert not any(start.done() for start in starts)
            gate.go_on.set()
            found = [start.result(10) for start in starts]
        assert (1, 1) == (gate.count, len(queries))
        assert [(NAME, [Match("0", score), Match("1", score)]) for score in [np.float32(0)] * 4] == found

    def test_the_first_one_fails(self) -> None:
        """If the first start fails, one of those that wait for it searches, and the others find its query."""
        queries, gate = OpenQueries(1, lambda: 0.0), Gate(fails=True)
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(queries.start, gate.start())
            assert gate.reached.wait(10)
            others = [pool.submit(queries.start, gate.start()) for _ in range(2)]
            gate.go_on.set()
            with pytest.raises(ZeroDivisionError):
                first.result(10)
            assert [NAME, NAME] == [start.result(10)[0] for start in others]
        assert (2, 1) == (gate.count, len(queries))

    def test_there_is_nothing_to_search(self) -> None:
        """If there is nothing to search, every one of them says so."""
        queries, gate = OpenQueries(1, lambda: 0.0), Gate(missing=True)
        gate.go_on.set()
        with ThreadPoolExecutor(3) as pool:
            assert [("", [])] * 3 == list(pool.map(queries.start, [gate.start()] * 3))
        assert 0 == len(queries)

    @pytest.mark.parametrize("outcome", ["opens", "fails", "finds nothing"])
    def test_a_stop_while_it_starts(self, outcome: str) -> None:
        """A stop that overtakes its start waits for it; nothing stays open, and no repeat of it opens anything."""
        queries = OpenQueries(1, lambda: 0.0)
        gate = Gate(fails=outcome == "fails", missing=outcome == "finds nothing")
        with ThreadPoolExecutor(2) as pool:
            start = pool.submit(queries.start, gate.start())
            assert gate.reached.wait(10)
            stop = pool.submit(queries.stop, NAME)
            assert not stop.done()
            gate.go_on.set()
            assert (outcome == "fails") == isinstance(start.exception(10), ZeroDivisionError)
            assert (outcome != "opens") == isinstance(stop.exception(10), QueryNotFound)
        assert 0 == len(queries)
        with pytest.raises(QueryNotFound):
            queries.start(gate.start())

    def test_room_while_it_starts(self) -> None:
        """A query needs room as soon as it is known to open; until then the cap is not touched."""
        queries, gate = OpenQueries(1, lambda: 0.0), Gate()
        with ThreadPoolExecutor(1) as pool:
            start = pool.submit(queries.start, gate.start())
            assert gate.reached.wait(10)
            other, _ = queries.start(
                QueryStart(lambda: (lambda: LazyRanking(np.arange(2), np.zeros(2, np.float32)), load), 10, 1)
            )
            gate.go_on.set()
            with pytest.raises(TooManyQueries):
                start.result(10)
        queries.stop(other)
        assert 0 == len(queries)


class TestIdle:
    """Queries that stay idle although they are repeated."""

    def test_a_repeat_is_a_touch(self) -> None:
        """Repeats and failures of pages and starts keep a query alive, refusals of them do not."""
        now = [1_000.0]
        searched = Searched("dense", clock=lambda: now[0])
        with searched.rig as rig:
            searched.start(max_idle=10)
            for request in (
                searched.start,
                lambda: searched.page(1),
                lambda: searched.page(2),
                lambda: searched.page(2),
            ):
                now[0] += 10
                request()
            now[0] += 10
            searched.fails = True
            assert 500 == refusal(searched.page, 3)[0]
            searched.fails = False
            now[0] += 10
            searched.page(3)
            now[0] += 9
            assert [409, 409] == [refusal(searched.page, 1)[0], refusal(searched.start)[0]]
            now[0] += 2
            assert 404 == refusal(searched.page, 3)[0]
            assert 0 == rig.engine.open_queries()

    def test_an_expired_query_is_started_anew(self) -> None:
        """A start that is repeated after its query has expired opens the query again."""
        now = [1_000.0]
        searched = Searched("dense", clock=lambda: now[0])
        with searched.rig as rig:
            searched.start(max_idle=10)
            searched.page(2)
            now[0] += 11
            assert (NAME, ["0", "1"]) == (NAME, ids(searched.start(max_idle=10)[1]))
            assert 1 == rig.engine.open_queries()
            rig.engine.stop(NAME)
