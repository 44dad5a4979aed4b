"""Filters that SQLite evaluates, and other long work: given up in time, without the lock, and without half a write."""

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from nextk.dispatch import dispatch
from nextk.engine import interruption, parts, passing, searching
from nextk.engine.abandonment import abandonable
from nextk.engine.filter.store import FieldBudget
from nextk.engine.filter.timer import FilterTimeout, FilterTimer
from nextk.engine.interruption import interruptible
from nextk.errors import RefusedError
from tests.support.bare_engine import Rig

_COUNT = (
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {0}) SELECT max(n) FROM numbers"
)
ENDLESS, LONG = _COUNT.format(-1), _COUNT.format(100_000)
FILTERED: dict[str, Any] = {"vector": [1.0, 0.0], "topK": 100, "filter": "n >= 3"}


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """An index of ten records whose fields are too large for memory, so that SQLite evaluates filters in two parts."""
    monkeypatch.setattr(passing, "_ROWS_AT_ONCE", 5)
    with Rig(dimension=2) as rig:
        rig.upsert(*({"id": str(number), "vector": [1.0, number], "metadata": {"n": number}} for number in range(10)))
        rig.engine._field_budget = FieldBudget(0)
        assert 7 == len(rig.query(**FILTERED))
        yield rig


def test_an_endless_statement_is_interrupted() -> None:
    """A statement ends with the error of the check, and the connection is as it was before."""
    calls: list[int] = []

    def check() -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            raise FilterTimeout("enough", 503)

    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(FilterTimeout, match="enough"), interruptible(connection, check):
            connection.execute(ENDLESS)
        assert (100_000,) == connection.execute(LONG).fetchone()
        with pytest.raises(sqlite3.OperationalError, match="syntax"), interruptible(connection, check):
            connection.execute("no SQL")
    assert 3 == len(calls)


@pytest.mark.parametrize("where", ["between two parts", "within a part"])
def test_the_deadline(rig: Rig, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A filter that SQLite evaluates is given up at its deadline, and the next search finds what it should."""
    if where == "within a part":
        monkeypatch.setattr(interruption, "_STEPS", 1)
    monkeypatch.setattr(parts, "_HELD", 0.0)
    with monkeypatch.context() as patch:
        clock = itertools.chain([0.0], itertools.repeat(11.0)).__next__
        patch.setattr(searching, "FilterTimer", lambda seconds: FilterTimer(seconds, clock=clock))
        # Nothing of it is kept, so there is no use in sending it again.
        with pytest.raises(FilterTimeout, match=r"longer than 10 seconds, and the search was given up\. Use a simpler"):
            rig.query(**FILTERED)
    assert 7 == len(rig.query(**FILTERED))


def test_a_next_does_not_wait_for_a_filter(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a filter is being evaluated, an open query goes on, and records are written."""
    begun, go_on = threading.Event(), threading.Event()

    def check(_timer: FilterTimer) -> None:
        begun.set()
        assert go_on.wait(60)

    uuid, _ = rig.start(vector=[1.0, 0.0], topK=1)
    monkeypatch.setattr(parts, "_HELD", 0.0)
    monkeypatch.setattr(FilterTimer, "check", check)
    with ThreadPoolExecutor(1) as threads:
        search = threads.submit(rig.query, **FILTERED)
        try:
            assert begun.wait(60)
            assert ["1"] == [id_ for id_, _ in rig.fetch_next(uuid, 1)]
            rig.upsert({"id": "new", "vector": [1.0, 0.0], "metadata": {"n": 20}})
            rig.upsert({"id": "9", "vector": [1.0, 9.0], "metadata": {"n": 0}})
        finally:
            go_on.set()
        assert {"3", "4", "5", "6", "7", "8"} == {id_ for id_, _ in search.result()}
    rig.engine.stop(uuid)


ABANDONED: dict[str, tuple[str, Any]] = {
    "query": ("query", {"vector": [1, 0]}),
    "batch": ("query", [{"vector": [1, 0]}] * 3),
    "filtered query": ("query", FILTERED),
    "start": ("resumable-query", {"vector": [1, 0]}),
    "upsert": ("upsert", [{"id": str(number), "vector": [0, 1]} for number in range(1_000)]),
    "update": ("update", {"id": "1", "vector": [0, 1]}),
    "delete": ("delete", {"filter": "n < 5"}),
}


@pytest.mark.parametrize("within", [False, True], ids=["between two parts", "within a part"])
@pytest.mark.parametrize("what", ABANDONED)
def test_what_nobody_waits_for(rig: Rig, monkeypatch: pytest.MonkeyPatch, what: str, *, within: bool) -> None:
    """A call whose client has left ends with the status 503, opens nothing, and writes all or nothing: here nothing."""
    if within:
        monkeypatch.setattr(interruption, "_STEPS", 1)
    before = dispatch(rig.engine, "range", {"cursor": "", "limit": 1_000, "includeVectors": True})
    command, body = ABANDONED[what]
    with pytest.raises(RefusedError) as caught:
        abandonable(lambda: True, lambda: dispatch(rig.engine, command, body))
    assert 503 == caught.value.status
    after = dispatch(rig.engine, "range", {"cursor": "", "limit": 1_000, "includeVectors": True})
    assert [match.vector.tolist() for match in before["vectors"]] == [m.vector.tolist() for m in after["vectors"]]
    assert 0 == rig.engine.open_queries()
