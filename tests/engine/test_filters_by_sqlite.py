"""Filters that SQLite evaluates: what they evaluate, when they make room for others, and what counts as their time."""

import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from types import SimpleNamespace
from typing import Any

import pytest

from nextk.engine import parts, passing, searching
from nextk.engine.filter import glob
from nextk.engine.filter.seconds import FilterSeconds
from nextk.engine.filter.store import FieldBudget
from nextk.engine.filter.timer import FilterTimer
from nextk.engine.interruption import interruptible
from nextk.engine.parts import in_parts
from tests.support.bare_engine import Rig
from tests.support.pauses import act_in_pauses

ENDLESS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT max(n) FROM numbers"


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An index of ten records whose fields are too large for memory, so that SQLite evaluates filters."""
    with Rig(dimension=2) as rig:
        rig.upsert(*(record(number) for number in range(10)))
        rig.engine._field_budget = FieldBudget(0)
        rig.query(vector=[1.0, 0.0], filter="n >= 0 AND word GLOB 'a*'")
        yield rig


def record(number: int) -> dict[str, Any]:
    """A record with a number and a word."""
    return {"id": str(number), "vector": [1.0, number], "metadata": {"n": number, "word": f"a{number}"}}


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that are compared with a pattern."""
    compared: list[str] = []
    made = glob.matcher

    def matcher(pattern: str) -> Callable[[str], bool]:
        def matches(word: str) -> bool:
            compared.append(word)
            return made(pattern)(word)

        return matches

    monkeypatch.setattr(glob, "matcher", matcher)
    return compared


@pytest.mark.parametrize(
    ("filter", "compared", "passing"),
    [
        ("n < 2 AND word GLOB '*1'", ["a0", "a1"], {"1"}),
        ("n >= 2 OR word GLOB '*1'", ["a0", "a1"], {"1", *map(str, range(2, 10))}),
        ("(n < 5 AND word GLOB '*1') OR (n = 7 AND word GLOB '*7')", ["a0", "a1", "a2", "a3", "a4", "a7"], {"1", "7"}),
    ],
)
def test_nothing_is_evaluated_that_cannot_matter(
    rig: Rig, words: list[str], filter: str, compared: list[str], passing: set[str]
) -> None:
    """Where one side of AND or OR decides, the other side is not evaluated, be it for a search, a page or a delete."""
    search: dict[str, Any] = {"vector": [1.0, 0.0], "topK": 10, "filter": filter}
    assert passing == {id_ for id_, _ in rig.query(**search)}
    assert compared == sorted(words)

    uuid, _ = rig.start(**{**search, "topK": 1})
    rig.upsert(*(record(number) for number in range(10)))  # so that a page evaluates the filter anew
    words.clear()
    assert len(passing) - 1 == len(rig.fetch_next(uuid, 9))
    assert set(compared) >= set(words)
    rig.engine.stop(uuid)

    words.clear()
    assert len(passing) == rig.delete(filter=filter)
    assert compared == sorted(words)


class Waiting:
    """A clock that only goes on while a search waits, and a lock for which everybody has to wait.

    Args:
        lock: The lock.
    """

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._time = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._time

    def wait(self) -> None:
        """Let a minute pass."""
        self._time += 60.0

    def __enter__(self) -> None:
        self.wait()
        self._lock.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


@pytest.mark.parametrize("by_sqlite", [True, False], ids=["by SQLite", "in memory"])
def test_waiting_is_not_the_time_of_a_filter(rig: Rig, monkeypatch: pytest.MonkeyPatch, *, by_sqlite: bool) -> None:
    """A search is not given up because it waits for writers, and its waiting is not counted as seconds of filters."""
    rig.engine._field_budget = FieldBudget(0 if by_sqlite else 2**20)
    rig.upsert(*(record(number) for number in range(10, 20)), namespace="other")
    waiting = Waiting(rig.engine._lock)
    seconds = FilterSeconds(waiting)
    monkeypatch.setattr(passing, "_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(searching, "_FILTER_PART", 3)
    monkeypatch.setattr(searching, "FilterTimer", lambda limit: FilterTimer(limit, clock=waiting))
    monkeypatch.setattr(rig.engine, "_lock", waiting)
    monkeypatch.setattr(rig.engine, "_filter_seconds", seconds)
    act_in_pauses(monkeypatch, waiting.wait)
    for _ in range(2):
        assert 5 == len(rig.query(vector=[1.0, 0.0], topK=10, filter="n < 15", namespace="other"))
    assert 5 == rig.delete(filter="n < 15", namespace="other")
    assert 0.0 == seconds.total
    assert waiting() > 600.0


def refill(rig: Rig) -> None:
    """Write records of the same ids and numbers, all of which pass, in the place of all that there are."""
    rig.engine.reset("")
    rig.upsert(*(record(number) for number in range(10)))


@pytest.mark.parametrize(
    ("write", "found"),
    [(lambda rig: rig.upsert(*(record(number) for number in range(10, 99))), 10), (refill, 0)],
    ids=["inserted", "refilled"],
)
def test_a_search_is_of_its_beginning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, write: Callable[[Rig], object], found: int
) -> None:
    """A search that is filtered by SQLite never finds what is inserted meanwhile, and ends after as many parts."""
    pauses: list[int] = []

    def act() -> None:
        pauses.append(len(pauses))
        write(rig)

    monkeypatch.setattr(passing, "_ROWS_AT_ONCE", 4)
    act_in_pauses(monkeypatch, act)
    assert found == len(rig.query(vector=[1.0, 0.0], topK=100, filter="n >= 0"))
    assert [0, 1] == pauses


