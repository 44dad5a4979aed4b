"""One bit for every number of a vector, by which a search finds slots where faiss is not installed.

The bit tells whether a number of the vector, scaled to length 1, is above the mean of all vectors. The fewer bits of
two vectors differ, the smaller is the angle between them, roughly. It is told better if a bit counts more where the
query is far from the mean. A pool takes twice as many candidates as with the codes of faiss, and deep pages cost as
much as the exact scan. Only cosine similarity is ranked that way: where lengths count, signs tell too little.
"""

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nextk.engine.columns import Snapshot
from nextk.engine.pool.codes import Candidates, VisibleSlots

_WORD = 64  # bits
_FAR = 3  # a bit counts so much if the query is far from the mean; 3 * 64 fits in 8 bits
_HEIGHT = 2**14  # slots in a block: a word of each of them, and what it is compared to, stay in the cache


class SignCodes:
    """The signs of the vectors of one namespace, for cosine similarity; see `nextk.engine.pool.protocol.PoolCodes`.

    Searches take no lock: what they read was written before the number of slots that have codes, and is not changed.

    Args:
        dimension: The dimension of the vectors.

    Attributes:
        usable: True, even in a process that was forked, because numpy has no threads of its own here.
        finds_too_little: False. A mean that is that of other vectors does little harm.
    """

    pool_factor: ClassVar[int] = 2
    usable = True
    finds_too_little = False

    def __init__(self, dimension: int) -> None:
        self._mean = np.zeros(dimension, np.float32)
        self._words = -(-dimension // _WORD)
        self._blocks: list[NDArray[np.uint64]] = []  # each (words, slots): a search reads one word of all slots at once
        self._count = 0
        self._lock = threading.Lock()  # of those who append

    def note_search(self, *, widened: bool) -> None:
        """Do nothing, because no search tells anything about the mean.

        Args:
            widened: Whether the search needed a larger pool than its first one for its first rows.
        """

    def __len__(self) -> int:
        return self._count

    def train(self, snapshot: Snapshot) -> None:
        """Compute the mean of the vectors of a snapshot, each of them scaled to length 1.

        Args:
            snapshot: A snapshot for which `can_be_coded` is true.
        """
        assert snapshot.matrix is not None
        total = np.zeros(len(self._mean))
        for slots, vectors in snapshot.matrix.parts():
            total += _units(vectors, snapshot.squares[slots]).sum(axis=0)
        self._mean = (total / len(snapshot.matrix)).astype(np.float32)

    def extend(self, snapshot: Snapshot, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Append the signs of all slots of a snapshot that have none yet.

        Args:
            snapshot: A snapshot of the layout of the slots that have signs.
            goes_on: Returns whether to append more; it is asked before every few thousand slots. Default: always.
        """
        assert snapshot.matrix is not None
        for part, vectors in snapshot.matrix.parts():
            if part.stop > self._count and goes_on():
                with self._lock:
                    new = slice(max(part.start, self._count), part.stop)  # another thread may have come first
                    self._append(self._signs(_units(vectors[new.start - part.start :], snapshot.squares[new])))

    def nearest(self, query: NDArray[np.float32], count: int, visible: VisibleSlots) -> Candidates:
        """Return the slots whose signs are nearest to a query, and among equally near ones those that came first.

        Args:
            query: The dense vector of the query, float32 (dimension,).
            count: The number of slots; fewer are found if fewer have signs and are visible.
            visible: The slots that may be found.
        """
        coded = self._count
        differences = self._differences(query, min(coded, visible.total))
        most = _FAR * _WORD * self._words
        differences[~visible.mask()[: len(differences)]] = most + 1
        up_to = np.cumsum(np.bincount(differences, minlength=most + 2)[: most + 1])  # so many slots differ by at most i
        near = np.flatnonzero(differences <= min(int(np.searchsorted(up_to, count)), most))
        return Candidates(near[np.argsort(differences[near], kind="stable")[:count]], coded)

    def _differences(self, query: NDArray[np.float32], count: int) -> NDArray[np.uint16]:
        """Return how much the bits of each of the first `count` slots differ from those of a query, uint16 (count,)."""
        wide = query.astype(np.float64)[np.newaxis]
        unit = _units(wide, np.vecdot(wide, wide))
        apart = np.abs(unit - self._mean)
        [signs], [far] = self._signs(unit), self._packed(apart > np.sqrt(np.mean(apart**2)))
        result = np.zeros(count, np.uint16)
        bits, counts, far_counts = np.empty(_HEIGHT, np.uint64), *np.empty((2, _HEIGHT), np.uint8)
        for number, first in enumerate(range(0, count, _HEIGHT)):
            part = result[first : first + _HEIGHT]
            here = slice(0, len(part))
            for words, word, far_word in zip(self._blocks[number], signs, far, strict=True):
                np.bitwise_xor(words[here], word, out=bits[here])
                np.bitwise_count(bits[here], out=counts[here])
                np.bitwise_and(bits[here], far_word, out=bits[here])
                np.bitwise_count(bits[here], out=far_counts[here])
                np.multiply(far_counts[here], _FAR - 1, out=far_counts[here])
                np.add(counts[here], far_counts[here], out=counts[here])
                np.add(part, counts[here], out=part)
        return result

    def _signs(self, units: NDArray[np.float64]) -> NDArray[np.uint64]:
        """Return the words of the signs of vectors of length 1, float64 (n, dimension); uint64 (n, words)."""
        return self._packed(units > self._mean)

    def _packed(self, bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """Return bits, bool (n, dimension), in words, uint64 (n, words)."""
        result = np.zeros((len(bits), _WORD // 8 * self._words), np.uint8)
        packed = np.packbits(bits, axis=1, bitorder="little")
        result[:, : packed.shape[1]] = packed
        return result.view(np.uint64)

    def _append(self, signs: NDArray[np.uint64]) -> None:
        written = 0
        while written < len(signs):
            number, offset = divmod(self._count, _HEIGHT)
            if number == len(self._blocks):
                self._blocks.append(np.empty((self._words, _HEIGHT), np.uint64))
            part = signs[written : written + _HEIGHT - offset]
            self._blocks[number][:, offset : offset + len(part)] = part.T
            written += len(part)
            self._count += len(part)  # last, because searches read the signs of so many slots


def _units(vectors: NDArray[np.floating[Any]], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return vectors scaled to length 1, float64 (n, dimension); those of zeros are left as they are."""
    lengths = np.sqrt(squares)[:, np.newaxis]
    result = np.zeros(vectors.shape)
    np.divide(vectors, lengths, out=result, where=lengths > 0)
    return result
