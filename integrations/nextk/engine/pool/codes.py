"""Compressed vectors: four bits for every two numbers, by which a search finds the slots that are worth scoring.

The codes are those of faiss: `IVF1,PQ{dimension / 2}x4fs`, an inverted file of one list, because that form takes a
bitmap of the slots to search. They are only ever appended: rows that faiss adds after it has removed some are stored
wrong. The label of a code is its slot, and deleted slots are left out by the bitmap.

Codes are made in a thread, in which nothing should be imported for the first time: a process that is forked meanwhile
could not import it any more. That is why numpy's random numbers are imported here, and not where they are needed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.pool.shared_lock import SharedLock
from nextk.engine.schema import Similarity
from nextk.extras import require

FEWEST_ROWS = 16
"""A codebook has so many entries for every two numbers, so it cannot be trained on fewer vectors."""

_SAMPLE = 4_096  # vectors; faiss itself trains on no more than 256 for each of the 16 entries
_SEED = 1_234
_OBSERVED = 50  # searches, before they tell anything about the codebook
_WIDENED_PART = 5  # a codebook finds too little if more than one search in so many needed a larger pool early on
_LONGEST = 1e15  # squares of longer vectors, and sums of these, may overflow in float32
_SHORTEST = 1e-15  # squares of shorter vectors lose digits, or vanish


class Candidates(NamedTuple):
    """Slots that are worth scoring.

    Attributes:
        slots: The slots, int64 (n,), best first by the estimates that codes allow.
        coded: The number of slots that have codes. Those from this number on were not searched.
    """

    slots: NDArray[np.int64]
    coded: int


class VisibleSlots:
    """The slots of a snapshot that a search may find, in one bit each, and in none if all slots are visible.

    Args:
        snapshot: The snapshot.

    Attributes:
        total: The number of slots, visible or not.
        count: The number of visible slots.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.total = len(snapshot.rows)
        self.count = snapshot.count
        self._bits = None if snapshot.visible is None else np.packbits(snapshot.visible, bitorder="little")

    def mask(self, first: int = 0) -> NDArray[np.bool_]:
        """Return whether each slot is visible, bool (total - first,), from the slot `first` on."""
        if self._bits is None:
            return np.ones(max(0, self.total - first), np.bool_)
        return np.unpackbits(self._bits, count=self.total, bitorder="little")[first:].view(np.bool_)

    def selector(self, faiss: ModuleType) -> Any:
        """Return what lets faiss find these slots alone."""
        if self._bits is None:
            return faiss.IDSelectorRange(0, self.total)
        return faiss.IDSelectorBitmap(self._bits)


def can_be_coded(snapshot: Snapshot, similarity: Similarity) -> bool:
    """Return whether codes can tell the vectors of a snapshot apart: they are enough, and not too long or too short.

    Args:
        snapshot: The slots of a namespace.
        similarity: The function that scores two vectors.
    """
    if snapshot.matrix is None or snapshot.count < FEWEST_ROWS:
        return False
    return similarity is Similarity.COSINE or _SHORTEST < snapshot.longest < _LONGEST


