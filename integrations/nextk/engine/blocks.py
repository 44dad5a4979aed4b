"""The dense vectors of a namespace, in blocks of memory that never move.

A vector is appended once and never changed, and a block that is full is never copied. So a namespace grows without a
second copy of itself, and a search can read a `Matrix` without a lock while further vectors are appended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 2**24
"""The size of a full block, 16 MiB: so large that a hundred thousand vectors take a few blocks."""

_CHUNK_BYTES = 2**20  # float64 copies of so many bytes stay in the cache of a processor
_PART_ROWS = 4_096  # some float64 numbers for each of so many vectors stay there as well
_ALIGNMENT = 64  # bytes


class Chunk(NamedTuple):
    """Some vectors of a matrix that lie side by side: their slots, and the vectors, float64 (n, dimension)."""

    slots: slice
    vectors: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The vectors of the slots 0, 1, ... at one moment. The length is the number of slots.

    Attributes:
        blocks: The blocks, each float32 (height, dimension); all but the last one have the same height.
        height: The number of vectors in a full block.
        count: The number of slots.
    """

    blocks: tuple[NDArray[np.float32], ...]
    height: int
    count: int

    def __len__(self) -> int:
        return self.count

    def first(self, count: int) -> "Matrix":
        """Return the vectors of the first `count` slots."""
        return Matrix(self.blocks[: -(-count // self.height)], self.height, count)

    def parts(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield slots and their vectors, float32 (n, dimension), which must not be changed, a few thousand at once."""
        for number, block in enumerate(self.blocks):
            first = number * self.height
            end = min(first + self.height, self.count)
            for start in range(first, end, _PART_ROWS):
                stop = min(start + _PART_ROWS, end)
                yield slice(start, stop), block[start - first : stop - first]

    def all_chunks(self) -> Iterator[Chunk]:
        """Yield all vectors in float64, a few at a time; each chunk overwrites the one before it."""
        work = _work_space(self.count, self.blocks)
        for slots, vectors in self.parts():
            for start in range(0, len(vectors), len(work)):
                part = vectors[start : start + len(work)]
                wide = work[: len(part)]
                wide[...] = part
                yield Chunk(slice(slots.start + start, slots.start + start + len(part)), wide)

    def chunks_of(self, slots: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Yield the vectors of given slots in float64, a few at a time; each chunk overwrites the one before it.

        Args:
            slots: The slots, int64 (n,), in any order.

        Yields:
            The positions in `slots` of the vectors in a chunk, int64 (m,), and the vectors, float64 (m, dimension).
        """
        work = _work_space(len(slots), self.blocks)
        narrow = np.empty(work.shape, np.float32)
        order = np.argsort(slots)
        ascending = slots[order]
        for start in range(0, len(slots), len(work)):
            chosen = ascending[start : start + len(work)]
            wide = work[: len(chosen)]
            self._copy(chosen, narrow[: len(chosen)])
            wide[...] = narrow[: len(chosen)]
            yield order[start : start + len(chosen)], wide

    def _copy(self, slots: NDArray[np.int64], target: NDArray[np.float32]) -> None:
        """Copy the vectors of given slots, int64 (n,), ascending and at least one, to a target, (n, dimension)."""
        first, last = (slots[[0, -1]] // self.height).tolist()
        ends = np.searchsorted(slots, np.arange(first + 1, last + 2) * self.height).tolist()
        start = 0
        for number, end in enumerate(ends, first):
            within = slots[start:end] - number * self.height
            self.blocks[number].take(within, axis=0, out=target[start:end], mode="clip")  # "raise" would copy twice
            start = end


class Blocks:
    """A store of dense vectors that grows at its end. The length is the number of vectors.

    Args:
        dimension: The dimension of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._height = max(1, BLOCK_BYTES // (4 * dimension))
        self._blocks: list[NDArray[np.float32]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def matrix(self) -> Matrix:
        """Return the vectors as they are now."""
        return Matrix(tuple(self._blocks), self._height, self._count)

    def reserve(self, count: int) -> None:
        """Take the memory for so many further vectors. Only a last block that is not full is copied for that."""
        total = self._count + count
        for number in range(self._count // self._height, -(-total // self._height)):
            needed = min(self._height, total - number * self._height)
            held = self._blocks[number : number + 1]
            if not held:
                self._blocks.append(np.empty((needed, self._dimension), np.float32))
            elif len(held[0]) < needed:
                capacity = min(self._height, max(needed, len(held[0]) * 3 // 2))
                larger = np.empty((capacity, self._dimension), np.float32)
                larger[: len(held[0])] = held[0]
                self._blocks[number] = larger

    def keeping(self, slots: NDArray[np.int64]) -> "Blocks":
        """Return a copy with the vectors of the given slots only, int64 (n,), ascending."""
        kept = Blocks(self._dimension)
        kept.reserve(len(slots))
        for number, block in enumerate(self._blocks):
            first = number * self._height
            start, end = np.searchsorted(slots, [first, first + self._height]).tolist()
            kept.append(block[slots[start:end] - first])
        return kept

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Append vectors, float32 (n, dimension)."""
        self.reserve(len(vectors))
        written = 0
        while written < len(vectors):
            number, offset = divmod(self._count, self._height)
            block = self._blocks[number]
            part = vectors[written : written + len(block) - offset]
            block[offset : offset + len(part)] = part
            written += len(part)
            self._count += len(part)


def squares_of(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squares of the Euclidean lengths, float64 (n,), of vectors, float32 (n, dimension)."""
    result = np.empty(len(vectors), np.float64)
    for slots, wide in Matrix((vectors,), len(vectors), len(vectors)).all_chunks():
        result[slots] = np.vecdot(wide, wide)
    return result


def _work_space(count: int, blocks: tuple[NDArray[np.float32], ...]) -> NDArray[np.float64]:
    """Return room for float64 copies of some vectors, at most `count` of them: (n, dimension), n at least 1.

    Every row of it begins at a multiple of 64 bytes. So whatever a processor does for the alignment of its operands, it
    does for each vector alike, and equal vectors get equal scores.
    """
    dimension = blocks[0].shape[1] if blocks else 1
    width = -(-dimension * 8 // _ALIGNMENT) * _ALIGNMENT // 8
    height = max(1, min(count, _CHUNK_BYTES // (8 * width)))
    memory = np.empty(height * width + _ALIGNMENT // 8, np.float64)
    first = -memory.__array_interface__["data"][0] % _ALIGNMENT // 8
    return memory[first : first + height * width].reshape(height, width)[:, :dimension]