@pytest.mark.parametrize(("cost", "pauses"), [(1, 6), (7, 33), (15, 99), (400, 99)])
def test_the_lock_is_held_for_a_while(monkeypatch: pytest.MonkeyPatch, cost: int, pauses: int) -> None:
    """Work of a hundred parts waits for others after some milliseconds, or after one part if that takes longer."""
    clock = [0]
    waits: list[float] = []
    checks: list[int] = []

    def part() -> tuple[str] | None:
        clock[0] += cost
        return ("done",) if clock[0] == 100 * cost else None

    fake = SimpleNamespace(perf_counter=lambda: clock[0], sleep=waits.append)
    monkeypatch.setattr(parts, "time", fake)
    monkeypatch.setattr(parts, "_HELD", 15)
    assert "done" == in_parts(threading.Lock(), part, lambda: checks.append(clock[0]))
    assert pauses == len(waits) == len(checks)


def test_work_that_grows_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although others add more work in every pause than is done between two of them at first, there is an end."""
    clock, left = [0], [100]
    waits: list[int] = []

    def part() -> tuple[str] | None:
        clock[0] += 1
        left[0] -= 1
        return None if left[0] else ("done",)

    def write(_seconds: float) -> None:
        waits.append(clock[0] - sum(waits))
        assert len(waits) < 1_000
        left[0] += 30

    monkeypatch.setattr(parts, "time", SimpleNamespace(perf_counter=lambda: clock[0], sleep=write))
    monkeypatch.setattr(parts, "_HELD", 15)
    assert "done" == in_parts(threading.Lock(), part, lambda: None, grows=True)
    assert 15 == waits[0]
    assert max(waits) < 150


class Stopped(BaseException):
    """The error of the handler of a signal."""


@pytest.mark.skipif(sys.platform == "win32", reason="a process on Windows cannot send itself SIGALRM")
@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped])
def test_a_signal_while_sqlite_works(error: type[BaseException]) -> None:
    """An error that the handler of a signal raises during a statement ends the call, and the next call works."""

    def stop(*_: object) -> None:
        raise error

    def alarmed(connection: sqlite3.Connection) -> None:
        with interruptible(connection, lambda: None):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            connection.execute(ENDLESS)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            with pytest.raises(error):
                alarmed(connection)
            assert [(1,)] == connection.execute("SELECT 1").fetchall()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interruption_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a statement was interrupted and nothing says by whom, it was Ctrl-C, but only in the main thread."""

    def interrupted() -> None:
        with closing(sqlite3.connect(":memory:")) as connection, interruptible(connection, lambda: None):
            connection.set_progress_handler(lambda: True, 1)
            connection.execute(ENDLESS)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with ThreadPoolExecutor(1) as threads, pytest.raises(sqlite3.OperationalError, match="interrupted"):
        threads.submit(interrupted).result()


@pytest.mark.parametrize("how", ["search", "page", "delete"])
def test_a_signal_within_glob(rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Ctrl-C while a text is compared with a pattern ends the call, and is not taken for damage of the record."""
    search: dict[str, Any] = {"vector": [1.0, 0.0], "topK": 1, "filter": "word GLOB 'a*'"}
    uuid, _ = rig.start(**search)
    calls: dict[str, Callable[[], object]] = {
        "search": lambda: rig.query(**search),
        "page": lambda: rig.fetch_next(uuid, 9, 2),
        "delete": lambda: rig.delete(filter=search["filter"]),
    }
    rig.upsert(*(record(number) for number in range(10)))  # so that a page evaluates the filter anew
    with monkeypatch.context() as patch:
        made, errors = glob.matcher, iter([KeyboardInterrupt])

        def matcher(pattern: str) -> Callable[[str], bool]:
            for error in errors:
                raise error
            return made(pattern)

        patch.setattr(glob, "matcher", matcher)
        with pytest.raises(KeyboardInterrupt):
            calls[how]()
    assert 9 == len(rig.fetch_next(uuid, 9, 2))
    rig.engine.stop(uuid)
    assert 10 == rig.delete(filter=search["filter"])
