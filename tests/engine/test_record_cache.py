"""Records stay in memory once they were written or delivered, and nobody can tell but by the time that it takes."""

import contextlib
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextk.bodies import Include, VectorQuery
from nextk.engine.record_cache import RecordCache
from nextk.engine.storage import Storage
from nextk.engine.values import Match
from nextk.errors import QueryNotFound
from tests.support.bare_engine import Rig

NOTHING, EVERYTHING = (
    Include.model_validate({"includeMetadata": wanted, "includeData": wanted}) for wanted in (False, True)
)
TEXTS = {"includeMetadata": True, "includeData": True}


def record(number: int, group: str = "red", data: str | None = None) -> dict[str, Any]:
    """A record whose number says how little it matches `[1.0, 0.0]`."""
    return {"id": str(number), "vector": [1.0, number], "metadata": {"group": group}, "data": data or f"text {number}"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An engine with ten records, none of which is in memory, as if it had just been opened."""
    with Rig(dimension=2) as rig:
        rig.upsert(*map(record, range(10)))
        rig.engine._storage.record_cache.clear()
        yield rig


def matches(rig: Rig, **query: Any) -> list[Match]:
    """The matches of a query for all records, with their texts."""
    body = {"vector": [1.0, 0.0], "topK": 100, **TEXTS, **query}
    return rig.engine.query("", VectorQuery.model_validate(body))


def ids(page: list[tuple[str, float]]) -> list[str]:
    """The ids of a page."""
    return [id_ for id_, _ in page]


@contextlib.contextmanager
def statements(rig: Rig) -> Iterator[list[str]]:
    """Collect the statements by which records are read from the file."""
    executed: list[str] = []
    connection = rig.engine._storage._connection
    connection.set_trace_callback(lambda statement: executed.append(statement) if "FROM records" in statement else None)
    yield executed
    connection.set_trace_callback(None)


class TestCache:
    """The records that a cache holds."""

    def test_fields(self) -> None:
        """A match has the fields that were asked for, and rows that are not in memory are named."""
        cache = RecordCache()
        cache.add(1, "a", '{"n":1}', "text")
        cache.add(2, "b", None, None)
        assert ({1: Match("a"), 2: Match("b")}, [3]) == cache.matches([1, 2, 3], NOTHING, 0)
        found = {1: Match("a", metadata='{"n":1}', data="text"), 2: Match("b")}
        assert (found, []) == cache.matches([1, 2], EVERYTHING, 0)

    def test_own_matches(self) -> None:
        """Each answer has matches of its own, so that a score given to one is not seen by another."""
        cache = RecordCache()
        cache.add(1, "a", None, None)
        first, second = (cache.matches([1], NOTHING, 0)[0][1] for _ in range(2))
        assert first is not second

    def test_forgotten(self) -> None:
        """A forgotten record is gone, and the memory that it took is free again."""
        cache = RecordCache()
        cache.max_bytes = 1_000
        for _ in range(100):
            cache.add(1, "a", None, "x" * 500)
            assert 1 == len(cache)
            cache.forget([1, 2])
            assert ({}, [1]) == cache.matches([1], NOTHING, cache.changes)

    def test_unchanged_since(self) -> None:
        """A record that was read after a change may have changed by it; one that was read before has not."""
        cache = RecordCache()
        cache.add(1, "a", None, None)
        cache.add(2, "b", None, None)
        before = cache.changes
        cache.forget([])
        assert before == cache.changes
        cache.forget([2, 3])
        cache.add(2, "b", None, None)
        assert ({1: Match("a")}, [2]) == cache.matches([1, 2], NOTHING, before)
        assert ({1: Match("a"), 2: Match("b")}, []) == cache.matches([1, 2], NOTHING, cache.changes)

    def test_read_again(self) -> None:
        """A record that is read again replaces the one in memory, and takes its memory once."""
        cache = RecordCache()
        cache.max_bytes = 1_000
        cache.add(2, "b", None, None)
        for number in range(100):
            cache.add(1, str(number), None, "x" * 100)
        assert {1: Match("99"), 2: Match("b")} == cache.matches([1, 2], NOTHING, 0)[0]

    def test_oldest_first(self) -> None:
        """A full cache removes the records that were added first, and only as many as it has to, up to an eighth."""
        cache = RecordCache()
        cache.max_bytes = 64_000
        for row in range(1_000):
            cache.add(row, str(row), None, None)
        kept = list(cache.matches(range(1_000), NOTHING, 0)[0])
        assert kept == list(range(1_000 - len(kept), 1_000))
        assert 64_000 // 420 < len(kept) < 64_000 // 280

    @pytest.mark.parametrize("bound", [0, 400])
    def test_too_large(self, bound: int) -> None:
        """A record that the whole cache could not hold is not kept, and pushes nothing out."""
        cache = RecordCache()
        cache.max_bytes = bound
        cache.add(1, "a", None, None)
        cache.add(2, "b", None, "x" * 500)
        assert (1 if bound else 0) == len(cache)
        assert [2] == cache.matches([2], NOTHING, 0)[1]

    @pytest.mark.parametrize("letter", ["a", "ä", "ж", "語", "🔭"])
    @pytest.mark.parametrize("length", [1, 40, 4_000])
    def test_memory(self, letter: str, length: int) -> None:
        """However long its texts are and in whatever script, a full cache takes no more memory than it may."""
        bound = 500_000
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            cache = RecordCache()
            cache.max_bytes = bound
            for row in range(1_000, 1_000 + 3 * bound // (250 + length)):
                cache.add(row, f"id {row}", None, letter * length + str(row))
                orjson.dumps([match.data for match in cache.matches([row], EVERYTHING, 0)[0].values()])
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert taken <= bound

    def test_garbage_collector(self) -> None:
        """However many records there are, the garbage collector has nothing more to look at."""
        cache = RecordCache()
        gc.collect()
        before = len(gc.get_objects())
        for row in range(5_000):
            cache.add(row, str(row), "{}", "text")
        gc.collect()
        assert len(gc.get_objects()) < before + 500


class TestReads:
    """An engine that has delivered records before."""

    def test_read_once(self, rig: Rig) -> None:
        """A record is read from the file for its first delivery, and not for later ones."""
        with statements(rig) as executed:
            first = matches(rig)
            assert executed
            executed.clear()
            assert first == matches(rig)
            assert [Match(match.id, match.score) for match in first] == matches(
                rig, includeMetadata=False, includeData=False
            )
            assert [] == executed

    def test_written(self, rig: Rig) -> None:
        """A record that was just written is delivered as it was written, and is not read from the file for that."""
        matches(rig)
        with statements(rig) as executed:
            rig.upsert(record(3, "blue", "other"), record(10))
            executed.clear()
            found = {match.id: match for match in matches(rig)}
            assert [] == executed
        assert ('{"group":"blue"}', "other") == (found["3"].metadata, found["3"].data)
        assert ('{"group":"red"}', "text 10") == (found["10"].metadata, found["10"].data)

    def test_only_what_is_missing(self, rig: Rig) -> None:
        """Records that are in memory are not read again beside those that are not."""
        matches(rig, topK=9)
        with statements(rig) as executed:
            matches(rig, topK=10)
        assert ["IN (10)"] == [statement[-7:] for statement in executed]

    def test_vectors(self, rig: Rig) -> None:
        """Vectors are not kept in memory, and an answer with vectors has them nevertheless."""
        matches(rig)
        assert [[1.0, float(n)] for n in range(10)] == [
            match.vector.tolist() for match in matches(rig, includeVectors=True) if match.vector is not None
        ]

    def test_filter(self, rig: Rig) -> None:
        """A page evaluates the filter again only for the records that may have changed since the query began."""
        matches(rig, topK=7)
        uuid, _ = rig.start(vector=[1.0, 0.0], topK=1, filter="group = 'red'")
        with statements(rig) as executed:
            assert ["1", "2"] == ids(rig.fetch_next(uuid, 2))
            rig.upsert(record(4, "blue"), record(5), record(11))
            executed.clear()
            assert ["3", "5"] == ids(rig.fetch_next(uuid, 2))
            assert ["IN (5)", "IN (6)"] == [statement[-6:] for statement in executed if "json_" in statement]
            executed.clear()
            assert ["6"] == ids(rig.fetch_next(uuid, 1))
            assert [] == executed
            assert ["7", "8", "9"] == ids(rig.fetch_next(uuid, 5))
            assert ["IN (8, 9, 10)"] == [statement[-13:] for statement in executed if "json_" in statement]
        rig.engine.stop(uuid)

    def test_a_filter_by_itself(self, rig: Rig) -> None:
        """A filter is evaluated for all rows if nothing is known of when they passed it."""
        matches(rig)
        rows = range(1, 11)
        assert {} == rig.engine._storage.load(1, rows, NOTHING, "group = 'blue'")
        assert list(rows) == list(rig.engine._storage.load(1, rows, NOTHING, "group = 'red'"))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
def test_a_write_that_fails_late(rig: Rig, fault: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that a write has changed before it failed is read anew, and is as it was before."""
    before = matches(rig)

    def failing(self: Storage, *_: Any) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "_save_next_number", failing)
        with pytest.raises(fault):
            rig.upsert(record(3, "blue", "other"))
    assert before == matches(rig)


