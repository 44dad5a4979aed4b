"""The vectors of a namespace in memory: growth, compaction, and what open queries hold of them."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextk.engine import blocks, columns, dense
from nextk.engine.blocks import Blocks
from nextk.engine.columns import Columns
from nextk.engine.directory import SlotDirectory
from nextk.engine.schema import Similarity
from nextk.engine.values import SparseArrays, SparseRows, VectorRows

DIMENSION = 5


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of seven vectors, so that a few rows fill several, and compact from eight deleted slots on."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * 4 * DIMENSION)
    monkeypatch.setattr(columns, "_COMPACT_FROM", 8)


def vectors_of(count: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return random vectors, float32 (count, DIMENSION)."""
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


def filled(count: int) -> Columns:
    """Return columns with the rows 1 to `count` and random vectors."""
    made = Columns()
    made.append(VectorRows(np.arange(1, count + 1), vectors_of(count), None))
    return made


class TestBlocks:
    """Vectors in blocks that never move."""

    @given(st.lists(st.integers(0, 20), max_size=8), st.integers(0, 40))
    def test_growth(self, sizes: list[int], reserved: int) -> None:
        """A matrix holds the vectors that were there when it was taken, however much is appended later."""
        store, every = Blocks(DIMENSION), vectors_of(sum(sizes))
        store.reserve(reserved)
        taken, end = [], 0
        for size in sizes:
            store.append(every[end : end + size])
            end += size
            taken.append((end, store.matrix()))
        for count, matrix in taken:
            held = [part for _, part in matrix.parts()]
            assert np.array_equal(every[:count], np.concatenate([every[:0], *held]))
            wide = [chunk.vectors.copy() for chunk in matrix.all_chunks()]
            assert np.array_equal(every[:count].astype(np.float64), np.concatenate([every[:0], *wide]))

    @given(st.lists(st.integers(0, 29), max_size=50))
    def test_chosen(self, slots: list[int]) -> None:
        """The vectors of chosen slots come with their positions, each exactly as it was stored."""
        store, every = Blocks(DIMENSION), vectors_of(30)
        store.append(every)
        found = np.full((len(slots), DIMENSION), np.nan)
        for positions, vectors in store.matrix().chunks_of(np.array(slots, np.int64)):
            found[positions] = vectors
        assert np.array_equal(every[slots], found) or not slots

    def test_full_blocks_stay(self) -> None:
        """Appending copies no block that is full."""
        store = Blocks(DIMENSION)
        store.append(vectors_of(14))
        before = store.matrix().blocks
        store.append(vectors_of(20))
        assert all(old is new for old, new in zip(before, store.matrix().blocks, strict=False))


@pytest.mark.parametrize("similarity", list(Similarity))
@pytest.mark.parametrize("dimension", [1, 3, 7, 8, 17, 33])
def test_equal_vectors_score_equally(similarity: Similarity, dimension: int) -> None:
    """Equal vectors get one score bit by bit, in whatever slot they stand, whether all are scored or only some."""
    vector = np.random.default_rng(dimension).standard_normal(dimension).astype(np.float32)
    held = Columns()
    held.append(VectorRows(np.arange(1, 51), np.tile(vector, (50, 1)), None))
    query = np.random.default_rng(99).standard_normal(dimension).astype(np.float32)
    exact = dense.ExactScores(query, similarity)
    scores = {*exact.of_all(held.snapshot).tolist(), *exact.of(held.snapshot, np.array([49, 3, 8])).tolist()}
    assert 1 == len(scores)


class TestDirectory:
    """The slots of rows."""

    @given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(1, 30), min_size=1)), max_size=12))
    def test_any_writes(self, writes: list[tuple[bool, set[int]]]) -> None:
        """Whatever is written, deleted and numbered anew, every row has the slot of its last version, or none."""
        directory, slots, count = SlotDirectory(), dict[int, int](), 0
        for removes, chosen in writes:
            rows = np.array(sorted(chosen, key=lambda row: row * 7 % 31))
            former = sorted(slots.pop(row) for row in chosen if row in slots)
            if removes:
                assert former == sorted(directory.remove(rows).tolist())
                continue
            assert former == sorted(directory.enter(rows, count).tolist())
            slots |= {row: count + position for position, row in enumerate(rows.tolist())}
            count += len(rows)
            if count % 3 == 0:
                live = np.array(sorted(slots.values()), np.int64)
                directory.renumber(live)
                slots = {row: int(np.searchsorted(live, slot)) for row, slot in slots.items()}
                count = len(live)
        assert sorted(slots.values()) == sorted(directory.remove(np.arange(40)).tolist())