class VectorCodes:
    """The codes of the slots of one namespace. The length is the number of slots that have codes.

    Searches may run at the same time, in any number of threads; an addition waits for them, and they for it.

    Args:
        dimension: The dimension of the vectors.
        similarity: The function that scores two vectors.

    Raises:
        MissingExtraError: faiss is not installed.
    """

    pool_factor: ClassVar[int] = 1
    """The size of the first pool, as a multiple of what good codes need."""

    def __init__(self, dimension: int, similarity: Similarity) -> None:
        self._faiss = require("faiss", "scale")
        self._similarity = similarity
        self._width = dimension + dimension % 2  # a vector of odd length gets a zero
        euclidean = similarity is Similarity.EUCLIDEAN
        metric = self._faiss.METRIC_L2 if euclidean else self._faiss.METRIC_INNER_PRODUCT
        self._index = self._faiss.index_factory(self._width, f"IVF1,PQ{self._width // 2}x4fs", metric)
        for clustering in (self._index.cp, self._index.pq.cp):  # faiss complains on stderr about small samples
            clustering.min_points_per_centroid = 1
        self._lock = SharedLock()
        self._process = os.getpid()
        self._count = 0
        self._searches, self._widened = 0, 0

    @property
    def usable(self) -> bool:
        """Whether this process has made the codes. One that was forked meanwhile may have them half changed."""
        return self._process == os.getpid()

    @property
    def finds_too_little(self) -> bool:
        """Whether good rows so often stood far back in the pool that the codebook seems to be that of other vectors."""
        return self._searches >= _OBSERVED and self._widened * _WIDENED_PART > self._searches

    def note_search(self, *, widened: bool) -> None:
        """Take note of a search, which counts once.

        Args:
            widened: Whether it needed a larger pool than its first one for its first rows.
        """
        self._searches += 1
        self._widened += widened

    @property
    def kind(self) -> str:
        """The kind of the codes, and the similarity for which they are made."""
        return f"PQ{self._width // 2}x4 {self._similarity.value}"

    @property
    def code_size(self) -> int:
        """The bytes of one code."""
        return int(self._index.code_size)

    def __len__(self) -> int:
        return self._count

    def train(self, snapshot: Snapshot) -> None:
        """Choose the codebook for the vectors of a snapshot, by a random sample of those that are visible.

        Args:
            snapshot: A snapshot for which `can_be_coded` is true.
        """
        slots = snapshot.slots()
        if len(slots) > _SAMPLE:
            slots = np.sort(default_rng(_SEED).choice(slots, _SAMPLE, replace=False))
        sample = self._vectors_of(snapshot, slots)
        with self._lock.alone(), _one_thread(self._faiss):
            self._index.train(sample)

    def extend(self, snapshot: Snapshot, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Append the codes of all slots of a snapshot that have none yet.

        Args:
            snapshot: A snapshot of the layout of the slots that have codes.
            goes_on: Returns whether to append more; it is asked before every few thousand slots. Default: always.
        """
        assert snapshot.matrix is not None
        for part, vectors in snapshot.matrix.parts():
            if part.stop > self._count and goes_on():
                with self._lock.alone(), _one_thread(self._faiss):
                    new = slice(max(part.start, self._count), part.stop)  # another thread may have come first
                    added = self._prepared(vectors[new.start - part.start :], snapshot.squares[new])
                    self._count = new.stop  # first, because a slot without a code comes late, and one with two, twice
                    self._index.add_with_ids(added, np.arange(new.start, new.stop))

    def nearest(self, query: NDArray[np.float32], count: int, visible: VisibleSlots) -> Candidates:
        """Return the slots whose codes are nearest to a query.

        Args:
            query: The dense vector of the query, float32 (dimension,).
            count: The number of slots; fewer are found if fewer have codes and are visible.
            visible: The slots that may be found.
        """
        target = query if self._similarity is Similarity.EUCLIDEAN else _unit(query)
        wanted = min(count, visible.count)
        with self._lock.shared(), _one_thread(self._faiss):
            chosen = self._faiss.SearchParametersIVF(sel=visible.selector(self._faiss), nprobe=1)
            _, [labels] = self._index.search(self._padded(target[np.newaxis]), wanted, params=chosen)
            coded = self._count
        return Candidates(labels[labels >= 0], coded)

    def centroids(self) -> NDArray[np.float32]:
        """Return the entries of the codebook, float32 (n,)."""
        entries: NDArray[np.float32] = self._faiss.vector_to_array(self._index.pq.centroids)
        return entries

    def flat(self, first: int, end: int) -> NDArray[np.uint8]:
        """Return the codes of the slots from `first`, a multiple of 32, up to `end`, uint8 (slots, bytes)."""
        packer, lists, faiss = self._index.get_CodePacker(), self._index.invlists, self._faiss
        numbers = range(first // packer.nvec, -(-end // packer.nvec))
        flat = np.zeros((len(numbers) * packer.nvec, packer.code_size), np.uint8)
        with self._lock.shared():
            size = numbers.stop * packer.block_size
            blocks = faiss.rev_swig_ptr(lists.get_codes(0), size).reshape(-1, packer.block_size)
            for place, number in zip(range(0, len(flat), packer.nvec), numbers, strict=True):
                packer.unpack_all(faiss.swig_ptr(blocks[number]), faiss.swig_ptr(flat[place : place + packer.nvec]))
        return flat[: end - first]

    def fits(self, centroids: NDArray[np.float32], codes: NDArray[np.uint8]) -> bool:
        """Return whether a codebook, float32 (n,), and codes, uint8 (slots, bytes), may be restored here."""
        if centroids.shape != (self._index.pq.centroids.size(),):
            return False
        if len(codes) and codes.shape[1:] != (self.code_size,):
            return False
        return bool((np.abs(centroids) <= _LONGEST).all())  # false for what is no number

    def restore(
        self, centroids: NDArray[np.float32], snapshot: Snapshot, codes: NDArray[np.uint8], places: NDArray[np.int64]
    ) -> None:
        """Take a codebook and the codes of the first slots, instead of training and of coding them.

        Args:
            centroids: The codebook; this and the codes are such as `fits` accepts.
            snapshot: A snapshot with these slots.
            codes: Codes, uint8 (n, bytes).
            places: The place of the code of each of the first slots, int64 (m,). Where it is -1, the slot is coded.
        """
        faiss, index, packer = self._faiss, self._index, self._index.get_CodePacker()
        count = len(places)
        flat = np.zeros((-(-count // packer.nvec) * packer.nvec, self.code_size), np.uint8)
        missing = np.flatnonzero(places < 0)
        with self._lock.alone(), _one_thread(faiss):
            index.quantizer.add(np.zeros((1, self._width), np.float32))
            faiss.copy_array_to_vector(centroids, index.pq.centroids)
            index.is_trained = True
            if not count:  # there may be no codes at all
                return
            flat[:count] = codes[places]
            for some in np.array_split(missing, len(missing) // _SAMPLE + 1) if len(missing) else ():
                flat[some] = index.pq.compute_codes(self._vectors_of(snapshot, some))
            blocks = np.zeros((len(flat) // packer.nvec, packer.block_size), np.uint8)
            for number, block in enumerate(blocks):
                start = number * packer.nvec
                packer.pack_all(faiss.swig_ptr(flat[start : start + packer.nvec]), faiss.swig_ptr(block))
            labels = np.arange(count)
            index.invlists.add_entries(0, count, faiss.swig_ptr(labels), faiss.swig_ptr(blocks))
            index.ntotal = self._count = count

    def _vectors_of(self, snapshot: Snapshot, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of slots, int64 (n,), ascending, as they are coded."""
        assert snapshot.matrix is not None
        height, parts = snapshot.matrix.height, list[NDArray[np.float32]]()
        for number, block in enumerate(snapshot.matrix.blocks):
            first, end = np.searchsorted(slots, [number * height, (number + 1) * height]).tolist()
            parts.append(block[slots[first:end] - number * height])
        return self._prepared(np.concatenate(parts), snapshot.squares[slots])

    def _prepared(self, vectors: NDArray[np.float32], squares: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return vectors as they are coded: of length 1 if only their directions count.

        Larger numbers than any that a useful codebook has are cut, because an overflow in faiss ends the process.
        """
        if self._similarity is not Similarity.COSINE:
            return self._padded(np.clip(vectors, -_LONGEST, _LONGEST))
        lengths = np.sqrt(squares)[:, np.newaxis]
        return self._padded(np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0))

    def _padded(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        result = np.zeros((len(vectors), self._width), np.float32)
        result[:, : vectors.shape[1]] = vectors
        return result


def _unit(query: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = query.astype(np.float64)
    wide /= np.sqrt(np.vecdot(wide, wide))
    return wide


@contextmanager
def _one_thread(faiss: ModuleType) -> Iterator[None]:
    """Let faiss use one thread in whatever this thread of ours calls meanwhile.

    Its number of threads belongs to the thread that calls it. A process that was forked hangs for ever as soon as it
    uses two of them, if the process from which it was forked had done so.
    """
    former = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(former)