def test_threads(rig: Rig) -> None:
    """While a thread replaces records, every answer has whole records, and none is older than one seen before."""
    written = threading.Event()

    def write() -> None:
        for version in range(30):
            for number in range(3):
                rig.upsert(versioned(number, version))

    def read(_: int) -> None:
        seen = dict.fromkeys("012", 0)
        last = False
        while not last:
            last = written.is_set()
            for match in matches(rig, topK=3):
                version = int(match.data or 0)
                assert f'{{"v":{version}}}' == match.metadata
                assert seen[match.id] <= version
                seen[match.id] = version
        assert [29] * 3 == list(seen.values())

    rig.upsert(*(versioned(number, 0) for number in range(3)))
    with ThreadPoolExecutor(4) as pool:
        readers = pool.map(read, range(3))
        try:
            pool.submit(write).result()
        finally:
            written.set()
        assert [None] * 3 == list(readers)


def versioned(number: int, version: int) -> dict[str, Any]:
    """A record whose metadata and text tell its version."""
    return {"id": str(number), "vector": [1.0, number], "metadata": {"v": version}, "data": str(version)}


NUMBERS = st.integers(0, 9)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("query"), st.integers(1, 12)),
        st.tuples(st.just("next"), st.integers(1, 4)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("start"), st.sampled_from(["", "group = 'red'"])),
        st.tuples(st.just("upsert"), NUMBERS),
        st.tuples(st.just("revoke"), NUMBERS),
        st.tuples(st.just("update"), NUMBERS),
        st.tuples(st.just("delete"), NUMBERS),
        st.tuples(st.just("fail"), NUMBERS),
        st.tuples(st.just("reset"), st.just(0)),
        st.tuples(st.just("replace"), NUMBERS),
    ),
    max_size=30,
)


