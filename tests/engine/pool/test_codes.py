"""Codes: which slots they find, and that several threads may use them."""

import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from nextk.engine.pool.codes import VectorCodes, VisibleSlots, can_be_coded
from nextk.engine.pool.shared_lock import SharedLock
from nextk.engine.schema import Similarity
from nextk.errors import MissingExtraError
from tests.support.pools import BY_CODES, any_codes_of, append, codes_of, columns_of
from tests.support.subprocesses import output

faiss = pytest.importorskip("faiss")

RANDOM_ROWS = np.random.default_rng(0).normal(size=(1_000, 16)).astype(np.float32)


class TestNearest:
    """The slots that codes find."""

    @pytest.mark.parametrize("dimension", [5, 8, 15, 16])
    @BY_CODES
    def test_its_own_vector(self, similarity: Similarity, signs: bool, dimension: int) -> None:
        """Every slot is found by its own vector, however many of them are coded at once, and no slot comes twice."""
        vectors = RANDOM_ROWS[:, :dimension] / np.linalg.norm(RANDOM_ROWS[:, :dimension], axis=1, keepdims=True)
        columns = columns_of(vectors[:500])
        codes = any_codes_of(columns.snapshot, similarity, signs)
        for first, end in [(500, 501), (501, 533), (533, 1_000)]:
            append(columns, vectors[first:end], first)
            codes.extend(columns.snapshot)
        assert 1_000 == len(codes)
        visible = VisibleSlots(columns.snapshot)
        for slot in [0, 31, 32, 499, 500, 501, 532, 533, 998, 999]:
            found, coded = codes.nearest(vectors[slot], 200, visible)
            assert slot in found
            assert 1_000 == coded
            assert 200 == len(set(found.tolist()))

    @BY_CODES
    @pytest.mark.parametrize("filtered", [False, True], ids=["all", "half"])
    def test_visible(self, similarity: Similarity, signs: bool, filtered: bool) -> None:
        """Neither slots that a filter hides are found, nor those that were appended after the snapshot."""
        columns = columns_of(RANDOM_ROWS[:501])
        snapshot = columns.snapshot
        append(columns, RANDOM_ROWS[501:], 501)
        codes = any_codes_of(columns.snapshot, similarity, signs)
        if filtered:
            snapshot = snapshot.restricted_to(np.arange(501) % 2 == 0)
        found = codes.nearest(RANDOM_ROWS[700], 1_000, VisibleSlots(snapshot)).slots
        assert snapshot.slots().tolist() == sorted(found.tolist())

    @BY_CODES
    @pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30, 3e38], ids=["zero", "tiny", "huge", "largest"])
    def test_any_numbers(self, similarity: Similarity, signs: bool, scale: float) -> None:
        """Vectors of any length can be coded, but those that codes cannot tell apart are not to be searched by them."""
        vectors = (RANDOM_ROWS / np.abs(RANDOM_ROWS).max() * scale).astype(np.float32)
        snapshot = columns_of(vectors).snapshot
        assert (similarity is Similarity.COSINE) == can_be_coded(snapshot, similarity)
        found, _ = any_codes_of(snapshot, similarity, signs).nearest(RANDOM_ROWS[0], 2_000, VisibleSlots(snapshot))
        assert set(found.tolist()) <= set(range(1_000))
        assert len(set(found.tolist())) == len(found)

    def test_few_rows(self) -> None:
        """Too few rows for a codebook are not to be searched by codes."""
        assert [False, True] == [
            can_be_coded(columns_of(RANDOM_ROWS[:count]).snapshot, Similarity.COSINE) for count in (15, 16)
        ]
        assert 16 == len(codes_of(columns_of(RANDOM_ROWS[:16]).snapshot, Similarity.COSINE))


class TestFaiss:
    """The package that makes the codes."""

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever has not installed it is told the command."""
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'nextk\[scale\]'"):
            VectorCodes(16, Similarity.COSINE)

    def test_import(self) -> None:
        """It is not imported before there are codes."""
        code = "import sys, nextk.engine.pool.ranking, nextk.engine.pool.codes; print('faiss' in sys.modules)"
        assert "False" == output(code)

    def test_its_threads(self) -> None:
        """Its number of threads, which others in this process may have set, is as it was."""
        former = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(3)
        try:
            snapshot = columns_of(RANDOM_ROWS).snapshot
            codes_of(snapshot, Similarity.COSINE).nearest(RANDOM_ROWS[0], 10, VisibleSlots(snapshot))
            assert 3 == faiss.omp_get_max_threads()
        finally:
            faiss.omp_set_num_threads(former)


BESIDE = """
import sys, threading, time
import numpy as np
from nextk.engine.pool.codes import VisibleSlots
from nextk.engine.schema import Similarity
from tests.support.pools import BY_CODES, any_codes_of, append, codes_of, columns_of

vectors = np.random.default_rng(0).normal(size=(40_000, 32)).astype(np.float32)
columns = columns_of(vectors[:2_000])
codes = any_codes_of(columns.snapshot, Similarity.COSINE, sys.argv[1] == "signs")
end = time.monotonic() + 1

def search():
    while time.monotonic() < end:
        snapshot = columns.snapshot
        found, coded = codes.nearest(vectors[0], 100, VisibleSlots(snapshot))
        assert found[0] == 0 and len(set(found.tolist())) == 100 and found.max() < min(coded, len(snapshot.rows))

threads = [threading.Thread(target=search) for _ in range(3)]
for thread in threads:
    thread.start()
count = 2_000
while time.monotonic() < end and count < len(vectors):
    append(columns, vectors[count : count + 17], count)
    codes.extend(columns.snapshot)
    count += 17
for thread in threads:
    thread.join()
print("done")
"""


class TestThreads:
    """Codes in several threads, in an interpreter of their own, because a fault would end it."""

    @pytest.mark.parametrize("kind", ["faiss", "signs"])
    def test_search_beside_add(self, kind: str) -> None:
        """Searches run while other rows are added."""
        assert "done" == output(BESIDE, kind)


def in_thread(run: Callable[[], None]) -> threading.Thread:
    """Start a function in a thread."""
    thread = threading.Thread(target=run)
    thread.start()
    return thread


class TestSharedLock:
    """The lock between searches and additions."""

    def test_together(self) -> None:
        """Readers hold it at the same time."""
        lock, meeting = SharedLock(), threading.Barrier(2, timeout=30)

        def read() -> None:
            with lock.shared():
                meeting.wait()

        thread = in_thread(read)
        read()
        thread.join()

    def test_alone(self) -> None:
        """A writer waits for the readers, and readers that come later wait for it."""
        lock, held, events = SharedLock(), threading.Event(), list[str]()

        def write() -> None:
            held.set()
            with lock.alone():
                events.append("writes")

        def read() -> None:
            with lock.shared():
                events.append("reads")

        with lock.shared():
            writer = in_thread(write)
            held.wait(30)
            while not lock._waiting:
                pass
            reader = in_thread(read)
            events.append("read before")
        writer.join()
        reader.join()
        assert ["read before", "writes", "reads"] == events

    @pytest.mark.parametrize("alone", [False, True], ids=["shared", "alone"])
    def test_errors(self, alone: bool) -> None:
        """An error releases it."""
        lock = SharedLock()
        with pytest.raises(ZeroDivisionError), lock.alone() if alone else lock.shared():
            raise ZeroDivisionError
        with lock.alone():
            pass