class TestOpenQueries:
    """A ranking that is not read to its end holds no vectors, and later writes do not change its order."""

    def test_old_vectors_are_freed(self) -> None:
        """A compaction frees the old vectors although a query that began before it is still open."""
        held = filled(60)
        order = dense.ranking(held.snapshot, vectors_of(1, 9)[0], Similarity.COSINE)
        order.take(3)
        old = [weakref.ref(block) for block in held.snapshot.matrix.blocks]  # type: ignore[union-attr]
        held.append(VectorRows(np.arange(1, 61), vectors_of(60, 1), None))
        gc.collect()
        assert all(block() is None for block in old)
        assert 57 == len(order.take(100))

    @given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.sampled_from(list(Similarity)))
    def test_the_order_is_fixed(self, replaced: set[int], deleted: set[int], similarity: Similarity) -> None:
        """Whatever is rewritten, deleted and compacted, the rows of an open query come in the order of its start."""
        query, held = vectors_of(1, 9)[0], filled(60)
        expected = dense.ranking(held.snapshot, query, similarity).take(60)
        orders = [dense.ranking(held.snapshot, query, similarity) for _ in range(2)]
        pages = [[order.take(3)] for order in orders]
        if replaced:
            held.append(VectorRows(np.array(sorted(replaced)), vectors_of(len(replaced), 1), None))
        held.remove(deleted)
        for sizes, order, its_pages in zip(((5, 20, 100), (100,)), orders, pages, strict=True):
            its_pages += [order.take(size) for size in sizes]
        for its_pages in pages:
            assert expected.rows.tolist() == [row for page in its_pages for row in page.rows.tolist()]
            assert expected.scores.tolist() == [score for page in its_pages for score in page.scores.tolist()]

    def test_ranked_late(self) -> None:
        """A search that ranks a snapshot only after a compaction has its exact order, too."""
        query, held = vectors_of(1, 9)[0], filled(60)
        expected = dense.ranking(held.snapshot, query, Similarity.COSINE).take(60)
        snapshot = held.snapshot
        held.append(VectorRows(np.arange(1, 61), vectors_of(60, 1), None))
        assert snapshot.layout is not held.snapshot.layout
        found = dense.ranking(snapshot, query, Similarity.COSINE).take(60)
        assert expected.rows.tolist() == found.rows.tolist()
        assert expected.scores.tolist() == found.scores.tolist()

    def test_dropped_namespace(self) -> None:
        """A ranking whose namespace was deleted is still read to its end, and keeps no vectors."""
        held = filled(60)
        order = dense.ranking(held.snapshot, vectors_of(1, 9)[0], Similarity.COSINE)
        old = [weakref.ref(block) for block in held.snapshot.matrix.blocks]  # type: ignore[union-attr]
        del held
        gc.collect()
        assert all(block() is None for block in old)
        assert 60 == len(order.take(100))


class TestMemory:
    """Room that is taken."""

    def test_counts_of_absent_words(self) -> None:
        """A query that names dimensions which no record has leaves nothing in memory."""
        made = Columns()
        made.append(
            VectorRows(
                np.array([1]), None, SparseRows.of([SparseArrays(np.array([5], np.int32), np.ones(1, np.float32))])
            )
        )
        assert [0, 1, 0] == [made.snapshot.frequency(dimension) for dimension in (4, 5, 6)]
        assert {5: 1} == made.snapshot.frequencies

    def test_lengths_that_are_gone(self) -> None:
        """A vector that was deleted and compacted away has no part in the bound on errors any more."""
        made = Columns()
        made.append(VectorRows(np.arange(1, 41), np.full((40, 1), 2, np.float32), None))
        made.append(VectorRows(np.arange(41, 51), np.array([[1e-38], [1e38]] * 5, np.float32), None))
        made.remove(range(41, 51))
        assert (2.0, 2.0) == (made.snapshot.shortest, made.snapshot.longest)

    def test_one_record(self) -> None:
        """A namespace of one record of 384 numbers takes less than 4 KiB in its arrays."""
        made = Columns()
        made.append(VectorRows(np.array([1]), np.ones((1, 384), np.float32), None))
        assert made._blocks is not None
        arrays = [made._rows, made._live, made._squares, *made._blocks.matrix().blocks]
        arrays += [made._directory._rows, made._directory._slots]
        assert sum(array.nbytes for array in arrays) < 4_096

    def test_reserved_room_is_kept(self) -> None:
        """Memory that was reserved before anything is stored is used, and not taken again."""
        made = Columns()
        made.reserve(50, DIMENSION)
        assert made._blocks is not None
        taken = made._blocks.matrix().blocks
        made.append(VectorRows(np.arange(1, 51), vectors_of(50), None))
        assert all(old is new for old, new in zip(taken, made._blocks.matrix().blocks, strict=True))