class Player:
    """Plays steps on an engine, and notes what it answers.

    Args:
        bound: The memory of its cache.
    """

    def __init__(self, bound: int) -> None:
        self.rig = Rig(dimension=2, record_cache_bytes=bound)
        self.uuid, self.page = "", (1, 1)
        self.steps = 0

    def play(self, step: str, argument: Any) -> object:
        """Play a step, and return the answer to it."""
        self.steps += 1
        play: Callable[[Any], object] = getattr(self, f"_{step}")
        with contextlib.suppress(QueryNotFound):
            return play(argument)
        return "not found"

    def _query(self, count: int) -> object:
        return matches(self.rig, topK=count)

    def _start(self, filter: str) -> object:
        self._stop()
        body = VectorQuery.model_validate({"vector": [1.0, 0.0], "topK": 1, "filter": filter, **TEXTS})
        self.uuid, page = self.rig.engine.start("", body, 100)
        self.page = (1, 1)
        return page

    def _next(self, count: int) -> object:
        self.page = (self.page[0] + 1, count)
        return self._again(0)

    def _again(self, _: object) -> object:
        number, count = self.page
        return self.rig.engine.fetch_next(self.uuid, count, number)

    def _upsert(self, number: int) -> None:
        self.rig.upsert(*(record(n, data=f"step {self.steps}") for n in (number, 9 - number)))

    def _revoke(self, number: int) -> None:
        self.rig.upsert(record(number, "blue"))

    def _update(self, number: int) -> object:
        return self.rig.update(id=str(number), metadata={"group": "red", "step": self.steps})

    def _delete(self, number: int) -> object:
        return self.rig.delete(ids=[str(number)])

    def _fail(self, number: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Storage, "_save_next_number", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                self.rig.upsert(record(number, "blue", "never stored"))

    def _reset(self, _: object) -> None:
        self.rig.engine.reset("")

    def _replace(self, number: int) -> object:
        self.rig.upsert(record(number, "red", "of another namespace"), namespace="other")
        self.rig.upsert(record(number, "red"), namespace="third")
        return self.rig.engine.rename_namespace("other", "third", replace=True)

    def _stop(self) -> None:
        if self.uuid:
            self.rig.engine.stop(self.uuid)
            self.uuid = ""

    def close(self) -> None:
        """End the query and the engine."""
        self._stop()
        self.rig.engine.close()


@settings(max_examples=60)
@given(steps=STEPS, bound=st.sampled_from([1_500, 100_000]))
def test_any_sequence(steps: list[tuple[str, Any]], bound: int) -> None:
    """In any sequence of writes, failures and reads, an engine answers as one does that reads every record anew."""
    with_cache, without = Player(bound), Player(0)
    try:
        for player in (with_cache, without):
            player.rig.upsert(*map(record, range(10)))
        for step, argument in [("query", 12), ("start", ""), *steps, ("next", 10), ("query", 12)]:
            assert without.play(step, argument) == with_cache.play(step, argument)
    finally:
        for player in (with_cache, without):
            player.close()
