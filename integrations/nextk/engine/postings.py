"""Postings: the sparse vectors of a namespace by dimension, that is, the slots that have a dimension, and their values.

Postings consist of immutable segments. Every batch of vectors makes a segment, and segments of similar size are merged.
Therefore the number of segments grows with the logarithm of the data, and so does the number of times that an entry is
moved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nextk.engine.values import SparseRows


class Entries(NamedTuple):
    """Entries of sparse vectors: the dimension, int32, the slot, int32, and the value, float32, of each; all (n,)."""

    dimensions: NDArray[np.int32]
    slots: NDArray[np.int32]
    values: NDArray[np.float32]


def _joined(parts: Sequence[Entries]) -> Entries:
    return Entries(
        np.concatenate([part.dimensions for part in parts]),
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries sorted by dimension, then by slot: a compressed sparse column matrix.

    Attributes:
        dimensions: The distinct dimensions, ascending; int32 (d,).
        starts: The position of the first entry of each dimension, then the number of entries; int64 (d + 1,).
        slots: The slot of every entry; int32 (entries,).
        values: The value of every entry; float32 (entries,).
    """

    dimensions: NDArray[np.int32]
    starts: NDArray[np.int64]
    slots: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def build(cls, entries: Entries) -> Self:
        """Build a segment from entries in the order of their slots, or from those of segments, one after the other.

        Entries of the same slot and dimension are added up, one by one, in the order in which they were given.
        """
        dimensions, slots, values = entries
        keys = dimensions.astype(np.int64) << 32
        keys |= np.arange(len(keys))  # so that they are distinct, and numpy's fastest sort keeps the given order
        keys.sort()
        order = keys & 0xFFFFFFFF
        dimensions, slots, values = dimensions[order], slots[order], values[order]
        fresh = np.ones(len(slots), np.bool_)
        fresh[1:] = (dimensions[1:] != dimensions[:-1]) | (slots[1:] != slots[:-1])
        if not fresh.all():
            totals = np.zeros(int(fresh.sum()), np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                np.add.at(totals, np.cumsum(fresh) - 1, values)  # one by one, where `reduceat` would add in pairs
            values = totals
            dimensions, slots = dimensions[fresh], slots[fresh]
        first = np.ones(len(dimensions), np.bool_)
        first[1:] = dimensions[1:] != dimensions[:-1]
        starts = np.flatnonzero(first)
        return cls(dimensions[starts], np.append(starts, len(slots)), slots, values)

    def entries(self) -> Entries:
        """Return all entries, sorted by dimension, then by slot."""
        return Entries(np.repeat(self.dimensions, np.diff(self.starts)), self.slots, self.values)

    def renumbered(self, new: NDArray[np.int32]) -> "Segment":
        """Return the entries whose slots are kept.

        Args:
            new: The new number of each slot, and -1 for one that is not kept; int32 (slots,), ascending but for those.
        """
        slots = new[self.slots]
        live = slots >= 0
        sizes = np.add.reduceat(live, self.starts[:-1], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
        return Segment(self.dimensions[sizes > 0], starts, slots[live], self.values[live])

    def of(self, dimension: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the slots that have a dimension, int32 (m,), ascending, and their values, float32 (m,)."""
        position = int(np.searchsorted(self.dimensions, dimension))
        if position == len(self.dimensions) or self.dimensions[position] != dimension:
            return self.slots[:0], self.values[:0]
        entries = slice(self.starts[position], self.starts[position + 1])
        return self.slots[entries], self.values[entries]


@dataclass(frozen=True, slots=True)
class Postings:
    """All segments of a namespace. They never change, so a search can keep them."""

    segments: tuple[Segment, ...]

    @classmethod
    def empty(cls) -> Self:
        """Return postings without any vectors."""
        return cls(())

    def with_vectors(self, first: int, vectors: SparseRows) -> "Postings":
        """Return postings that also contain the vectors of the slots `first`, `first + 1` and so on."""
        if not len(vectors.indices):
            return self
        slots = np.repeat(np.arange(first, first + len(vectors.sizes), dtype=np.int32), vectors.sizes)
        segment = Segment.build(Entries(vectors.indices, slots, vectors.values))
        return Postings(tuple(_merged([*self.segments, segment])))

    def renumbered(self, kept: NDArray[np.int64], count: int) -> "Postings":
        """Return the postings of the slots that are kept, renumbered from 0 in their order.

        Args:
            kept: The slots to keep, int64 (m,), ascending.
            count: The number of all slots so far.
        """
        new = np.full(count, -1, np.int32)
        new[kept] = np.arange(len(kept), dtype=np.int32)
        renumbered = (segment.renumbered(new) for segment in self.segments)
        return Postings(tuple(segment for segment in renumbered if len(segment.slots)))

    def of(self, dimension: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yield the slots that have a dimension, and their values, segment by segment."""
        for segment in self.segments:
            slots, values = segment.of(dimension)
            if len(slots):
                yield slots, values


def _merged(segments: list[Segment]) -> list[Segment]:
    """Merge the last two segments as long as the last one is larger than half of the one before it."""
    while len(segments) > 1 and len(segments[-2].slots) < 2 * len(segments[-1].slots):
        last, before = segments.pop(), segments.pop()
        segments.append(Segment.build(_joined([before.entries(), last.entries()])))
    return segments
